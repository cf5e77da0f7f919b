"""A folder with C and P sets as people have it, opened: with its clean images, or flat as CIFAR-10-C was published."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common_corruptions.checks import check_name
from common_corruptions.npy import load_array, load_labels
from common_corruptions.recipes.names import CORRUPTIONS, FRAMES, PERTURBATIONS, SEVERITIES
from common_corruptions.recipes.registry import added, check_corruption
from common_corruptions.sets import (
    Clean,
    open_clean,
    open_corruptions,
    open_perturbations,
    other_files,
    unnamed_files,
)


class Sets(NamedTuple):
    """What a folder holds; images are uint8 and memory-mapped.

    clean: all test images and their labels, where the folder has them.
    labels: (N,) of the N images that the corrupted sets are of, or of the clean ones; empty where there are neither.
    corruptions: of each corruption (5 N, H, W, C), the severities one after the other.
    perturbations: of each perturbation (N, T, H, W, C).
    others: the files whose names are no corruption's or perturbation's.
    """

    clean: Clean | None
    labels: np.ndarray
    corruptions: dict[str, np.ndarray]
    perturbations: dict[str, np.ndarray]
    others: list[Path]


def open_sets(
    folder: str | Path,
    corruptions: Iterable[str] | None = None,
    perturbations: Iterable[str] | None = None,
) -> Sets:
    """The sets in a folder, compared with one another.

    Args:
        folder: `clean/test_{images,labels}.npy`, `c/<corruption>.npy`, `p/<perturbation>.npy`, of which `c` or `p` may
            be missing; or `clean`, where `c/labels.npy` then says the labels. Without any of these folders the files
            are looked for in `folder` itself, as CIFAR-10-C and CIFAR-10-P were published: `<corruption>.npy` and
            `labels.npy`, or `<perturbation>.npy`.
        corruptions, perturbations: which to open; by default all of the benchmark's, and corruptions of your own.

    Raises:
        FileNotFoundError: nothing to open, a set asked for that is not there, or corruptions without labels.
        TypeError: a string in place of several names.
        ValueError: an unknown name, a damaged file, or files that do not fit one another.
    """
    folder = Path(folder)
    flat, c, p = _layout(folder)
    is_corruption, is_perturbation = partial(_is_corruption, folder), partial(_is_perturbation, folder)
    every = (*CORRUPTIONS, *added())
    c_names = _asked("corruption", corruptions, every, check_corruption, is_corruption, c)
    p_names = _asked("perturbation", perturbations, PERTURBATIONS, _check_perturbation, is_perturbation, p)
    if not c_names and not p_names:
        places = "<corruption>.npy" if flat else "c/<corruption>.npy and no p/<perturbation>.npy"
        raise FileNotFoundError(f"no {places} to measure in {folder}")
    if (folder / "clean").is_dir():
        clean = open_clean(folder)
        stacks = open_corruptions(folder, c_names, clean)
        sequences = open_perturbations(folder, p_names, clean=clean)
        number = len(next(iter(stacks.values()))) // len(SEVERITIES) if stacks else len(clean.images)
        return Sets(clean, clean.labels[:number], stacks, sequences, other_files(folder))
    labels = _first_labels(c / "labels.npy") if c_names else np.empty(0, np.intp)
    stacks = {name: load_array(c / f"{name}.npy") for name in c_names}
    sequences = {name: load_array(p / f"{name}.npy") for name in p_names}
    _compare(c, stacks, 4, len(labels) * len(SEVERITIES))
    _compare(p, sequences, 5)
    others = unnamed_files(folder, {*every, *FRAMES}) if flat else other_files(folder)
    return Sets(None, labels, stacks, sequences, others)


def split_names(folder: str | Path, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of the names, those that a folder has as corruptions and those that it has as perturbations; some are both.

    Raises:
        FileNotFoundError: the folder has neither by one of the names.
        ValueError: a name that is neither's.
    """
    folder, names = Path(folder), list(names)
    corruptions = [name for name in names if _is_corruption(folder, name)]
    perturbations = [name for name in names if name in FRAMES and _is_perturbation(folder, name)]
    for name in names:
        if name not in FRAMES:
            check_corruption(name)
        if name not in corruptions and name not in perturbations:
            raise FileNotFoundError(f"{folder} holds no {name}.npy")
    return [name for name in corruptions if name in {*CORRUPTIONS, *added()}], perturbations


def _layout(folder: Path) -> tuple[bool, Path, Path]:
    """Whether the folder is flat, and where its corruptions and its perturbations are."""
    flat = not any((folder / part).is_dir() for part in ("clean", "c", "p"))
    return (True, folder, folder) if flat else (False, folder / "c", folder / "p")


# Some names are both a corruption's and a perturbation's; in a flat folder the number of axes tells them apart.


def _is_corruption(folder: Path, name: str) -> bool:
    flat, c, _ = _layout(folder)
    path = c / f"{name}.npy"
    return path.exists() and not (flat and name in FRAMES and load_array(path).ndim == 5)


def _is_perturbation(folder: Path, name: str) -> bool:
    flat, _, p = _layout(folder)
    path = p / f"{name}.npy"
    return path.exists() and not (flat and name in CORRUPTIONS and load_array(path).ndim != 5)


def _asked(
    kind: str,
    asked: Iterable[str] | None,
    all_names: Iterable[str],
    check: Callable[[str], None],
    is_there: Callable[[str], bool],
    place: Path,
) -> list[str]:
    """The names asked for, each checked, or else all that are there."""
    if asked is None:
        return [name for name in all_names if is_there(name)]
    if isinstance(asked, str):
        raise TypeError(f"give several {kind}s, such as [{asked!r}], not one string")
    names = list(dict.fromkeys(asked))
    for name in names:
        check(name)
        if not is_there(name):
            raise FileNotFoundError(f"{place} holds no {name}.npy of the {kind}")
    return names


def _check_perturbation(name: str) -> None:
    check_name(name, FRAMES, "perturbation")


def _first_labels(path: Path) -> np.ndarray:
    """Labels (N,) of a file that repeats them five times."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing; corrupted images without clean ones need their labels there, repeated for each of "
            f"the five severities (`corrupt --labels` writes it)"
        )
    stacked = load_labels(path)
    labels = stacked[: len(stacked) // len(SEVERITIES)]
    if not len(labels) or not np.array_equal(stacked, np.tile(labels, len(SEVERITIES))):
        raise ValueError(f"{path} does not hold the same labels five times, once for each severity")
    return labels


def _compare(folder: Path, arrays: dict[str, np.ndarray], axes: int, number: int | None = None) -> None:
    """ValueError unless all are uint8 with so many axes and of as many images, of one shape."""
    expected = "(5 N, H, W, C)" if axes == 4 else "(N, T, H, W, C) of 2 frames or more"
    first = next(iter(arrays.values()), None)
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        short = axes == 5 and array.ndim == 5 and array.shape[1] < 2
        if array.dtype != np.uint8 or array.ndim != axes or 0 in array.shape or short:
            raise ValueError(f"{path} must hold uint8 {expected}, not {array.dtype} {array.shape}")
        if number is not None and len(array) != number:
            raise ValueError(f"{path} holds {len(array)} images; labels.npy is of {number}")
        if len(array) != len(first) or array.shape[-3:] != first.shape[-3:]:
            raise ValueError(
                f"{path} holds {len(array)} of images {array.shape[-3:]}, other files beside it {len(first)} of "
                f"{first.shape[-3:]}"
            )
