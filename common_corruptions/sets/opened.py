"""What a benchmark is measured on, whatever it was read or made from, and the choice of a part of it."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from common_corruptions.checks import check_name, check_severity
from common_corruptions.recipes.names import FRAMES, SEVERITIES
from common_corruptions.recipes.registry import check_corruption
from common_corruptions.sets.staging import Images, count_frames


class Sets(NamedTuple):
    """Clean, corrupted and perturbed images, uint8, none of them in memory before its slice is asked for.

    source: what they are and where they are from, in words.
    clean: (N, H, W, C) the test images that the corrupted ones are of, where there are any.
    labels: (N,) of these; empty where there are neither clean nor corrupted images.
    corruptions: of each corruption and severity (N, H, W, C).
    perturbations: of each perturbation (M, T, H, W, C).
    others: the files or folders whose names are no corruption's or perturbation's, as they are to be told.
    tested: how many clean test images there are in all, of which the first N, or N, are used.
    classes: how many classes the labels are of, where that is known.
    unread: of folders of image files, how much of each kind lies in the folders of the classes and is no image file.
    """

    source: str
    clean: Images | None
    labels: np.ndarray
    corruptions: dict[str, dict[int, Images]]
    perturbations: dict[str, Images]
    others: list[str]
    tested: int
    classes: int | None = None
    unread: Mapping[str, int] = MappingProxyType({})

    @property
    def images(self) -> int:
        """How many single images a net has to answer, frames among them."""
        errors = len(self.labels) * (
            (self.clean is not None) + sum(len(parts) for parts in self.corruptions.values())
        )
        return errors + count_frames(self.perturbations.values())


def asked(
    kind: str,
    names: Iterable[str] | None,
    there: Iterable[str],
    is_there: Callable[[str], bool],
    missing: Callable[[str], str],
) -> list[str]:
    """The names asked for, each once, or else all that are there.

    Args:
        kind: "corruption" or "perturbation".
        names: what was asked for, None for all.
        there: all that may be there, in their order.
        is_there: whether one is.
        missing: what to say of one that is not.

    Raises:
        TypeError: a string in place of several names.
        ValueError: a name that is no corruption's or perturbation's.
        FileNotFoundError: one that is not there.
    """
    if names is None:
        return [name for name in there if is_there(name)]
    if isinstance(names, str):
        raise TypeError(f"give several {kind}s, such as [{names!r}], not one string")
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if kind == "corruption":
            check_corruption(name)
        else:
            check_name(name, FRAMES, kind)
        if not is_there(name):
            raise FileNotFoundError(missing(name))
    return chosen


def asked_severities(severities: Iterable[int] | None) -> tuple[int, ...]:
    """The severities asked for in rising order, or all five.

    Raises:
        TypeError: one number in place of several.
        ValueError: none, or one that is not 1 to 5.
    """
    if severities is None:
        return SEVERITIES
    if isinstance(severities, int | str):
        raise TypeError(f"give several severities, such as [{severities!r}], not one alone")
    chosen = list(severities)
    for severity in chosen:
        check_severity(severity)
    if not chosen:
        raise ValueError("severities must hold at least one of 1 to 5")
    return tuple(sorted({int(severity) for severity in chosen}))
