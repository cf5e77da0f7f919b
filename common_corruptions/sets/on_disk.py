"""A data set on disk in the form of CIFAR-10-C: its arrays, opened and checked against one another before use."""

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common_corruptions.npy import load_array, load_labels
from common_corruptions.recipes.names import CORRUPTIONS, FRAMES, SEVERITIES
from common_corruptions.recipes.registry import added
from common_corruptions.sets.same_images import check_same_images


class Clean(NamedTuple):
    """Test images (N, H, W, C) uint8, memory-mapped, and their labels (N,)."""

    images: np.ndarray
    labels: np.ndarray


def open_clean(folder: Path) -> Clean:
    """The images and labels in `clean/`.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: a damaged file; no images, images that are not uint8 (N, H, W, C), or labels of another number.
    """
    path = folder / "clean" / "test_images.npy"
    images, labels = load_array(path), load_labels(folder / "clean" / "test_labels.npy")
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"{path} must hold images, uint8 (N, H, W, C), not {images.dtype} {images.shape}")
    if len(labels) != len(images):
        raise ValueError(f"{folder / 'clean'} has {len(images)} test images, but {len(labels)} labels")
    return Clean(images, labels)


def open_corruptions(folder: Path, names: Iterable[str], clean: Clean) -> dict[str, np.ndarray]:
    """The array (5 N, H, W, C) uint8 in `c/` for each corruption, memory-mapped.

    A `labels.npy` beside them, if there is one, determines how many images they are made from: all of the test set, or
    the first ones. Without it they are made from all.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a damaged file; one that does not hold five times as many images, of the shape of the clean ones; a
            `labels.npy` that does not repeat the first clean labels five times; one that was made from other images.
    """
    names, labels = list(names), folder / "c" / "labels.npy"
    number = len(clean.images)
    if names and labels.exists():
        number = min(number, len(load_labels(labels)) // len(SEVERITIES))
        _compare_labels(labels, np.tile(clean.labels[:number], len(SEVERITIES)))
    shape = (len(SEVERITIES) * number, *clean.images.shape[1:])
    stacks = {}
    for name in names:
        path = folder / "c" / f"{name}.npy"
        stacks[name] = load_array(path)
        if stacks[name].dtype != np.uint8 or stacks[name].shape != shape:
            raise ValueError(
                f"{path} holds {stacks[name].dtype} {stacks[name].shape}; expected uint8 {shape}, the clean images at "
                f"five severities"
            )
    check_same_images(folder / "c", "corruption", dict.fromkeys(names, number), clean.images)
    return stacks


def corrupted_ones(clean: Clean, stacks: Mapping[str, np.ndarray]) -> Clean:
    """The clean images of the corruptions, as returned by `open_corruptions`; without corruptions, all clean images."""
    number = len(next(iter(stacks.values()))) // len(SEVERITIES) if stacks else len(clean.images)
    return Clean(clean.images[:number], clean.labels[:number])


def open_perturbations(
    folder: Path, names: Iterable[str], count: int | None = None, clean: Clean | None = None
) -> dict[str, np.ndarray]:
    """The sequences (N, T, H, W, C) uint8 in `p/` for each perturbation, memory-mapped.

    A `labels.npy` beside them, if there is one, determines how many images they are made from: all of the test set, or
    the first ones.

    Args:
        folder: with `p/`.
        names: the perturbations.
        count: number of sequences to use, the first ones; by default all.
        clean: also compare the sequences with these images, from which they must have been made, if that is recorded;
            without a `labels.npy` there must be as many sequences as images.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a damaged file; one that holds no sequences of 2 frames or more, or, without a `labels.npy`, fewer
            than `count`; files of different numbers or shapes of images, or of another number than `labels.npy`; and,
            with `clean`, images of another shape or number, other labels, or sequences made from other images.
    """
    place, labels = folder / "p", folder / "p" / "labels.npy"
    number, shape = (None, None) if clean is None else (len(clean.images), clean.images.shape[1:])
    if labels.exists():
        number = len(load_labels(labels))
    sequences = open_sequences(place, names, number, shape)
    if not sequences:
        return sequences
    number = len(next(iter(sequences.values())))
    if clean is not None:
        _compare_labels(labels, clean.labels[:number])
        check_same_images(place, "perturbation", dict.fromkeys(sequences, number), clean.images)
    if count is not None and number < count and not labels.exists():
        raise ValueError(f"{place} has {number} sequences per file, not the {count} requested")
    return {name: array[:count] for name, array in sequences.items()}


def open_sequences(
    place: Path, names: Iterable[str], number: int | None = None, shape: tuple[int, ...] | None = None
) -> dict[str, np.ndarray]:
    """The sequences (N, T, H, W, C) uint8 in `<perturbation>.npy` for each perturbation, memory-mapped.

    Args:
        place: the folder with the files.
        names: the perturbations.
        number, shape: the required number of sequences N and shape of images (H, W, C); by default those of the first.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a damaged file, or one that holds no sequences of 2 frames or more, or of another number or shape.
    """
    sequences: dict[str, np.ndarray] = {}
    for name in names:
        path = place / f"{name}.npy"
        array = sequences[name] = load_array(path)
        if array.dtype != np.uint8 or array.ndim != 5 or 0 in array.shape or array.shape[1] < 2:
            raise ValueError(
                f"{path} must hold sequences of 2 frames or more, uint8 (N, T, H, W, C), not {array.dtype} "
                f"{array.shape}"
            )
        number, shape = number or len(array), shape or array.shape[2:]
        if (len(array), *array.shape[2:]) != (number, *shape):
            raise ValueError(
                f"{path} has sequences of {len(array)} images {array.shape[2:]}, but the test images, labels.npy or "
                f"the other files have {number} {shape}"
            )
    return sequences


def other_files(folder: Path) -> list[Path]:
    """The `.npy` files in `c/` and `p/` that are not named like a corruption or perturbation."""
    return [*unnamed_files(folder / "c", {*CORRUPTIONS, *added()}), *unnamed_files(folder / "p", FRAMES)]


def unnamed_files(place: Path, names: Container[str]) -> list[Path]:
    """The `.npy` files in a folder that have none of these names, except the labels."""
    return [path for path in sorted(place.glob("*.npy")) if path.stem != "labels" and path.stem not in names]


def _compare_labels(path: Path, expected: np.ndarray) -> None:
    """Raise ValueError if the file exists and holds other labels."""
    if path.exists() and not np.array_equal(load_labels(path), expected):
        raise ValueError(
            f"{path} does not repeat the labels of the clean test images: the files beside it are for other images, "
            f"or for these in another order"
        )
