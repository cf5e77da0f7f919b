"""The one form every data set has on disk, that of the published CIFAR-10-C, and where in it things are.

`datasets/<name>/clean/{train,test}_{images,labels}.npy`, `datasets/<name>/c/<corruption>.npy` (severities 1 to 5
stacked) and `datasets/<name>/p/<perturbation>.npy` (images x frames); images uint8 NHWC, labels uint8.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

DATASETS = Path("datasets")

# Statistics of the CIFAR-10 training images that the paper's nets were trained with (mean and standard deviation of
# the values 0..255). Other sets are normalised by their own.
CIFAR_MEAN = (125.3, 123.0, 113.9)
CIFAR_STD = (63.0, 62.1, 66.7)

# Sets on which a mirrored image keeps its label; a mirrored 2 is no digit.
MIRRORED = {"cifar10", "cifar10-jpeg", "cifar100"}

SPLITS = ("train", "test")


class Split(NamedTuple):
    """Images (N, H, W, C) uint8, memory-mapped, and labels (N,) uint8."""

    images: np.ndarray
    labels: np.ndarray


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy that is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.save(file, array)
    os.replace(part, path)


def save_clean(folder: Path, splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Check and write the clean images and labels of a set.

    Raises:
        click.ClickException: images that are not uint8 NHWC of 1 or 3 channels, labels of another number, splits of
            different image shapes.
    """
    shapes = set()
    for split, (images, labels) in splits.items():
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
            raise click.ClickException(
                f"{split} images must be uint8 of shape (N, H, W, 1 or 3), got {images.dtype} {images.shape}"
            )
        if labels.shape != (len(images),) or labels.min() < 0 or labels.max() > 255:
            raise click.ClickException(
                f"{split} labels must be {len(images)} classes from 0 to 255, got shape {labels.shape}"
            )
        shapes.add(images.shape[1:])
    if len(shapes) > 1:
        raise click.ClickException(f"training and test images differ in shape: {sorted(shapes)}")
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in splits.items():
        save_array(folder / f"{split}_images.npy", images)
        save_array(folder / f"{split}_labels.npy", labels.astype(np.uint8))


def load_split(name: str, split: str) -> Split:
    """The clean images and labels of one split.

    Raises:
        click.ClickException: the files are not there.
    """
    folder = DATASETS / name / "clean"
    try:
        images = np.load(folder / f"{split}_images.npy", mmap_mode="r")
        labels = np.load(folder / f"{split}_labels.npy")
    except FileNotFoundError as error:
        raise click.ClickException(f"no {error.filename}; `dvc repro fetch` makes it") from None
    return Split(images, labels)


def normalisation(name: str, images: np.ndarray) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation per channel of values 0..1, as nets trained on the set expect them."""
    if name in ("cifar10", "cifar10-jpeg"):
        return [m / 255 for m in CIFAR_MEAN], [s / 255 for s in CIFAR_STD]
    # Counts of the 256 values, block by block: floats of a whole set would take eight times its size.
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), 4096):
        block = np.asarray(images[start : start + 4096])
        counts += [np.bincount(block[..., c].ravel(), minlength=256) for c in range(len(counts))]
    values, total = np.arange(256), counts[0].sum()
    mean = counts @ values / total
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / total)
    return (mean / 255).tolist(), np.maximum(std / 255, 1 / 255).tolist()
