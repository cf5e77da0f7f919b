"""Corruption robustness: errors in percent, normalised by a baseline network and averaged over corruptions.

Classification error, corruption error (CE, eq. 1) and relative corruption error (rCE, eq. 2) as in Strisciuglio et
al. 2020 (section 4.2.2), where means over corruptions are means of ratios; and the means of flip probabilities.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from common_corruptions.metrics.arrays import as_array, class_indices
from common_corruptions.metrics.baseline import ALEXNET_CLEAN_ERROR, ALEXNET_ERRORS
from common_corruptions.recipes.names import SEVERITIES

Errors: TypeAlias = Mapping[str, float | Sequence[float]]

# Least rise of the baseline's error, in percent, for which rCE is defined. Means of the same errors can differ by
# rounding; one more error in a million images is a hundred times this.
LEAST_RISE = 1e-6


# Corruptions


def classification_error(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Share of wrong predictions, in percent.

    predictions: class indices (N,), or logits (N, K), whose largest value is the prediction (the lowest
    class index among equals). labels: class indices (N,).
    Raises ValueError for other shapes, no images, or values that are not class indices; its subclass UndefinedLogits
    for NaN, and if the highest logit of an image is the same infinity for several classes.
    """
    labels = class_indices(labels, "labels", 1)
    logits = as_array(predictions)
    predicted = class_indices(logits, "predictions", 1)
    if len(predicted) != len(labels):
        raise ValueError(f"{len(predicted)} predictions for {len(labels)} labels")
    if logits.ndim == 2 and labels.max() >= logits.shape[1]:
        raise ValueError(f"label {labels.max()} for logits of {logits.shape[1]} classes")
    return 100.0 * float(np.mean(predicted != labels))


def corruption_error(
    errors: Errors, baseline: Errors = ALEXNET_ERRORS, corruptions: Iterable[str] | None = None
) -> dict[str, float]:
    """Corruption error of each corruption, in percent of the baseline's (eq. 1): 100 sum_s E_cs / sum_s B_cs.

    errors, baseline: error in percent for each corruption, either its mean over the five severities or
    the five values. The default baseline is the paper's AlexNet and is valid for CIFAR-10-C only.
    corruptions: which to use, in this order; by default all of `errors`.
    Raises ValueError for a missing corruption, a value outside 0..100, or a baseline error of zero.
    """
    names = _selection(errors, corruptions)
    own, reference = _mean_errors(errors, names, "error"), _mean_errors(baseline, names, "baseline error")
    _require_positive(names, reference, "the baseline makes no error")
    return dict(zip(names, (100.0 * own / reference).tolist(), strict=True))


def mean_corruption_error(
    errors: Errors, baseline: Errors = ALEXNET_ERRORS, corruptions: Iterable[str] | None = None
) -> float:
    """mCE in percent: the mean over corruptions of `corruption_error`, with the same arguments.

    The paper's table 3 averages all 19 corruptions (`corruptions=CORRUPTIONS`); the benchmark's own mCE
    averages 15 (`corruptions=MAIN_CORRUPTIONS`).
    """
    return float(np.mean(list(corruption_error(errors, baseline, corruptions).values())))


def relative_corruption_error(
    errors: Errors,
    clean_error: float,
    baseline: Errors = ALEXNET_ERRORS,
    baseline_clean: float | None = None,
    corruptions: Iterable[str] | None = None,
) -> float:
    """rCE in percent (eq. 2): the mean over corruptions of 100 (E_c - E_clean) / (B_c - B_clean).

    errors, baseline, corruptions: as for `corruption_error`; clean_error, baseline_clean: the errors on
    the clean test set, in percent; baseline_clean has a default for the default baseline only. The ratios are
    averaged, not the errors.
    Raises ValueError as `corruption_error` does, for another baseline without its clean error, and if a
    corruption does not raise the baseline's error: the ratio is then undefined, and `corruptions` has to leave out
    that corruption.
    """
    if baseline_clean is None:
        if baseline is not ALEXNET_ERRORS:
            raise ValueError("give baseline_clean, this baseline's own error on clean images")
        baseline_clean = ALEXNET_CLEAN_ERROR
    names = _selection(errors, corruptions)
    own, reference = _mean_errors(errors, names, "error"), _mean_errors(baseline, names, "baseline error")
    clean = _percent(float(clean_error), "clean_error")
    reference_clean = _percent(float(baseline_clean), "baseline_clean")
    rise = reference - reference_clean
    _require_positive(names, rise, "the baseline is no worse than on clean images", LEAST_RISE)
    return float(np.mean(100.0 * (own - clean) / rise))


