"""The one form every data set has on disk, that of the published CIFAR-10-C, and where in it things are.

`datasets/<name>/clean/{train,test}_{images,labels}.npy`, `datasets/<name>/c/<corruption>.npy` (severities 1 to 5
stacked) and `datasets/<name>/p/<perturbation>.npy` (images x frames); images uint8 NHWC, labels uint8.
"""

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from robustness.npy import load_array, load_labels

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


def save_clean(folder: Path, splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Check the clean images and labels of a set and write them, all of them or none, in the place of what was there.

    Raises:
        OSError: what the file system has against it.
        click.ClickException: images that are not uint8 NHWC of 1 or 3 channels, labels of another number, splits of
            different image shapes.
    """
    shapes = set()
    for split, (images, labels) in splits.items():
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
            raise click.ClickException(
                f"{split} images must be uint8 of shape (N, H, W, 1 or 3), got {images.dtype} {images.shape}"
            )
        if (
            labels.shape != (len(images),)
            or labels.dtype.kind not in "iu"
            or not 0 <= labels.min() <= labels.max() <= 255
        ):
            raise click.ClickException(
                f"{split} labels must be {len(images)} classes from 0 to 255, got {labels.dtype} {labels.shape}"
            )
        shapes.add(images.shape[1:])
    if len(shapes) > 1:
        raise click.ClickException(f"training and test images differ in shape: {sorted(shapes)}")
    fresh = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed
    try:
        fresh.mkdir(parents=True)
        for split, (images, labels) in splits.items():
            save_array(fresh / f"{split}_images.npy", images)
            save_array(fresh / f"{split}_labels.npy", labels.astype(np.uint8))
        put_in_place(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def save_array(path: Path, array: np.ndarray) -> None:
    """What `np.save` does; but its error for a full disk does not say that the disk is full."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


def put_in_place(source: Path, target: Path) -> None:
    """Give a complete folder its final name; what was there is removed. On another disk that is a copy.

    Raises:
        OSError: the other disk does not take it.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        near = target.with_name(f"{target.name}.partial")
        shutil.rmtree(near, ignore_errors=True)
        try:
            shutil.copytree(source, near)
            near.rename(target)
        finally:
            shutil.rmtree(near, ignore_errors=True)


def load_split(name: str, split: str) -> Split:
    """The clean images and labels of one split.

    Raises:
        click.ClickException: the files are not there, or damaged.
    """
    folder = DATASETS / name / "clean"
    try:
        images = load_array(folder / f"{split}_images.npy")
        labels = load_labels(folder / f"{split}_labels.npy")
    except FileNotFoundError as error:
        raise click.ClickException(f"no {error.filename}; `dvc repro fetch` makes it") from None
    except ValueError as error:
        raise click.ClickException(f"{error} with `dvc repro fetch`") from None
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
