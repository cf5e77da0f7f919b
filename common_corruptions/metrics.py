"""Metrics of the CIFAR-10-C and CIFAR-10-P benchmarks, on whole arrays.

Corruption robustness follows Strisciuglio et al. 2020 (section 4.2.2): classification error, corruption
error (CE, eq. 1) and relative corruption error (rCE, eq. 2), both normalised by a baseline network and
averaged over corruptions as a mean of ratios. Perturbation robustness follows Hendrycks and Dietterich
2019: flip probability, top-5 distance and Zipf distance between the frames of a sequence.

Errors are in percent; flip probabilities are fractions. Arrays may be numpy arrays, torch tensors on any
device, or nested lists; all are computed in numpy, which takes milliseconds for a whole benchmark set.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from common_corruptions.baseline import ALEXNET_CLEAN_ERROR, ALEXNET_ERRORS
from common_corruptions.recipes.names import SEVERITIES

Protocol: TypeAlias = Literal["hendrycks", "official"]
PROTOCOLS: tuple[Protocol, ...] = ("hendrycks", "official")
"""Which frames of a noise sequence are compared: as the benchmark defines it, or as its authors' script did."""

Errors: TypeAlias = Mapping[str, float | Sequence[float]]

# Percent by which a corruption must raise the baseline's error to have an rCE. Means of the same errors can differ by
# rounding; one more error in a million images is a hundred times this.
LEAST_RISE = 1e-6

_TOP = 5
_BLOCK = 1 << 15  # elements worked on at a time: their temporaries stay in the processor's cache
_FEW_CLASSES = 32  # up to here comparing all pairs of classes beats sorting (several times over for 10)


# Corruptions


