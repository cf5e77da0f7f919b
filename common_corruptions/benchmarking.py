"""The benchmark on a data set on disk, for any callable net: errors by corruption, flips by perturbation."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from common_corruptions.evaluation import Net, predict, predict_ranks
from common_corruptions.metrics import (
    classification_error,
    flip_probability,
    top5_distance,
    zipf_distance,
)
from common_corruptions.recipes.names import (
    CORRUPTIONS,
    MAIN_CORRUPTIONS,
    NOISE_PERTURBATIONS,
    PERTURBATIONS,
    SEVERITIES,
)
from common_corruptions.sets import open_clean, open_corruptions, open_perturbations, other_files
from common_corruptions.summary import PROTOCOLS, PUBLISHED_ALEXNET, Baseline, summarise, undefined_relative

T = TypeVar("T")


def benchmark(
    net: Net,
    folder: str | Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    baseline: Baseline | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
):
    """Measure a net on every corruption and perturbation found in a folder.

    Args:
        net, mean, std, batch_size, device: as for `common_corruptions.evaluation.predict`.
        folder: a data set in the form of CIFAR-10-C: `clean/test_{images,labels}.npy`, `c/<corruption>.npy`,
            `p/<perturbation>.npy`; without `c` or without `p` that half is left out. Where `c` or `p` holds a
            `labels.npy` it must repeat the labels of the test images; sequences of the first images alone need one.
        baseline: normalises mCE and rCE; for a folder named cifar10 the paper's AlexNet, elsewhere none, and then
            there is no mCE and no rCE.
        progress: show a bar.

    Returns:
        (table, summary): a pandas DataFrame with one row a measurement (kind, name, severity, protocol, metric,
        value; errors in percent, flip probabilities as fractions), and a dict as `summarise` makes it, with
        `corruptions` and `perturbations`, the numbers of those found, before.

    Warns:
        UserWarning: of all that keeps a figure from being the benchmark's own: corruptions or perturbations that are
            missing, files of other names, sequences of a part of the images, corruptions without rCE.

    Raises:
        FileNotFoundError: no clean test images, or neither corruptions nor perturbations.
        ValueError: a file that is damaged or does not fit the clean test images, or a baseline that lacks a corruption,
            before anything is measured; and as `predict` and the metrics.
        TypeError: as `predict`.
    """
    import pandas as pd  # here alone, so that the corruptions and metrics do without pandas

    folder = Path(folder)
    if baseline is None and folder.resolve().name == "cifar10":
        baseline = PUBLISHED_ALEXNET
    corruptions = [name for name in CORRUPTIONS if (folder / "c" / f"{name}.npy").exists()]
    perturbations = [name for name in PERTURBATIONS if (folder / "p" / f"{name}.npy").exists()]
    if not corruptions and not perturbations:
        raise FileNotFoundError(f"no c/<corruption>.npy and no p/<perturbation>.npy in {folder}")
    # Hours may pass before a file or a baseline is used, so both are tried now.
    clean = open_clean(folder)
    open_corruptions(folder, corruptions, clean)
    sequences = open_perturbations(folder, perturbations, clean=clean)
    summarise([(name, 0, 0.0) for name in ("clean", *corruptions)], [], baseline)
    perturbed = min(map(len, sequences.values()), default=len(clean.images))
    for limit in _limits(folder, corruptions, perturbations, perturbed, len(clean.images), baseline):
        warnings.warn(f"{folder}: {limit}", stacklevel=2)
    options = {"mean": mean, "std": std, "batch_size": batch_size, "device": device}
    total = len(corruptions) * len(SEVERITIES) + len(perturbations)
    with tqdm(total=total, unit="set", desc=folder.name, disable=not progress) as bar:
        errors = []
        for row in measure_corruptions(net, folder, corruptions, **options):
            errors.append(row)
            bar.update(row[0] != "clean")
        flips = []
        for rows in measure_perturbations(net, folder, perturbations, **options):
            flips += rows
            bar.update()
    rows = [("corruption", name, severity, None, "error", value) for name, severity, value in errors]
    rows += [("perturbation", name, None, protocol, metric, value) for name, protocol, metric, value in flips]
    table = pd.DataFrame(rows, columns=["kind", "name", "severity", "protocol", "metric", "value"])
    found = {"corruptions": len(corruptions), "perturbations": len(perturbations)}
    return table.astype({"severity": "Int64"}), found | summarise(errors, flips, baseline)


def _limits(
    folder: Path,
    corruptions: Sequence[str],
    perturbations: Sequence[str],
    perturbed: int,
    images: int,
    baseline: Baseline | None,
) -> Iterator[str]:
    """What keeps figures measured in the folder from being the benchmark's own, a sentence each."""
    if others := other_files(folder):
        names = ", ".join(str(path.relative_to(folder)) for path in others)
        yield f"{len(others)} files that are named like no corruption or perturbation are left out: {names}"
    if corruptions and (missing := [name for name in CORRUPTIONS if name not in corruptions]):
        main = "" if {*MAIN_CORRUPTIONS} <= {*corruptions} else ", and there is no mCE_15 and no rCE_15"
        yield (
            f"E_corr, mCE and rCE are over {len(corruptions)} of the {len(CORRUPTIONS)} corruptions{main}; missing: "
            f"{', '.join(missing)}"
        )
    if baseline is not None and (undefined := undefined_relative(baseline, corruptions)):
        yield f"rCE leaves out {', '.join(undefined)}, which do not raise the error of {baseline.source}"
    if perturbations and (missing := [name for name in PERTURBATIONS if name not in perturbations]):
        yield (
            f"mFP is over {len(perturbations)} of the {len(PERTURBATIONS)} perturbations; missing: "
            f"{', '.join(missing)}"
        )
    if perturbed < images:
        yield f"the sequences are of the first {perturbed} of the {images} test images"


