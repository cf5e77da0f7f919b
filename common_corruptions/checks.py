"""Checks of the arguments of public functions, each with one clear error."""

import difflib
import operator
from collections.abc import Iterable

import numpy as np

# Pixels a side. On smaller images some blurs would have no effect.
SMALLEST, LARGEST = 16, 1024


def check_name(name: str, names: Iterable[str], kind: str) -> None:
    """Raise ValueError unless `name` is one of `names`; the message suggests the nearest, if one is similar.

    `kind` is "corruption" or "perturbation", for the message.
    """
    names = tuple(names)
    if name in names:
        return
    nearest = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"choose from {', '.join(names)}"
    raise ValueError(f"unknown {kind} {name!r}; {hint}")


def check_images(images: np.ndarray, *, largest: int = LARGEST) -> None:
    """Raise TypeError or ValueError unless `images` is uint8 (N, H, W, C), 16 to `largest` pixels a side, C 1 or 3."""
    if not isinstance(images, np.ndarray):
        raise TypeError(f"images must be a NumPy array, not {type(images).__name__}")
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8 with values 0 to 255, not {images.dtype}; convert them first")
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(f"images must have the shape (N, H, W, C) with C 1 or 3, not {images.shape}")
    if not all(SMALLEST <= side <= largest for side in images.shape[1:3]):
        height, width = images.shape[1:3]
        raise ValueError(
            f"images must have {SMALLEST} to {largest} pixels a side, not {height} x {width} (height x width)"
        )


def check_severity(severity: int) -> None:
    """Raise ValueError unless `severity` is an integer from 1 to 5."""
    whole = isinstance(severity, int | np.integer) and not isinstance(severity, bool)
    if not whole or not 1 <= severity <= 5:
        raise ValueError(f"severity must be a whole number from 1 to 5, not {severity!r}")


def check_seed(seed: int, start: int) -> None:
    """Raise TypeError or ValueError unless `seed` is an integer and `start`, an image index, an integer from 0."""
    for name, value in (("seed", seed), ("start", start)):
        try:
            operator.index(value)
        except TypeError:
            raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if start < 0:
        raise ValueError(f"start, the first image's index, must be at least 0, not {start}")
