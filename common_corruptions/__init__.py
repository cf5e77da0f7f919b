"""Common corruptions and perturbations of images, and a benchmark of image classifiers on them.

>>> from common_corruptions import CORRUPTIONS, PERTURBATIONS, corrupt, perturb, benchmark
>>> foggy = corrupt(images, "fog", severity=3, seed=0)  # an array, tensor, PIL image or list; returns the same form
>>> sequences = perturb(images, "motion_blur", seed=0)  # (N, H, W, C) becomes (N, T, H, W, C)
>>> transform, data = Corrupt("fog", severity=3), CorruptedDataset(dataset, "fog", severity=3)
>>> table, summary = benchmark(net, "datasets/cifar10")

A function decorated with `corruption` is a further corruption, which all of these accept by name.

Modules are loaded when a name is first used. Only `benchmark`, `Corrupt` and `CorruptedDataset` need torch. If a
package is missing, the error says what to install.
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
