"""The sets that a benchmark measures, whatever they were read or made from, and the selection of a part of them."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from common_corruptions.checks import check_name, check_severity
from common_corruptions.recipes.names import FRAMES, SEVERITIES
from common_corruptions.recipes.registry import check_corruption
from common_corruptions.sets.staging import Images, count_frames


class Sets(NamedTuple):
    """Clean, corrupted and perturbed images, uint8; none are in memory before their slice is accessed.

    source: a description of the images and where they come from.
    clean: (N, H, W, C) the test images that the corrupted ones were made from, if there are any.
    labels: (N,) of these; empty if there are neither clean nor corrupted images.
    corruptions: for each corruption and severity (N, H, W, C).
    perturbations: for each perturbation (M, T, H, W, C).
    others: the files or folders whose names are not those of a corruption or perturbation, to be reported.
    tested: the number of all clean test images, of which N are used: the first, or those listed by name.
    classes: the number of classes of the labels, if it is known.
    unread: for folders of image files, the number of other entries in the class folders, by kind.
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
        """Number of single images that a net has to process, including frames."""
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
    """The requested names, each once, or else all that are there.

    Args:
        kind: "corruption" or "perturbation".
        names: the requested names, None for all.
        there: all names that may be there, in order.
        is_there: whether a name is there.
        missing: the error message for a name that is not there.

    Raises:
        TypeError: a string in place of several names.
        ValueError: an unknown name.
        FileNotFoundError: a name that is not there.
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
    """The requested severities in rising order, or all five.

    Raises:
        TypeError: one number in place of several.
        ValueError: none, or one outside 1 to 5.
    """
    if severities is None:
        return SEVERITIES
    if isinstance(severities, int | str):
        raise TypeError(f"give several severities, such as [{severities!r}], not one alone")
    chosen = list(severities)
    for severity in chosen:
        check_severity(severity)
    if not chosen:
        raise ValueError("give at least one severity from 1 to 5")
    return tuple(sorted({int(severity) for severity in chosen}))
