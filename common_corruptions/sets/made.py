"""Corrupted and perturbed versions of clean images, made slice by slice on access.

A slice has the same bytes as in a set made at once, as an image's index in the set determines its random draws.
"""

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from common_corruptions.checks import check_images, check_seed
from common_corruptions.generate import recipe_version
from common_corruptions.generate.writing import SetFile
from common_corruptions.images.forms import read
from common_corruptions.metrics.arrays import class_indices
from common_corruptions.recipes.corruptions import corrupt
from common_corruptions.recipes.names import CORRUPTIONS, FRAMES
from common_corruptions.recipes.perturbations import PERTURBED_LARGEST, perturb
from common_corruptions.recipes.scales import check_scale, scale_of
from common_corruptions.sets.identity import of_images
from common_corruptions.sets.opened import Sets, asked, asked_severities
from common_corruptions.sets.staging import Images


class Corrupted:
    """(N, H, W, C) uint8: images under one corruption at one severity; `origin()` is the clean images' identity."""

    def __init__(
        self, images: Images, name: str, severity: int, seed: int, scale: str, origin: Callable[[], str]
    ) -> None:
        self.images, self.name, self.severity, self.seed, self.scale = images, name, severity, seed, scale
        self.origin = origin
        self.shape, self.dtype = tuple(images.shape), np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(len(self))
        images = np.ascontiguousarray(self.images[start:stop])
        return corrupt(images, self.name, self.severity, self.seed, start=start, scale=self.scale)

    def identity(self) -> str:
        """A string of everything that determines the bytes."""
        return f"{self.origin()} {_recipe(self.images, 'corruption', self.name, self.seed)}, {self.scale}"


class Perturbed:
    """(N, T, H, W, C) uint8: one perturbation's sequence of each image; `origin()` is the clean images' identity."""

    def __init__(self, images: Images, name: str, seed: int, origin: Callable[[], str]) -> None:
        self.images, self.name, self.seed, self.origin = images, name, seed, origin
        self.shape = (images.shape[0], FRAMES[name], *images.shape[1:])
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(len(self))
        return perturb(np.ascontiguousarray(self.images[start:stop]), self.name, self.seed, start=start)

    def identity(self) -> str:
        """A string of everything that determines the bytes."""
        return f"{self.origin()} {_recipe(self.images, 'perturbation', self.name, self.seed)}"


def make_sets(
    source: str,
    images: Images,
    labels: Any,
    corruptions: Iterable[str] | None = None,
    perturbations: Iterable[str] | None = None,
    severities: Iterable[int] | None = None,
    seed: int = 0,
    scale: str | None = None,
    classes: int | None = None,
) -> Sets:
    """The sets of clean images, which are made while they are measured.

    Args:
        source: description of the images.
        images: uint8 (N, H, W, C).
        labels: integers (N,) from 0.
        corruptions: by default the benchmark's 19.
        perturbations: by default none, as a sequence has up to 31 images to measure and a corruption 5.
        severities: of the corruptions, by default all five.
        seed: any integer.
        scale: whose constants to use for the corruptions, "cifar" or "imagenet"; by default the image size decides, as
            in `common_corruptions.corrupt`.
        classes: number of classes, if it is known.

    Raises:
        TypeError, ValueError: images that `corrupt` does not take, labels of another form or number, an unknown name or
            scale, a seed that is not an integer, or nothing to measure.
    """
    c_names, p_names, levels, seed, scale = check_choice(corruptions, perturbations, severities, seed, scale)
    labels = class_indices(labels, "labels", 1)
    if len(labels) != len(images):
        raise ValueError(f"there are {len(images)} images but {len(labels)} labels")
    check_images(images[0:1])
    if p_names:
        check_images(images[0:1], largest=PERTURBED_LARGEST)
    chosen = scale_of(scale, *images.shape[1:3])
    origin = functools.cache(lambda: of_images(images))  # shared by all sets, and rarely needed
    stacks: dict[str, dict[int, Images]] = {
        name: {level: Corrupted(images, name, level, seed, chosen, origin) for level in levels}
        for name in c_names
    }
    sequences: dict[str, Images] = {name: Perturbed(images, name, seed, origin) for name in p_names}
    height, width = images.shape[1:3]
    order = "" if height == width else " (height x width)"
    clean = f"{len(images)} clean images of {height} x {width}{order}"
    made = f"{source}: {clean}, corrupted here at the scale {chosen}, seed {seed}"
    return Sets(made, images, labels, stacks, sequences, [], len(images), classes)


def check_choice(
    corruptions: Iterable[str] | None,
    perturbations: Iterable[str] | None,
    severities: Iterable[int] | None,
    seed: int,
    scale: str | None,
) -> tuple[list[str], list[str], tuple[int, ...], int, str | None]:
    """Check what is to be made, and fill in the defaults of `make_sets`; each name is returned once.

    Raises:
        TypeError, ValueError: as `make_sets`.
    """
    check_seed(seed, 0)
    check_scale(scale)
    c_names = asked("corruption", CORRUPTIONS if corruptions is None else corruptions, (), _any, str)
    p_names = asked("perturbation", () if perturbations is None else perturbations, (), _any, str)
    if not c_names and not p_names:
        raise ValueError("there is nothing to measure: name corruptions or perturbations")
    return c_names, p_names, asked_severities(severities), operator.index(seed), scale


def array_of(images: Any) -> np.ndarray:
    """Images in any form that `common_corruptions.corrupt` takes, as uint8 (N, H, W, C).

    Raises:
        TypeError, ValueError: as `corrupt`.
    """
    if not isinstance(images, list | tuple):
        return read(images).array
    arrays = [read(image).array for image in images]
    if len({array.shape[1:] for array in arrays}) != 1:
        raise ValueError(
            "images must all have the same size and number of channels: a net gets them in batches"
        )
    return np.concatenate(arrays)


def _any(name: str) -> bool:
    return True


def _recipe(images: Images, kind: str, name: str, seed: int) -> str:
    version = recipe_version(SetFile(kind, name, tuple(images.shape), seed))
    return f"{kind} {name}, seed {seed}, recipe {version}"
