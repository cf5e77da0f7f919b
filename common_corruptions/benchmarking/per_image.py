"""Predictions for single images, computed batch by batch, so that the logits of a whole set are never kept."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common_corruptions.evaluation import Net, default_batch_size, evaluating, outputs, predict_ranks
from common_corruptions.evaluation.answers import perturbation_metrics
from common_corruptions.logits import TIED, UndefinedLogits
from common_corruptions.sets.staging import Images, slices, staged

BLOCK_BYTES = 16 << 20  # of sequences read or made at a time; more if a batch needs more

Flip = tuple[str, str, str, float]


class Answers(NamedTuple):
    """Predictions for N images: the classes (N,), and their softmax probabilities (N,) float32, the confidence.

    `no_confidence` says why the confidence is undefined and therefore NaN; otherwise it is "".
    """

    predicted: np.ndarray
    confidence: np.ndarray
    no_confidence: str


def answer_images(
    net: Net,
    images: Images,
    labels: np.ndarray,
    classes: int | None = None,
    advance: Callable[[int], object] = lambda count: None,
    **options: Any,
) -> Answers:
    """Predict the classes of images.

    Args:
        net, options: as for `common_corruptions.evaluation.predict`.
        images, labels: uint8 (N, H, W, C), and their classes (N,).
        classes: the number of classes of the data; None if it is not known.
        advance: called with the number of images of each batch.

    Raises:
        TypeError, ValueError: as `predict`; a net with too few classes for the labels, or with a number of classes
            other than `classes`.
        UndefinedLogits: a ValueError; a logit that is NaN, or several classes whose highest logit is the same infinity.
    """
    # Allocated once: small results between the large tensors of each batch would keep the allocator from freeing the
    # large ones.
    predicted = confidence = extremes = torch.empty(0)
    start = 0
    with evaluating(net):
        for logits in outputs(net, images, **options):
            stop = start + len(logits)
            _check_classes(logits.shape[1], labels, classes)
            with torch.inference_mode():
                if start == 0:
                    predicted = torch.empty(len(images), dtype=torch.int32, device=logits.device)
                    confidence = torch.empty(len(images), device=logits.device)
                    extremes = torch.full((4,), -math.inf, device=logits.device)
                best = logits.argmax(1, keepdim=True)
                predicted[start:stop] = best[:, 0]
                confidence[start:stop] = logits.softmax(1).amax(1)
                torch.maximum(extremes, _extremes(logits, logits.gather(1, best)), out=extremes)
            advance(len(logits))
            start = stop
    low, most, least_top, away = extremes.tolist()
    if math.isnan(low):
        raise UndefinedLogits
    if most > 1 or least_top == math.inf:
        raise UndefinedLogits(TIED)
    reason = ""
    if most or math.isinf(low):
        reason = "a logit is not finite"
    elif low <= 0 and away < 1e-3:
        reason = "the net returns probabilities; let it return their logarithm"
    sure = confidence.cpu().numpy()
    return Answers(predicted.cpu().numpy(), np.full_like(sure, math.nan) if reason else sure, reason)


def _check_classes(found: int, labels: np.ndarray, classes: int | None) -> None:
    """Raise ValueError unless the number of classes that a net returns fits the data."""
    if classes is not None and found != classes:
        raise ValueError(
            f"the net returns {found} classes, but the data has {classes}; call net.eval() and give a function "
            f"that selects those of the data, in its order (folders: sorted): lambda x: net(x)[:, [...]]"
        )
    if labels.max() >= found:
        raise ValueError(f"label {labels.max()} for logits of {found} classes")


def _extremes(logits: Tensor, top: Tensor) -> Tensor:
    """Minus the lowest logit, or NaN; most +inf in a row; minus the lowest top; largest distance of a row's sum from 1.

    Args:
        logits: (n, K).
        top: (n, 1) the highest logit of each row, -inf if all are.
    """
    return torch.stack(
        [
            -logits.amin(),
            (logits == math.inf).sum(1).amax().float(),
            -top.amin(),
            (logits.sum(1) - 1).abs().amax(),
        ]
    )


def answer_sequences(
    net: Net,
    name: str,
    sequences: Images,
    advance: Callable[[int], object] = lambda count: None,
    **options: Any,
) -> tuple[np.ndarray, list[Flip]]:
    """Predicted classes (N, T), and rows (perturbation, protocol, metric, value) over all sequences.

    Args:
        net, options: as for `common_corruptions.evaluation.predict`.
        name: the perturbation.
        sequences: uint8 (N, T, H, W, C).
        advance: called with the number of frames processed.

    Raises:
        TypeError, ValueError: as `common_corruptions.evaluation.predict_ranks`.
    """
    predicted = np.empty(sequences.shape[:2], np.int32)
    weights: list[int] = []
    rows: list[list[Flip]] = []
    for block in staged(sequences, _blocks(sequences, **options), "cpu"):
        ranks = predict_ranks(net, block.flatten(0, 1).numpy(), **options).reshape(*block.shape[:2], -1)
        predicted[sum(weights) : sum(weights) + len(block)] = ranks.argmin(2)
        weights.append(len(block))
        rows.append(perturbation_metrics(name, ranks))
        advance(len(block) * block.shape[1])
    means = np.average([[row[-1] for row in part] for part in rows], axis=0, weights=weights)
    return predicted, [(*row[:-1], float(mean)) for row, mean in zip(rows[0], means, strict=True)]


def _blocks(sequences: Images, **options: Any) -> Iterator[slice]:
    frames, one = sequences.shape[1], math.prod(sequences.shape[1:])
    batch = options.get("batch_size") or default_batch_size(options.get("device") or "cpu")
    return slices(len(sequences), max(1, BLOCK_BYTES // one, -(-batch // frames)))
