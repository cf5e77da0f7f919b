"""The layout of every data set on disk, which is that of the published CIFAR-10-C, and its loading.

`datasets/<name>/clean/{train,test}_{images,labels}.npy`, `datasets/<name>/c/<corruption>.npy` (severities 1 to 5
stacked) and `datasets/<name>/p/<perturbation>.npy` (images x frames); images uint8 NHWC, labels uint8.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from common_corruptions.npy import load_array, load_labels

DATASETS = Path("datasets")

SPLITS = ("train", "test")

# Published set of lossy copies -> the set they were copied from: results on the two must not be compared.
LOSSY = {"cifar10-jpeg": "CIFAR-10"}

# Alias -> published set with the same images; the results under an alias have their own folder.
SAME_IMAGES = {"cifar10-authors": "cifar10", "cifar10-jpeg-200": "cifar10-jpeg"}  # the latter: 200 epochs

CIFAR10_TEST_IMAGES = 10_000


class Split(NamedTuple):
    """Images (N, H, W, C) uint8, memory-mapped, and labels (N,) uint8."""

    images: np.ndarray
    labels: np.ndarray


def published_name(name: str) -> str:
    """The name under which the images of a set, and results on them, are published; other names are unchanged."""
    return SAME_IMAGES.get(name, name)


def copied_from(name: str) -> str | None:
    """The set of which this one holds lossy copies; None if its images are not copies."""
    return LOSSY.get(published_name(name))


def full_name(name: str, images: int | None = None) -> str:
    """The name of a set to print beside results: it says if the set is a lossy copy or a part of CIFAR-10.

    Args:
        name: name in params.yaml.
        images: number of test images, None if it is not known.
    """
    if original := copied_from(name):
        return f"{name} (a lossy JPEG copy of {original})"
    if published_name(name) != "cifar10":
        return name
    part = images is not None and images < CIFAR10_TEST_IMAGES
    return "CIFAR-10" + (f", the first {images} test images" if part else "")


def load_split(name: str, split: str) -> Split:
    """Load the clean images and labels of one split.

    Raises:
        click.ClickException: the files are missing or damaged.
    """
    folder = DATASETS / name / "clean"
    try:
        images = load_array(folder / f"{split}_images.npy")
        labels = load_labels(folder / f"{split}_labels.npy")
    except FileNotFoundError as error:
        raise click.ClickException(f"no {error.filename}; `dvc repro fetch` makes it") from None
    except ValueError as error:
        raise click.ClickException(f"{error}; run `dvc repro fetch`") from None
    return Split(images, labels)


def count_classes(train: Split, test: Split) -> int:
    """Number of classes of a set; either split may lack some of them."""
    return int(max(train.labels.max(), test.labels.max())) + 1


@contextmanager
def naming_stage_corrupt() -> Iterator[None]:
    """Turn errors on opening C and P sets into one line that says which stage makes the sets.

    Prediction must run outside this context: its errors are not caused by the sets.
    """
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(f"{error}; `dvc repro corrupt` makes the sets") from None
