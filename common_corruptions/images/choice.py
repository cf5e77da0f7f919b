"""The corruption that a transform or data set applies: a fixed one, or one drawn at random."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common_corruptions.checks import check_severity
from common_corruptions.recipes.names import SEVERITIES
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import recipe
from common_corruptions.recipes.scales import check_scale


@dataclass(frozen=True)
class Choice:
    """Names and severities to draw from (one of each if nothing is drawn), and the scale of the constants."""

    names: tuple[str, ...]
    severities: tuple[int, ...]
    random: bool
    scale: str | None
    # Unpickling these in a worker imports the modules that declare the corruptions.
    functions: tuple[Callable[..., np.ndarray], ...]

    def draw(self, seed: int, index: int) -> tuple[str, int]:
        """The name and severity for the image with this index."""
        draws = Draws(seed, ("augmentation",), index, 1)
        name = draws.integers("name", (), len(self.names))
        severity = draws.integers("severity", (), len(self.severities))
        return self.names[int(name[0])], self.severities[int(severity[0])]

    def __str__(self) -> str:
        scale = "" if self.scale is None else f", scale={self.scale!r}"
        if self.random:
            return f"names={list(self.names)}, severities={list(self.severities)}{scale}"
        return f"{self.names[0]!r}, severity={self.severities[0]}{scale}"


def choose(
    name: str | None,
    severity: int | None,
    names: Sequence[str] | None,
    severities: Sequence[int] | None,
    scale: str | None,
) -> Choice:
    """The choice that the arguments of `Corrupt` describe.

    Raises:
        TypeError, ValueError: as `Corrupt`.
    """
    if (name is None) == (names is None):
        raise TypeError("give a name, or names=[...] to draw from, and not both")
    if (severities if names is None else severity) is not None:
        raise TypeError("use severity with a name, severities=[...] with names=[...]")
    if isinstance(names, str):
        raise TypeError(f"names must be a list of names, not {names!r}")
    chosen: tuple[Any, ...] = (name,) if names is None else tuple(names)
    if names is None:
        strengths: tuple[int, ...] = (3 if severity is None else severity,)
    else:
        strengths = SEVERITIES if severities is None else tuple(severities)
    if not chosen or not strengths:
        raise ValueError("names and severities must each have at least one to draw from")
    for strength in strengths:
        check_severity(strength)
    check_scale(scale)
    functions = tuple(recipe(one).function for one in chosen)
    return Choice(chosen, strengths, names is not None, scale, functions)
