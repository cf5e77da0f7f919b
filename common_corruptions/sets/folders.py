"""Open a folder with C and P sets in `.npy` files: with its clean images, or flat as CIFAR-10-C was published."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from common_corruptions.npy import load_array, load_labels
from common_corruptions.recipes.names import CORRUPTIONS, FRAMES, PERTURBATIONS, SEVERITIES
from common_corruptions.recipes.registry import added, check_corruption
from common_corruptions.sets.on_disk import (
    corrupted_ones,
    open_clean,
    open_corruptions,
    open_perturbations,
    open_sequences,
    other_files,
    unnamed_files,
)
from common_corruptions.sets.opened import Sets, asked, asked_severities
from common_corruptions.sets.staging import Images


def open_arrays(
    folder: Path,
    corruptions: Iterable[str] | None = None,
    perturbations: Iterable[str] | None = None,
    severities: Iterable[int] | None = None,
) -> Sets:
    """Open the sets in the `.npy` files of a folder and check them against one another.

    Args:
        folder: `clean/test_{images,labels}.npy`, `c/<corruption>.npy`, `p/<perturbation>.npy`. `c` or `p` may be
            missing, and so may `clean` if `c/labels.npy` has the labels. Without any of these folders the files are
            expected in `folder` itself, as CIFAR-10-C and CIFAR-10-P were published: `<corruption>.npy` and
            `labels.npy`, or `<perturbation>.npy`.
        corruptions, perturbations: which to open; by default all of the benchmark's, and corruptions of your own.
        severities: of the corruptions, by default all five.

    Raises:
        FileNotFoundError: nothing to open, a requested set that is missing, or corruptions without labels.
        TypeError: a string in place of several names.
        ValueError: an unknown name, a damaged file, or files that do not fit one another.
    """
    flat, c, p = _layout(folder)
    levels = asked_severities(severities)
    every = (*CORRUPTIONS, *added())
    c_names, p_names = (
        asked(kind, names, all_names, partial(is_there, folder), partial(_missing, place, kind))
        for kind, names, all_names, is_there, place in (
            ("corruption", corruptions, every, _is_corruption, c),
            ("perturbation", perturbations, PERTURBATIONS, _is_perturbation, p),
        )
    )
    if not c_names and not p_names:
        places = "<corruption>.npy" if flat else "c/<corruption>.npy and no p/<perturbation>.npy"
        raise FileNotFoundError(f"no {places} to measure in {folder}")
    if (folder / "clean").is_dir():
        clean = open_clean(folder)
        stacks = open_corruptions(folder, c_names, clean)
        sequences = open_perturbations(folder, p_names, clean=clean)
        (images, labels), tested = corrupted_ones(clean, stacks), len(clean.images)
    else:
        images, labels, tested = None, np.empty(0, np.intp), 0
        if c_names:
            labels = _first_labels(c / "labels.npy")
        stacks = _open_stacks(c, c_names, len(SEVERITIES) * len(labels))
        # The labels of a flat folder are those of its corruptions.
        sequences = open_sequences(p, p_names) if flat else open_perturbations(folder, p_names)
    number = len(labels)
    by_severity: dict[str, dict[int, Images]] = {
        name: {level: stack[(level - 1) * number : level * number] for level in levels}
        for name, stack in stacks.items()
    }
    others = unnamed_files(folder, {*every, *FRAMES}) if flat else other_files(folder)
    told = [str(path.relative_to(folder)) for path in others]
    source = f"{folder}: the .npy files in it"
    return Sets(source, images, labels, by_severity, dict(sequences), told, tested)


def holds_arrays(folder: Path) -> bool:
    """Whether the folder has an `.npy` file of a corruption or perturbation in one of the expected places."""
    names = {*CORRUPTIONS, *added(), *FRAMES}
    return any(path.stem in names for place in ("", "c", "p") for path in (folder / place).glob("*.npy"))


def split_names(folder: str | Path, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split names into the corruptions and the perturbations that a folder has; some names are both.

    Raises:
        FileNotFoundError: the folder has neither for one of the names.
        ValueError: an unknown name.
    """
    folder, names = Path(folder), list(names)
    corruptions = [name for name in names if _is_corruption(folder, name)]
    perturbations = [name for name in names if name in FRAMES and _is_perturbation(folder, name)]
    for name in names:
        if name not in FRAMES:
            check_corruption(name)
        if name not in corruptions and name not in perturbations:
            raise FileNotFoundError(f"{folder} has no {name}.npy")
    return [name for name in corruptions if name in {*CORRUPTIONS, *added()}], perturbations


def _layout(folder: Path) -> tuple[bool, Path, Path]:
    """Whether the folder is flat, and the folders of its corruptions and perturbations."""
    flat = not any((folder / part).is_dir() for part in ("clean", "c", "p"))
    return (True, folder, folder) if flat else (False, folder / "c", folder / "p")


# Some names are both a corruption and a perturbation; in a flat folder the number of axes distinguishes them.


def _is_corruption(folder: Path, name: str) -> bool:
    flat, c, _ = _layout(folder)
    path = c / f"{name}.npy"
    return path.exists() and not (flat and name in FRAMES and load_array(path).ndim == 5)


def _is_perturbation(folder: Path, name: str) -> bool:
    flat, _, p = _layout(folder)
    path = p / f"{name}.npy"
    return path.exists() and not (flat and name in CORRUPTIONS and load_array(path).ndim != 5)


def _missing(place: Path, kind: str, name: str) -> str:
    return f"{place} has no {name}.npy for the {kind}"


def _first_labels(path: Path) -> np.ndarray:
    """Labels (N,) from a file that repeats them five times."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing; corrupted images without clean ones need their labels there, repeated for each of "
            f"the five severities (`corrupt --labels` writes it)"
        )
    stacked = load_labels(path)
    labels = stacked[: len(stacked) // len(SEVERITIES)]
    if not len(labels) or not np.array_equal(stacked, np.tile(labels, len(SEVERITIES))):
        raise ValueError(f"{path} must repeat the same labels five times, once for each severity")
    return labels


def _open_stacks(folder: Path, names: list[str], number: int) -> dict[str, np.ndarray]:
    """Open corruptions, each uint8 (number, H, W, C), all of the same shape.

    Raises:
        ValueError: a file of another type or shape.
    """
    stacks: dict[str, np.ndarray] = {}
    for name in names:
        path = folder / f"{name}.npy"
        array = stacks[name] = load_array(path)
        shape = next(iter(stacks.values())).shape[1:]
        if array.dtype != np.uint8 or array.ndim != 4 or 0 in array.shape:
            raise ValueError(f"{path} must hold uint8 (5 N, H, W, C), not {array.dtype} {array.shape}")
        if len(array) != number:
            raise ValueError(f"{path} has {len(array)} images, but labels.npy is for {number}")
        if array.shape[1:] != shape:
            raise ValueError(f"{path} has images of shape {array.shape[1:]}, the other files {shape}")
    return stacks
