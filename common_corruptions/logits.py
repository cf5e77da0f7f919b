"""Logits of which no class is the largest, which no metric may take for an answer."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


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