# Means over perturbations


def mean_flip_probability(flips: Mapping[str, float], perturbations: Iterable[str] | None = None) -> float:
    """mFP: the unweighted mean over perturbations of the flip probability, a fraction.

    flips: flip probability of each perturbation; perturbations: which to use, by default all of `flips`.
    """
    return float(np.mean(_flip_values(flips, _selection(flips, perturbations), "flip probability")))


def mean_flip_rate(
    flips: Mapping[str, float],
    baseline: Mapping[str, float],
    perturbations: Iterable[str] | None = None,
) -> float:
    """mFR in percent: the mean over perturbations of 100 FP_p / FP_p of the baseline network.

    No flip probabilities of an AlexNet on CIFAR-10-P were published, so the baseline has no default: pass
    those of the AlexNet trained with the same data and protocol.
    """
    names = _selection(flips, perturbations)
    own = _flip_values(flips, names, "flip probability")
    reference = _flip_values(baseline, names, "baseline flip probability")
    _require_positive(names, reference, "the baseline never flips")
    return float(np.mean(100.0 * own / reference))


# Checks


def _selection(values: Mapping[str, object], names: Iterable[str] | None) -> list[str]:
    if isinstance(names, str):
        raise TypeError(f"give several names, such as [{names!r}], not one string")
    if not isinstance(values, Mapping):
        raise TypeError(f"give a dict of values by name, not a {type(values).__name__}")
    selected = list(values.keys() if names is None else names)
    if not selected:
        raise ValueError("nothing to average: no names given")
    if len(set(selected)) < len(selected):
        raise ValueError(f"a name is given twice in {', '.join(selected)}")
    return selected


def _require(values: Mapping[str, object], names: list[str], what: str) -> None:
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"no {what} for {', '.join(missing)}")


def _mean_errors(errors: Errors, names: list[str], what: str) -> np.ndarray:
    """Mean error over severities of each name, in percent."""
    _require(errors, names, what)
    means = []
    for name in names:
        if isinstance(errors[name], Mapping):
            raise TypeError(
                f"{what} of {name} is a dict; give its mean, or the {len(SEVERITIES)} severities in order"
            )
        values = as_array(errors[name])
        if values.shape not in ((), (len(SEVERITIES),)):
            raise ValueError(
                f"{what} of {name} has shape {values.shape}; expected its mean or {len(SEVERITIES)} severities"
            )
        means.append(_percent(values, f"{what} of {name}"))
    return np.array(means)


def _percent(values: ArrayLike, what: str) -> float:
    array = np.asarray(values, dtype=np.float64)
    if not np.all((array >= 0) & (array <= 100)):  # NaN fails both
        raise ValueError(f"{what} is {array}; expected percent, 0 to 100")
    return float(array.mean())


def _flip_values(flips: Mapping[str, float], names: list[str], what: str) -> np.ndarray:
    _require(flips, names, what)
    values = np.array([float(flips[name]) for name in names])
    for name, value in zip(names, values, strict=True):
        if not 0 <= value <= 1:
            raise ValueError(f"{what} of {name} is {value}; expected a fraction, 0 to 1")
    return values


def _require_positive(names: list[str], denominators: np.ndarray, why: str, least: float = 0) -> None:
    zero = [name for name, value in zip(names, denominators, strict=True) if value <= least]
    if zero:
        raise ValueError(f"cannot normalise {', '.join(zero)}: {why}")
