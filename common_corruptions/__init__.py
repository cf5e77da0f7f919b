"""Common corruptions and perturbations of images, and what image classifiers make of them, on arrays.

>>> from common_corruptions import CORRUPTIONS, PERTURBATIONS, corrupt, perturb, benchmark
>>> foggy = corrupt(images, "fog", severity=3, seed=0)  # arrays, PIL images, tensors or a list in, the same out
>>> sequences = perturb(images, "motion_blur", seed=0)  # of (N, H, W, C) it makes (N, T, H, W, C)
>>> transform, data = Corrupt("fog", severity=3), CorruptedDataset(dataset, "fog", severity=3)
>>> table, summary = benchmark(net, "datasets/cifar10")

A function under `corruption` is one more corruption, by whose name all of this takes it.

What a name needs is loaded when it is first used; only `benchmark`, `Corrupt` and `CorruptedDataset` need torch, and
a package that is not installed is named with what to install.
"""

import importlib
from typing import TYPE_CHECKING, Any

from common_corruptions.needs import what_to_install
from common_corruptions.recipes.names import CORRUPTIONS, PERTURBATIONS

if TYPE_CHECKING:
    from common_corruptions.benchmarking.benchmark import benchmark
    from common_corruptions.images.corrupting import corrupt, perturb
    from common_corruptions.images.dataset import CorruptedDataset
    from common_corruptions.images.transform import Corrupt
    from common_corruptions.recipes.registry import corruption

__all__ = [
    "CORRUPTIONS",
    "PERTURBATIONS",
    "Corrupt",
    "CorruptedDataset",
    "benchmark",
    "corrupt",
    "corruption",
    "perturb",
]

_MODULES = {
    "Corrupt": "images.transform",
    "CorruptedDataset": "images.dataset",
    "benchmark": "benchmarking.benchmark",
    "corrupt": "images.corrupting",
    "corruption": "recipes.registry",
    "perturb": "images.corrupting",
}
_NEED_TORCH = ("Corrupt", "CorruptedDataset", "benchmark")


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        extra = "benchmark" if name in _NEED_TORCH else "common-corruptions"
        raise ModuleNotFoundError(what_to_install(name, extra, error), name=error.name) from error
    found = getattr(module, name)
    globals()[name] = found
    return found
