"""Reasons why the figures of a benchmark are not those of the whole benchmark, to be reported with them."""

import math
from collections.abc import Iterator

from common_corruptions.recipes.names import CORRUPTIONS, MAIN_CORRUPTIONS, PERTURBATIONS, SEVERITIES
from common_corruptions.sets.opened import Sets
from common_corruptions.summary import Baseline, undefined_relative


def limits(sets: Sets, baseline: Baseline | None) -> Iterator[str]:
    """Yield a sentence for each limit of what is measured on these sets."""
    if sets.others:
        names = ", ".join(sets.others)
        yield (
            f"{len(sets.others)} files or folders not named like a corruption or perturbation are left out: {names}"
        )
    if sets.unread:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(sets.unread.items()))
        yield (
            f"{sum(sets.unread.values())} files or folders in the class folders are not read, and no image in them "
            f"is measured: {kinds}"
        )
    if sets.clean is None and sets.corruptions:
        yield "there are no clean images, so no E_clean and no rCE"
    own = [name for name in sets.corruptions if name not in CORRUPTIONS]
    corruptions = [name for name in CORRUPTIONS if name in sets.corruptions]
    if own:
        yield f"E_corr, mCE and rCE leave out corruptions that are not the benchmark's: {', '.join(own)}"
    if corruptions and (missing := [name for name in CORRUPTIONS if name not in corruptions]):
        main = "" if {*MAIN_CORRUPTIONS} <= {*corruptions} else ", and there is no mCE_15 and no rCE_15"
        yield (
            f"E_corr, mCE and rCE are over {len(corruptions)} of the {len(CORRUPTIONS)} corruptions{main}; missing: "
            f"{', '.join(missing)}"
        )
    if corruptions and (levels := severities_of(sets)) != SEVERITIES:
        part = ", ".join(map(str, levels))
        yield f"E_corr is over severity {part} only, and there is no mCE and no rCE, which need all five"
    yield from _baseline_limits(sets, baseline, corruptions)
    yield from _perturbation_limits(sets)
    if sets.tested > len(sets.labels) > 0 and corruptions:
        which = "the first " if sets.classes is None else ""  # image files are matched by name
        yield f"the corrupted images cover {which}{len(sets.labels)} of the {sets.tested} test images"


def severities_of(sets: Sets) -> tuple[int, ...]:
    """The severities of the corrupted sets, which are the same for each."""
    return tuple(next(iter(sets.corruptions.values()), SEVERITIES))


def _baseline_limits(sets: Sets, baseline: Baseline | None, corruptions: list[str]) -> Iterator[str]:
    if baseline is None or severities_of(sets) != SEVERITIES:
        return
    if corruptions and baseline.sides is not None:
        images = next(iter(sets.corruptions[corruptions[0]].values()))
        height, width, channels = images.shape[1:]
        scale = getattr(images, "scale", baseline.scale)  # known for sets made here, but not for files
        if not {height, width} <= {*baseline.sides} or channels != 3 or scale != baseline.scale:
            kind = f"{height} x {width}" + ("" if channels == 3 else ", grey")
            if scale != baseline.scale:
                kind += f", corrupted at the scale {scale}"
            yield (
                f"the errors of {baseline.source} are for images {baseline.images}, but these are {kind}: mCE and rCE "
                f"are meaningless; give the errors of a net on these images"
            )
    if outside := [name for name in corruptions if name not in baseline.over]:
        yield f"mCE and rCE leave out {', '.join(outside)}, which are not averaged with {baseline.source}"
    inside = [name for name in corruptions if name in baseline.over]
    if sets.clean is not None and inside and math.isnan(baseline.clean):
        yield f"there is no rCE: {baseline.source} lacks the error on clean images, named clean"
    elif sets.clean is not None and (undefined := undefined_relative(baseline, inside)):
        yield f"rCE leaves out {', '.join(undefined)}, which do not raise the error of {baseline.source}"


def _perturbation_limits(sets: Sets) -> Iterator[str]:
    perturbations = [name for name in PERTURBATIONS if name in sets.perturbations]
    if perturbations and (missing := [name for name in PERTURBATIONS if name not in perturbations]):
        yield (
            f"mFP is over {len(perturbations)} of the {len(PERTURBATIONS)} perturbations; missing: "
            f"{', '.join(missing)}"
        )
    sequences = min(map(len, sets.perturbations.values()), default=sets.tested)
    if sequences < sets.tested:
        yield f"the sequences cover the first {sequences} of the {sets.tested} test images"
