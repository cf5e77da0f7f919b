"""Summarise the tidy measurements of a net: mean errors, mCE and rCE, mFP. Works without torch, for tables."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from common_corruptions.checks import LARGEST
from common_corruptions.metrics import (
    LEAST_RISE,
    mean_corruption_error,
    mean_flip_probability,
    relative_corruption_error,
)
from common_corruptions.metrics.baseline import (
    ALEXNET_CLEAN_ERROR,
    ALEXNET_ERRORS,
    IMAGENET_ALEXNET_CLEAN_ERROR,
    IMAGENET_ALEXNET_ERRORS,
)
from common_corruptions.recipes.names import (
    CORRUPTIONS,
    MAIN_CORRUPTIONS,
    PERTURBATIONS,
)


@dataclass(frozen=True)
class Baseline:
    """The net whose errors normalise CE and rCE: its error per corruption and on clean images, in percent.

    `clean` is NaN if it is not known; there is no rCE then. `over` are the corruptions that mCE and rCE average, as far
    as they are measured; the baseline must have an error for each of these. If known, `sides` are the sizes in pixels a
    side that its images may have, `scale` the constants of its corruptions, and `images` describes both in words.
    """

    errors: Mapping[str, float]
    clean: float
    source: str
    over: tuple[str, ...] = CORRUPTIONS
    images: str = ""
    sides: range | None = None
    scale: str | None = None


PUBLISHED_ALEXNET = Baseline(
    ALEXNET_ERRORS,
    ALEXNET_CLEAN_ERROR,
    "the paper's AlexNet (appendix 2)",
    images="of CIFAR-10-C, 32 x 32",
    sides=range(32, 33),
    scale="cifar",
)
IMAGENET_ALEXNET = Baseline(
    IMAGENET_ALEXNET_ERRORS,
    IMAGENET_ALEXNET_CLEAN_ERROR,
    "torchvision's AlexNet on ImageNet-C",
    over=MAIN_CORRUPTIONS,
    images="larger than 64 x 64",
    sides=range(65, LARGEST + 1),
    scale="imagenet",
)


def summarise(
    errors: Iterable[tuple[str, int, float]],
    flips: Iterable[tuple[str, str, str, float]],
    baseline: Baseline | None,
) -> dict[str, float]:
    """Summarise all measurements of a net as the paper (section 4.2.2) and its authors' repository do, in percent.

    Args:
        errors: (corruption, severity, error), with the error on clean images as ("clean", 0, error). Corruptions that
            are not the benchmark's are left out, so that the means stay comparable.
        flips: (perturbation, protocol, metric, value).
        baseline: normalises CE and rCE, which are left out without it.

    Returns:
        E_clean; E_corr, mCE, rCE over the benchmark's corruptions measured (mCE and rCE only over those in
        `baseline.over`), mCE_15 and rCE_15 over the main 15, if all of them are measured; mFP and mFP_official over the
        perturbations measured, without the stronger variants of the noises. rCE leaves out the corruptions of
        `undefined_relative`. Figures that cannot be computed are missing.

    Raises:
        ValueError: the baseline lacks a corruption, or an error is not in percent.
    """
    flips = list(flips)  # read once for each protocol
    by_name: dict[str, list[float]] = {}
    for name, _, error in errors:
        if name in ("clean", *CORRUPTIONS):
            by_name.setdefault(name, []).append(error)
    means = {name: float(np.mean(values)) for name, values in by_name.items()}
    clean = means.pop("clean", None)
    summary = {} if clean is None else {"E_clean": clean}
    if means:
        summary["E_corr"] = float(np.mean(list(means.values())))
    for suffix, wanted in (("", CORRUPTIONS), ("_15", MAIN_CORRUPTIONS)):
        names = [name for name in wanted if name in means and baseline is not None and name in baseline.over]
        if baseline is None or not names or (suffix and len(names) < len(wanted)):
            continue
        summary[f"mCE{suffix}"] = mean_corruption_error(means, baseline.errors, names)
        undefined = undefined_relative(baseline, names)
        if clean is not None and not math.isnan(baseline.clean) and len(undefined) < len(names):
            defined = [name for name in names if name not in undefined]
            rce = relative_corruption_error(means, clean, baseline.errors, baseline.clean, defined)
            summary[f"rCE{suffix}"] = rce
    for suffix, compared in (("", "hendrycks"), ("_official", "official")):
        values = {
            name: value
            for name, protocol, metric, value in flips
            if protocol == compared and metric == "flip_probability" and name in PERTURBATIONS
        }
        if values:
            summary[f"mFP{suffix}"] = 100 * mean_flip_probability(values)
    return summary


def undefined_relative(baseline: Baseline, corruptions: Iterable[str]) -> list[str]:
    """Corruptions that do not raise the baseline's error, so that rCE, which divides by this rise, is undefined."""
    return [name for name in corruptions if baseline.errors[name] - baseline.clean <= LEAST_RISE]