def classification_error(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Share of wrong predictions, in percent.

    predictions: class indices (N,), or logits (N, K), whose largest value is the prediction (the lowest
    class index among equals). labels: class indices (N,).
    Raises ValueError for other shapes, no images, NaN, values that are no class index.
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
    the five values. The default baseline is the paper's AlexNet and holds for CIFAR-10-C alone.
    corruptions: which to use, in this order; by default all of `errors`.
    Raises ValueError for a missing corruption, a value outside 0..100, a baseline error of zero.
    """
    names = _selection(errors, corruptions)
    own, reference = _mean_errors(errors, names, "error"), _mean_errors(baseline, names, "baseline error")
    _require_positive(names, reference, "the baseline makes no error")
    return dict(zip(names, (100.0 * own / reference).tolist(), strict=True))


def mean_corruption_error(
    errors: Errors, baseline: Errors = ALEXNET_ERRORS, corruptions: Iterable[str] | None = None
) -> float:
    """mCE in percent: the mean over corruptions of `corruption_error`, whose arguments it takes.

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
    the clean test set, in percent; baseline_clean has a default for the default baseline alone. The ratios are
    averaged, not the errors.
    Raises ValueError as `corruption_error` does, for another baseline without its clean error, and where a
    corruption does not raise the baseline's error: the ratio is then undefined, and that corruption has to be
    left out by `corruptions`.
    """
    if baseline_clean is None:
        if baseline is not ALEXNET_ERRORS:
            raise ValueError("this baseline's own error on clean images is needed: baseline_clean")
        baseline_clean = ALEXNET_CLEAN_ERROR
    names = _selection(errors, corruptions)
    own, reference = _mean_errors(errors, names, "error"), _mean_errors(baseline, names, "baseline error")
    clean = _percent(float(clean_error), "clean_error")
    reference_clean = _percent(float(baseline_clean), "baseline_clean")
    rise = reference - reference_clean
    _require_positive(names, rise, "the baseline is no worse than on clean images", LEAST_RISE)
    return float(np.mean(100.0 * (own - clean) / rise))


# Perturbations


def flip_probability(
    predictions: ArrayLike, *, noise: bool = False, protocol: Protocol = "hendrycks"
) -> float:
    """Fraction of frames whose predicted class differs from the reference frame's.

    predictions: class indices (N, T) of N sequences of T >= 2 frames, or logits (N, T, K).
    noise: whether the perturbation is a noise, whose frames follow no order. The reference is then the
    first frame, otherwise the previous one (Hendrycks and Dietterich 2019).
    protocol: "official" takes the previous frame for noises too, as the released figures of
    Strisciuglio et al. do.
    """
    reference, frame = _frame_pairs(class_indices(predictions, "predictions", 2), noise, protocol)
    return float(np.mean(reference != frame))


def ordinal_ranks(logits: ArrayLike) -> np.ndarray:
    """Ordinal rank of every class, 1 for the highest logit; among equal logits the lower class index first.

    logits: (..., K), floating point or signed integers. Returns the same shape in the smallest unsigned
    integer type that holds K. Raises ValueError for NaN.
    """
    logits = as_array(logits)
    if logits.ndim == 0 or 0 in logits.shape:
        raise ValueError(f"logits have shape {logits.shape}; expected (..., K)")
    if logits.dtype.kind not in "fi":
        raise ValueError(f"logits have type {logits.dtype}; expected floating point or signed integers")
    classes = logits.shape[-1]
    rows = logits.reshape(-1, classes)
    ranks = np.empty(rows.shape, np.min_scalar_type(classes))
    for block in _blocks(len(rows), classes):
        if np.isnan(rows[block]).any():
            raise ValueError("logits contain NaN")
        ranks[block] = (
            _rank_by_pairs(rows[block]) if classes <= _FEW_CLASSES else _rank_by_sorting(rows[block])
        )
    return ranks.reshape(logits.shape)


def top5_distance(
    logits: ArrayLike, *, noise: bool = False, protocol: Protocol = "hendrycks", ranked: bool = False
) -> float:
    """Mean top-5 distance between each frame and its reference frame (Hendrycks and Dietterich 2019).

    A class at rank i <= 5 of the reference and rank s of the frame adds the number of the places 1..5
    that lie between the two, |i - min(s, 6)|. It ranges from 0 to 15.
    logits: (N, T, K), T >= 2 frames, K >= 5 classes; with `ranked` the result of `ordinal_ranks` on them,
    which saves ranking twice where both distances are wanted. noise, protocol: as for `flip_probability`.
    Raises ValueError for other shapes, NaN, ranks without `ranked`, values that are no ranks.
    """
    counts = _rank_pair_counts(logits, noise, protocol, ranked)
    classes = len(counts)
    if classes < _TOP:
        raise ValueError(f"top-5 distance needs at least {_TOP} classes, got {classes}")
    i, s = np.arange(1, _TOP + 1)[:, None], np.arange(1, classes + 1)
    return float(np.sum(counts[:_TOP] * np.abs(i - np.minimum(s, _TOP + 1))) / counts[0].sum())


def zipf_distance(
    logits: ArrayLike, *, noise: bool = False, protocol: Protocol = "hendrycks", ranked: bool = False
) -> float:
    """Mean Zipf distance between each frame and its reference frame (Hendrycks and Dietterich 2019).

    A class at rank i of the reference and rank s of the frame adds |1/i - 1/s| / i, so changes among the
    likeliest classes weigh most. Arguments and errors as for `top5_distance`, with K >= 2.
    """
    counts = _rank_pair_counts(logits, noise, protocol, ranked)
    weight = 1.0 / np.arange(1, len(counts) + 1)
    distance = np.abs(weight[:, None] - weight) * weight[:, None]
    return float(np.sum(counts * distance) / counts[0].sum())


def mean_flip_probability(flips: Mapping[str, float], perturbations: Iterable[str] | None = None) -> float:
    """mFP: the plain mean over perturbations of the flip probability, a fraction.

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


# Ranks and frames


def _rank_by_pairs(rows: np.ndarray) -> np.ndarray:
    """Ordinal ranks of (M, K) logits: one plus the number of classes that come before.

    Each class is compared with all later ones, in passes over contiguous memory.
    """
    logits = np.ascontiguousarray(rows.T)
    classes = len(logits)
    ranks = np.ones(logits.shape, np.min_scalar_type(classes))
    for i in range(classes - 1):
        later_wins = logits[i + 1 :] > logits[i]
        ranks[i] += later_wins.sum(axis=0, dtype=ranks.dtype)
        ranks[i + 1 :] += ~later_wins
    return ranks.T


def _rank_by_sorting(rows: np.ndarray) -> np.ndarray:
    """Ordinal ranks of (M, K) logits by a stable sort."""
    classes = rows.shape[1]
    # An ascending stable sort of the reversed row, read backwards, is descending with ties in class order.
    order = classes - 1 - np.argsort(rows[:, ::-1], axis=1, kind="stable")[:, ::-1]
    ranks = np.empty(rows.shape, np.min_scalar_type(classes))
    np.put_along_axis(ranks, order, np.arange(1, classes + 1, dtype=ranks.dtype)[None], axis=1)
    return ranks


def _rank_pair_counts(logits: ArrayLike, noise: bool, protocol: Protocol, ranked: bool) -> np.ndarray:
    """Count (K, K), over all frames, how often a class of rank i in the reference has rank s in the frame."""
    sequences = as_array(logits)
    if sequences.ndim != 3 or sequences.shape[2] < 2 or sequences.size == 0:
        raise ValueError(f"logits have shape {sequences.shape}; expected (N, T, K), N >= 1, K >= 2")
    if sequences.dtype.kind == "u" and not ranked:
        raise ValueError("unsigned integers are no logits; for ranks pass ranked=True")
    _, frames, classes = sequences.shape
    side = classes + 1  # ranks count from 1; row and column 0 stay empty
    counts = np.zeros(side * side, np.int64)
    for block in _blocks(len(sequences), frames * classes, max(_BLOCK, counts.size)):
        ranks = _checked_ranks(sequences[block]) if ranked else ordinal_ranks(sequences[block])
        reference, frame = _frame_pairs(ranks, noise, protocol)
        counts += np.bincount((reference.astype(np.intp) * side + frame).ravel(), minlength=side * side)
    return counts.reshape(side, side)[1:, 1:]


def _frame_pairs(frames: np.ndarray, noise: bool, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Reference frames and the frames compared with them, of (N, T, ...), shaped to broadcast together."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; expected 'hendrycks' or 'official'")
    if frames.shape[1] < 2:
        raise ValueError(f"sequences have {frames.shape[1]} frame; a comparison needs at least 2")
    against_first = noise and protocol == "hendrycks"
    return frames[:, :1] if against_first else frames[:, :-1], frames[:, 1:]


def _blocks(rows: int, row_size: int, size: int = _BLOCK) -> Iterator[slice]:
    step = max(1, size // row_size)
    return (slice(start, start + step) for start in range(0, rows, step))


# Checks


def as_array(values: ArrayLike) -> np.ndarray:
    torch = sys.modules.get("torch")  # not loaded, there is no tensor
    if torch and isinstance(values, torch.Tensor):
        tensor: Any = values
        tensor = tensor.detach().cpu()
        # numpy has no bfloat16; float32 holds its values exactly
        values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return np.asarray(values)


def class_indices(values: ArrayLike, what: str, ndim: int) -> np.ndarray:
    """Class indices with `ndim` axes, from themselves or (for predictions) from logits with one axis more."""
    array = as_array(values)
    expected = "(N,)" if ndim == 1 else "(N, T)"
    if array.size == 0:
        raise ValueError(f"{what} are empty: shape {array.shape}")
    if array.ndim == ndim + 1 and what == "predictions":
        if array.dtype.kind not in "fi":
            raise ValueError(f"logits have type {array.dtype}; expected floating point or signed integers")
        if array.shape[-1] < 2:
            raise ValueError(f"logits have shape {array.shape}; expected at least 2 classes on the last axis")
        if np.isnan(array).any():
            raise ValueError("logits contain NaN")
        classes: np.ndarray = array.argmax(axis=-1)
        return classes
    if array.ndim != ndim:
        raise ValueError(f"{what} have shape {array.shape}; expected {expected}")
    if array.dtype.kind not in "iu" or array.min() < 0:
        raise ValueError(f"{what} of shape {expected} are class indices: integers from 0; got {array.dtype}")
    return array


def _checked_ranks(ranks: np.ndarray) -> np.ndarray:
    classes = ranks.shape[-1]
    if ranks.dtype.kind not in "iu":
        raise ValueError(f"ranks have type {ranks.dtype}; expected integers, as from ordinal_ranks")
    in_range = ranks.min() >= 1 and ranks.max() <= classes
    # Sums of random 64-bit keys tell other ranks from these, and are found much faster than the ranks are sorted.
    keys = np.random.default_rng(0).integers(1 << 63, size=classes + 1)
    if not in_range or np.any(keys[ranks].sum(axis=-1) != keys[1:].sum()):
        raise ValueError(f"not ordinal ranks: every frame needs each of 1..{classes} once")
    return ranks


def _selection(values: Mapping[str, object], names: Iterable[str] | None) -> list[str]:
    if isinstance(names, str):
        raise TypeError(f"give several names, such as [{names!r}], not one string")
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
