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

from archives.catalogue import Archive, archives_of, read_archives
from archives.formats import ArchiveError
from common_corruptions.npy import load_array, load_labels
from stages.files.params import Data

DATASETS = Path("datasets")

SPLITS = ("train", "test")

# Sets of lossy copies, by the set they were copied from: figures of the two must not be compared.
LOSSY = {"cifar10-jpeg": "CIFAR-10"}


class Split(NamedTuple):
    """Images (N, H, W, C) uint8, memory-mapped, and labels (N,) uint8."""

    images: np.ndarray
    labels: np.ndarray


def full_name(name: str) -> str:
    """The name of a set as it stands beside numbers: a lossy copy is called one."""
    return f"{name} (a lossy JPEG copy of {LOSSY[name]})" if name in LOSSY else name


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


def published(data: Data, part: str) -> list[Archive]:
    """The archives that `datasets/<data.name>/<part>` is to be taken from; none where it is to be generated.

    With data.corrupted: download a C set has to be published. A P set that is not, as for CIFAR-100, is generated.

    Raises:
        click.ClickException: no C set of that name is published, or data/archives.yaml is wrong.
    """
    if data.corrupted == "generate":
        return []
    try:
        archives = read_archives()
        found = archives_of(archives, data.name, "c")
    except ArchiveError as error:
        raise click.ClickException(str(error)) from None
    return found if part == "c" else [a for a in archives.values() if (a.data, a.part) == (data.name, part)]


def origin(data: Data) -> str:
    """Where the C and P sets of `data` come from, as tables and reports say it."""
    if data.corrupted == "generate":
        return "generated from the test images"
    return "published" if published(data, "p") else "C published, P generated from the test images"


@contextmanager
def made_by_corrupt() -> Iterator[None]:
    """Turn what reading C and P sets raises into one line that says which stage makes them."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(f"{error}; `dvc repro corrupt` makes the sets") from None
