"""Logits without a largest class, which no metric may take for a prediction."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


class UndefinedLogits(ValueError):
    """Logits without a largest class: NaN, or several classes tied at an infinity that no other class exceeds.

    `fault` says which. A net that masks classes may return -inf for them, and +inf for a single class.
    """

    def __init__(self, fault: str = "contain NaN", whose: str = "", where: str = "") -> None:
        self.fault = fault
        super().__init__(f"{whose}logits {fault}{where}")


TIED = "are infinite for several classes of one image"


def check_defined(logits: np.ndarray) -> None:
    """Raise UndefinedLogits unless each row of logits (..., K) has a largest class, or several equal finite ones."""
    low, high = logits.min(), logits.max()
    if -np.inf < low and high < np.inf:  # the common case, without temporary arrays
        return
    if np.isnan(high):
        raise UndefinedLogits
    top = logits.max(axis=-1, keepdims=True)
    if np.any(np.isinf(top[..., 0]) & (np.sum(logits == top, axis=-1) > 1)):
        raise UndefinedLogits(TIED)


@contextmanager
def naming_set(name: str, severity: int = 0) -> Iterator[None]:
    """Add to UndefinedLogits the set that caused it: the clean one, a corruption or a perturbation."""
    try:
        yield
    except UndefinedLogits as error:
        which = f"{name}, severity {severity}" if severity else name
        raise UndefinedLogits(error.fault, "the net's ", f" on {which}") from None
