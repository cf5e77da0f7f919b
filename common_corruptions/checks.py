"""What the public functions refuse, each with one clear error."""

import difflib
import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from common_corruptions.recipes.names import SEVERITIES

# Pixels a side. On smaller images some blurs would do nothing.
SMALLEST, LARGEST = 16, 1024


class UndefinedLogits(ValueError):
    """Logits of which no class is the largest: NaN, or the same infinity for several classes that none exceeds.

    `fault` says which; a net that masks classes may answer -inf for them, and +inf for one.
    """

    def __init__(self, fault: str = "contain NaN", whose: str = "", where: str = "") -> None:
        self.fault = fault
        super().__init__(f"{whose}logits {fault}{where}")


TIED = "are infinite for several classes of one image"


def check_defined(logits: np.ndarray) -> None:
    """Raise UndefinedLogits unless each row of logits (..., K) has a largest class or equal finite ones."""
    low, high = logits.min(), logits.max()
    if -np.inf < low and high < np.inf:  # the two tell of all else, and need no array of their own
        return
    if np.isnan(high):
        raise UndefinedLogits
    top = logits.max(axis=-1, keepdims=True)
    if np.any(np.isinf(top[..., 0]) & (np.sum(logits == top, axis=-1) > 1)):
        raise UndefinedLogits(TIED)


@contextmanager
def naming_set(name: str, severity: int = 0) -> Iterator[None]:
    """Say of undefined logits to which set a net answered with them: the clean one, a corruption, a perturbation."""
    try:
        yield
    except UndefinedLogits as error:
        which = f"{name}, severity {severity}" if severity else name
        raise UndefinedLogits(error.fault, "the net's ", f" on {which}") from None


def check_name(name: str, names: Iterable[str], kind: str) -> None:
    """Raise ValueError, with the nearest of `names` if one is near, unless `name` is one of them.

    `kind` is what the message calls it: "corruption" or "perturbation".
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
    if not whole or severity not in SEVERITIES:
        raise ValueError(f"severity must be a whole number from 1 to 5, not {severity!r}")


def check_seed(seed: int, start: int) -> None:
    """Raise TypeError or ValueError unless `seed` is an integer and `start`, an image index, is one of at least 0."""
    for name, value in (("seed", seed), ("start", start)):
        try:
            operator.index(value)
        except TypeError:
            raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if start < 0:
        raise ValueError(f"start is the index of the first image, at least 0, not {start}")
