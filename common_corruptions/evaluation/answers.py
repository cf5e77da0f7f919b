"""Evaluate a net on the sets of a folder: logits and errors by corruption, ranks and flips by perturbation."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from common_corruptions.evaluation.onnx_runtime import for_many
from common_corruptions.evaluation.prediction import Net, predict, predict_ranks, tensors_of
from common_corruptions.logits import naming_set
from common_corruptions.metrics import (
    PROTOCOLS,
    classification_error,
    flip_probability,
    top5_distance,
    zipf_distance,
)
from common_corruptions.recipes.names import (
    NOISE_PERTURBATIONS,
    SEVERITIES,
)
from common_corruptions.sets.on_disk import (
    Clean,
    corrupted_ones,
    open_clean,
    open_corruptions,
    open_perturbations,
)
from common_corruptions.sets.staging import count_frames

T = TypeVar("T")


def predict_corruptions(
    net: Net, folder: Path, corruptions: Iterable[str], **options: Any
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield (corruption, severity, logits (N, K) float32) of `net`, with ("clean", 0, logits) first.

    The N test images are those of the corrupted sets: all, or the first ones.

    Args:
        net, options: as for `common_corruptions.evaluation.predict`.
        folder: with `clean/` and `c/`.
        corruptions: which files of `c/` to read, each once.

    Raises:
        FileNotFoundError, ValueError: as `sets.on_disk.open_corruptions`, before anything is measured.
    """
    clean, stacks = _open_stacks(folder, corruptions)
    net = for_many(net, len(clean.images) + sum(map(len, stacks.values())), options.get("device"))
    yield "clean", 0, predict(net, clean.images, **options)
    for name, stacked in stacks.items():
        logits = predict(net, stacked, sets=len(SEVERITIES), **options)
        for severity, part in zip(SEVERITIES, np.split(logits, len(SEVERITIES)), strict=True):
            yield name, severity, part


def rank_perturbations(
    net: Net, folder: Path, perturbations: Iterable[str], count: int | None = None, **options: Any
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (perturbation, ordinal ranks (N, T, K) of the classes in every frame), where rank 1 is the predicted class.

    On a GPU the next perturbation is computed while the caller works on the current one.

    Args:
        net, options: as for `common_corruptions.evaluation.predict_ranks`.
        folder: with `p/`.
        perturbations: which files of `p/` to read, each once.
        count: number of sequences to use, the first ones; by default all.

    Raises:
        FileNotFoundError, ValueError: as `sets.on_disk.open_perturbations`, before anything is measured.
        UndefinedLogits: a ValueError that names the set; the net returns NaN or tied infinities.
    """
    opened = open_perturbations(folder, perturbations, count)
    net = for_many(net, count_frames(opened.values()), options.get("device"))

    def ranked(name: str) -> tuple[str, np.ndarray]:
        sequences = opened[name]
        with naming_set(name):
            ranks = predict_ranks(net, sequences.reshape(-1, *sequences.shape[2:]), **options)
        return name, ranks.reshape(*sequences.shape[:2], -1)

    yield from _ahead(ranked, opened) if _on_gpu(net, options) else map(ranked, opened)


def _ahead(call: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
    """Yield `call(name)` for each name, computing the next one in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as worker:
        waiting: Future[T] | None = None
        try:
            for name in names:
                before, waiting = waiting, worker.submit(call, name)
                if before is not None:
                    yield before.result()
            if waiting is not None:
                yield waiting.result()
        finally:
            if waiting is not None:
                waiting.cancel()


def _on_gpu(net: Net, options: Mapping[str, Any]) -> bool:
    device = options.get("device")
    if device is None:
        device = next((one.device for one in tensors_of(net)), None)
    return device is not None and torch.device(device).type == "cuda"


def count_images(
    folder: Path, corruptions: Iterable[str], perturbations: Iterable[str], count: int | None = None
) -> int:
    """Number of images a net has to process in a folder: clean ones (as many as are corrupted), corrupted ones, frames.

    Arguments and errors are as for `predict_corruptions` and `rank_perturbations`.
    """
    clean, stacks = _open_stacks(folder, corruptions)
    frames = count_frames(open_perturbations(folder, perturbations, count).values())
    return len(clean.images) + sum(map(len, stacks.values())) + frames


def _open_stacks(folder: Path, corruptions: Iterable[str]) -> tuple[Clean, dict[str, np.ndarray]]:
    """The clean images that are used, and the array of each corruption."""
    clean = open_clean(folder)
    stacks = open_corruptions(folder, corruptions, clean)
    return corrupted_ones(clean, stacks), stacks


def perturbation_metrics(name: str, ranks: np.ndarray) -> list[tuple[str, str, str, float]]:
    """(perturbation, protocol, metric, value) in both protocols; no top-5 distance below five classes.

    Args:
        name: the perturbation, which decides the reference frame.
        ranks: (N, T, K) as `rank_perturbations` yields them.
    """
    predictions = ranks.argmin(2)
    noise = name in NOISE_PERTURBATIONS
    rows: list[tuple[str, str, str, float]] = []
    for protocol in PROTOCOLS:
        flips = flip_probability(predictions, noise=noise, protocol=protocol)
        zipf = zipf_distance(ranks, noise=noise, protocol=protocol, ranked=True)
        rows += [(name, protocol, "flip_probability", flips), (name, protocol, "zipf_distance", zipf)]
        if ranks.shape[2] >= 5:
            top5 = top5_distance(ranks, noise=noise, protocol=protocol, ranked=True)
            rows.append((name, protocol, "top5_distance", top5))
    return rows


def answer_corruptions(
    net: Net, folder: Path, names: Iterable[str], bar: tqdm, **options: Any
) -> tuple[list[tuple[str, int, float]], np.ndarray]:
    """(corruption, severity, error in percent) for each of M sets, and their logits (M, N, K).

    Arguments and errors are as for `predict_corruptions`; the bar advances by one per set.

    Raises:
        UndefinedLogits: a ValueError that names the set; the net returns NaN or tied infinities.
    """
    labels = open_clean(folder).labels
    rows, logits = [], []
    for name, severity, answers in predict_corruptions(net, folder, names, **options):
        with naming_set(name, severity):
            error = classification_error(answers, labels[: len(answers)])
        rows.append((name, severity, error))
        logits.append(answers)
        bar.update()
    return rows, np.stack(logits)


def answer_perturbations(
    net: Net, folder: Path, names: Iterable[str], count: int | None, bar: tqdm, **options: Any
) -> tuple[list[tuple[str, str, str, float]], dict[str, np.ndarray]]:
    """(perturbation, protocol, metric, value), and by perturbation the predicted classes (N, T).

    Arguments and errors are as for `rank_perturbations`; the bar advances by one per perturbation.
    """
    rows, frames = [], {}
    for name, ranks in rank_perturbations(net, folder, names, count, **options):
        rows += perturbation_metrics(name, ranks)
        frames[name] = ranks.argmin(2)
        bar.update()
    return rows, frames
