"""Training settings that depend on the data set: normalisation, and whether images may be mirrored."""

from collections.abc import Sequence

import numpy as np

# Statistics of the CIFAR-10 training images that the paper's nets were trained with (mean and standard deviation of
# values in 0..255). Other sets are normalised with their own statistics.
CIFAR_MEAN = (125.3, 123.0, 113.9)
CIFAR_STD = (63.0, 62.1, 66.7)

# Sets in which a mirrored image keeps its label; a mirrored 2 is not a digit.
MIRRORED = {"cifar10", "cifar10-jpeg", "cifar100"}


def normalisation(name: str, images: np.ndarray) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation per channel of values in 0..1, as nets trained on the set expect them."""
    if name in ("cifar10", "cifar10-jpeg"):
        return [m / 255 for m in CIFAR_MEAN], [s / 255 for s in CIFAR_STD]
    # Histograms of the 256 values, block by block: a whole set as floats would take eight times its size.
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), 4096):
        block = np.asarray(images[start : start + 4096])
        counts += [np.bincount(block[..., c].ravel(), minlength=256) for c in range(len(counts))]
    values, total = np.arange(256), counts[0].sum()
    mean = counts @ values / total
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / total)
    return (mean / 255).tolist(), np.maximum(std / 255, 1 / 255).tolist()
