"""Corruption and perturbation robustness of image classifiers, on arrays.

>>> from robustness import CORRUPTIONS, PERTURBATIONS, corrupt, perturb, benchmark
>>> foggy = corrupt(images, "fog", severity=3, seed=0)  # uint8 (N, H, W, C) in, the same out
>>> sequences = perturb(images, "motion_blur", seed=0)  # uint8 (N, T, H, W, C)
>>> table, summary = benchmark(net, "datasets/cifar10")
"""

from robustness.benchmark import benchmark
from robustness.corruptions import corrupt
from robustness.names import CORRUPTIONS, PERTURBATIONS
from robustness.perturbations import perturb

__all__ = ["CORRUPTIONS", "PERTURBATIONS", "benchmark", "corrupt", "perturb"]
