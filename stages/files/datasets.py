"""The one form every data set has on disk, that of the published CIFAR-10-C, and where in it things are.

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

# Published sets of lossy copies, by the set they were copied from: figures of the two must not be compared.
LOSSY = {"cifar10-jpeg": "CIFAR-10"}

# Other names of a published set, under which its results have a folder of their own.
SAME_IMAGES = {"cifar10-authors": "cifar10", "cifar10-jpeg-200": "cifar10-jpeg"}  # the latter by 200 epochs

CIFAR10_TEST_IMAGES = 10_000


class Split(NamedTuple):
    """Images (N, H, W, C) uint8, memory-mapped, and labels (N,) uint8."""

    images: np.ndarray
    labels: np.ndarray


def published_name(name: str) -> str:
    """The name under which the images of a set are published, and figures for them; the same for any other set."""
    return SAME_IMAGES.get(name, name)


def copied_from(name: str) -> str | None:
    """The set that the images of this one are lossy copies of; None where they are no copies."""
    return LOSSY.get(published_name(name))


def full_name(name: str, images: int | None = None) -> str:
    """The name of a set as it stands beside numbers: a lossy copy is called one, and a part of CIFAR-10 too.

    Args:
        name: as params.yaml has it.
        images: number of test images, None if it is not known.
    """
    if original := copied_from(name):
        return f"{name} (a lossy JPEG copy of {original})"
    if published_name(name) != "cifar10":
        return name
    part = images is not None and images < CIFAR10_TEST_IMAGES
    return "CIFAR-10" + (f", the first {images} test images" if part else "")


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


def count_classes(train: Split, test: Split) -> int:
    """How many classes a set has, in which either part may lack some."""
    return int(max(train.labels.max(), test.labels.max())) + 1


@contextmanager
def naming_stage_corrupt() -> Iterator[None]:
    """Turn what opening C and P sets raises into one line that says which stage makes them.

    Nets answer outside of it: what they are refused for is no fault of the sets.
    """
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(f"{error}; `dvc repro corrupt` makes the sets") from None