def measure_corruptions(
    net: Net, folder: Path, corruptions: Iterable[str], **options: Any
) -> Iterator[tuple[str, int, float]]:
    """(corruption, severity, error in percent) of `net`, ("clean", 0, error) first.

    Args and errors as for `predict_corruptions`.
    """
    labels = open_clean(folder).labels
    for name, severity, logits in predict_corruptions(net, folder, corruptions, **options):
        yield name, severity, classification_error(logits, labels)


def predict_corruptions(
    net: Net, folder: Path, corruptions: Iterable[str], **options: Any
) -> Iterator[tuple[str, int, np.ndarray]]:
    """(corruption, severity, logits (N, K) float32) of `net` on the N test images, ("clean", 0, logits) first.

    Args:
        net, options: as for `common_corruptions.evaluation.predict`.
        folder: with `clean/` and `c/`.
        corruptions: which files of `c/` to read, each once.

    Raises:
        FileNotFoundError, ValueError: as `common_corruptions.sets.open_corruptions`, before anything is measured.
    """
    clean = open_clean(folder)
    stacks = open_corruptions(folder, corruptions, clean)
    yield "clean", 0, predict(net, clean.images, **options)
    for name, stacked in stacks.items():
        logits = predict(net, stacked, sets=len(SEVERITIES), **options)
        for severity, part in zip(SEVERITIES, np.split(logits, len(SEVERITIES)), strict=True):
            yield name, severity, part


def measure_perturbations(
    net: Net, folder: Path, perturbations: Iterable[str], count: int | None = None, **options: Any
) -> Iterator[list[tuple[str, str, str, float]]]:
    """For each perturbation its (perturbation, protocol, metric, value): three metrics in both protocols.

    Args and errors as for `rank_perturbations`.
    """
    for name, ranks in rank_perturbations(net, folder, perturbations, count, **options):
        yield perturbation_metrics(name, ranks)


def rank_perturbations(
    net: Net, folder: Path, perturbations: Iterable[str], count: int | None = None, **options: Any
) -> Iterator[tuple[str, np.ndarray]]:
    """(perturbation, ordinal ranks (N, T, K) of the classes in every frame), 1 for the predicted class.

    On a GPU the next perturbation is on its way while the caller works on this one.

    Args:
        net, options: as for `common_corruptions.evaluation.predict_ranks`.
        folder: with `p/`.
        perturbations: which files of `p/` to read, each once.
        count: sequences to use, the first ones; by default all.

    Raises:
        FileNotFoundError, ValueError: as `common_corruptions.sets.open_perturbations`, before anything is measured.
    """
    opened = open_perturbations(folder, perturbations, count)

    def ranked(name: str) -> tuple[str, np.ndarray]:
        sequences = opened[name]
        ranks = predict_ranks(net, sequences.reshape(-1, *sequences.shape[2:]), **options)
        return name, ranks.reshape(*sequences.shape[:2], -1)

    yield from _ahead(ranked, perturbations) if _on_gpu(net, options) else map(ranked, perturbations)


def _ahead(call: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
    """`call(name)` of each name, the next one in a thread while the caller works on this one."""
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
    if device is None and isinstance(net, nn.Module):
        device = next((parameter.device for parameter in net.parameters()), None)
    return device is not None and torch.device(device).type == "cuda"


def perturbation_metrics(name: str, ranks: np.ndarray) -> list[tuple[str, str, str, float]]:
    """(perturbation, protocol, metric, value) in both protocols; no top-5 distance below five classes.

    Args:
        name: the perturbation, which decides the reference frame.
        ranks: (N, T, K) as `rank_perturbations` yields them.
    """
    predictions = ranks.argmin(2)
    rows = []
    for protocol in PROTOCOLS:
        frames = {"noise": name in NOISE_PERTURBATIONS, "protocol": protocol}
        rows += [
            (name, protocol, "flip_probability", flip_probability(predictions, **frames)),
            (name, protocol, "zipf_distance", zipf_distance(ranks, ranked=True, **frames)),
        ]
        if ranks.shape[2] >= 5:
            rows.append((name, protocol, "top5_distance", top5_distance(ranks, ranked=True, **frames)))
    return rows


def answer_corruptions(
    net: nn.Module, folder: Path, names: Iterable[str], bar: tqdm, **options: Any
) -> tuple[list[tuple[str, int, float]], np.ndarray]:
    """(corruption, severity, error in percent) of each of M sets, and the logits (M, N, K) behind them.

    Args and errors as for `predict_corruptions`; the bar moves by one for each set.
    """
    labels = open_clean(folder).labels
    rows, logits = [], []
    for name, severity, answers in predict_corruptions(net, folder, names, **options):
        rows.append((name, severity, classification_error(answers, labels)))
        logits.append(answers)
        bar.update()
    return rows, np.stack(logits)


def answer_perturbations(
    net: nn.Module, folder: Path, names: Iterable[str], count: int | None, bar: tqdm, **options: Any
) -> tuple[list[tuple[str, str, str, float]], dict[str, np.ndarray]]:
    """(perturbation, protocol, metric, value), and by perturbation the predicted classes (N, T) behind them.

    Args and errors as for `rank_perturbations`; the bar moves by one for each perturbation.
    """
    rows, frames = [], {}
    for name, ranks in rank_perturbations(net, folder, names, count, **options):
        rows += perturbation_metrics(name, ranks)
        frames[name] = ranks.argmin(2)
        bar.update()
    return rows, frames
