"""Perturbation robustness: how a net's predictions change between the frames of a sequence.

Flip probability, top-5 distance and Zipf distance as defined by Hendrycks and Dietterich 2019, for arrays, tensors
or nested lists.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from common_corruptions.logits import check_defined
from common_corruptions.metrics.arrays import as_array, class_indices

Protocol: TypeAlias = Literal["hendrycks", "official"]
PROTOCOLS: tuple[Protocol, ...] = ("hendrycks", "official")
"""Which frames of a noise sequence are compared: as the benchmark defines it, or as its authors' script did."""

_TOP = 5
_BLOCK = 1 << 15  # elements processed at a time, so that temporaries stay in the processor's cache
_FEW_CLASSES = 32  # up to here comparing all pairs of classes is faster than sorting (several times for 10)


def flip_probability(
    predictions: ArrayLike, *, noise: bool = False, protocol: Protocol = "hendrycks"
) -> float:
    """Fraction of frames whose predicted class differs from the reference frame's.

    predictions: class indices (N, T) of N sequences of T >= 2 frames, or logits (N, T, K).
    noise: whether the perturbation is a noise, whose frames have no order. The reference is then the
    first frame, otherwise the previous one (Hendrycks and Dietterich 2019).
    protocol: "official" uses the previous frame for noises too, as the released figures of
    Strisciuglio et al. do.
    """
    reference, frame = _frame_pairs(class_indices(predictions, "predictions", 2), noise, protocol)
    return float(np.mean(reference != frame))


def ordinal_ranks(logits: ArrayLike) -> np.ndarray:
    """Ordinal rank of every class, 1 for the highest logit; ties are ranked by class index.

    logits: (..., K), floating point or signed integers. Returns the same shape in the smallest unsigned
    integer type that holds K. Raises ValueError (UndefinedLogits) for NaN, and for a tie of infinities at the top.
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
        check_defined(rows[block])
        ranks[block] = (
            _rank_by_pairs(rows[block]) if classes <= _FEW_CLASSES else _rank_by_sorting(rows[block])
        )
    return ranks.reshape(logits.shape)


def top5_distance(
    logits: ArrayLike, *, noise: bool = False, protocol: Protocol = "hendrycks", ranked: bool = False
) -> float:
    """Mean top-5 distance between each frame and its reference frame (Hendrycks and Dietterich 2019).

    A class at rank i <= 5 of the reference and rank s of the frame adds |i - min(s, 6)|, the number of the places 1..5
    that lie between the two. The distance ranges from 0 to 15.
    logits: (N, T, K), T >= 2 frames, K >= 5 classes; with `ranked` the result of `ordinal_ranks` on them,
    which avoids ranking twice if both distances are needed. noise, protocol: as for `flip_probability`.
    Raises ValueError for other shapes, NaN, ranks without `ranked`, or values that are not ranks.
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

    A class at rank i of the reference and rank s of the frame adds |1/i - 1/s| / i, so changes among the most
    probable classes weigh most. Arguments and errors as for `top5_distance`, with K >= 2.
    """
    counts = _rank_pair_counts(logits, noise, protocol, ranked)
    weight = 1.0 / np.arange(1, len(counts) + 1)
    distance = np.abs(weight[:, None] - weight) * weight[:, None]
    return float(np.sum(counts * distance) / counts[0].sum())


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
        raise ValueError("unsigned integers are not logits; for ranks pass ranked=True")
    _, frames, classes = sequences.shape
    side = classes + 1  # ranks count from 1; row and column 0 stay empty
    counts = np.zeros(side * side, np.int64)
    for block in _blocks(len(sequences), frames * classes, max(_BLOCK, counts.size)):
        ranks = _checked_ranks(sequences[block]) if ranked else ordinal_ranks(sequences[block])
        reference, frame = _frame_pairs(ranks, noise, protocol)
        counts += np.bincount((reference.astype(np.intp) * side + frame).ravel(), minlength=side * side)
    return counts.reshape(side, side)[1:, 1:]


def _frame_pairs(frames: np.ndarray, noise: bool, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Reference frames of (N, T, ...) and the frames compared with them, shaped to broadcast together."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; expected 'hendrycks' or 'official'")
    if frames.shape[1] < 2:
        raise ValueError(f"sequences have {frames.shape[1]} frame; a comparison needs at least 2")
    against_first = noise and protocol == "hendrycks"
    return frames[:, :1] if against_first else frames[:, :-1], frames[:, 1:]


def _blocks(rows: int, row_size: int, size: int = _BLOCK) -> Iterator[slice]:
    step = max(1, size // row_size)
    return (slice(start, start + step) for start in range(0, rows, step))


def _checked_ranks(ranks: np.ndarray) -> np.ndarray:
    classes = ranks.shape[-1]
    if ranks.dtype.kind not in "iu":
        raise ValueError(f"ranks have type {ranks.dtype}; expected integers, as from ordinal_ranks")
    in_range = ranks.min() >= 1 and ranks.max() <= classes
    # Sums of random 64-bit keys detect invalid ranks, and take much less time than sorting the ranks.
    keys = np.random.default_rng(0).integers(1 << 63, size=classes + 1)
    if not in_range or np.any(keys[ranks].sum(axis=-1) != keys[1:].sum()):
        raise ValueError(f"not ordinal ranks: every frame needs each of 1..{classes} once")
    return ranks
