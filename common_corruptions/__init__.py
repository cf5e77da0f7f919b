"""Common corruptions and perturbations of images, and what image classifiers make of them, on arrays.

>>> from common_corruptions import CORRUPTIONS, PERTURBATIONS, corrupt, perturb, benchmark
>>> foggy = corrupt(images, "fog", severity=3, seed=0)  # uint8 (N, H, W, C) in, the same out
>>> sequences = perturb(images, "motion_blur", seed=0)  # uint8 (N, T, H, W, C)
>>> table, summary = benchmark(net, "datasets/cifar10")

A function under `corruption` is one more corruption, by whose name all of this takes it.

What a name needs is loaded when it is first used; only `benchmark` needs torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from common_corruptions.recipes.names import CORRUPTIONS, PERTURBATIONS

if TYPE_CHECKING:
    from common_corruptions.benchmarking import benchmark
    from common_corruptions.recipes.corruptions import corrupt
    from common_corruptions.recipes.perturbations import perturb
    from common_corruptions.recipes.registry import corruption

__all__ = ["CORRUPTIONS", "PERTURBATIONS", "benchmark", "corrupt", "corruption", "perturb"]

_MODULES = {
    "benchmark": "benchmarking",
    "corrupt": "recipes.corruptions",
    "corruption": "recipes.registry",
    "perturb": "recipes.perturbations",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
