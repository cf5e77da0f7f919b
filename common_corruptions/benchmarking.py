"""The benchmark on a data set on disk, for any callable net: errors by corruption, flips by perturbation."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from common_corruptions.any_net import Session, adapt
from common_corruptions.baseline_table import as_baseline
from common_corruptions.folders import Sets, open_sets
from common_corruptions.measuring import measure_errors, measure_flips
from common_corruptions.onnx_runtime import for_many
from common_corruptions.recipes.names import (
    CORRUPTIONS,
    MAIN_CORRUPTIONS,
    PERTURBATIONS,
    SEVERITIES,
)
from common_corruptions.summary import Baseline, summarise, undefined_relative


def benchmark(
    net: Any,
    folder: str | Path,
    *,
    corruptions: Iterable[str] | None = None,
    perturbations: Iterable[str] | None = None,
    baseline: Baseline | Mapping[str, float] | str | Path | None = None,
    logits: str | int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
):
    """Measure a net on the corruptions and perturbations found in a folder, those of your own (`corruption`) too.

    Args:
        net: takes floats (n, C, H, W) and returns logits (n, K), K >= 2: a Module, an `onnxruntime.InferenceSession` or
            any callable.
        folder: CIFAR-10-C or CIFAR-10-P as published, `<corruption>.npy` with `labels.npy` or `<perturbation>.npy`; or
            `clean/test_{images,labels}.npy`, `c/<corruption>.npy`, `p/<perturbation>.npy`, where one of `c` and `p` may
            be missing, and `clean` where `c/labels.npy` is there. Where `c` or `p` holds a `labels.npy` it must repeat
            the labels of the test images; sequences of the first images alone need one.
        corruptions, perturbations: measure these alone; [] for none.
        baseline: normalises mCE and rCE, which are not there without one: "alexnet-cifar10", the paper's, for
            CIFAR-10-C alone; or errors of your own in percent, a dict {corruption: error, ..., "clean": error} or a CSV
            file with the columns name and error, or with a table as it is returned here.
        logits: where the net returns a tuple, a dict or the like: their place, key or attribute.
        mean, std, batch_size, device: as for `common_corruptions.evaluation.predict`.
        progress: show a bar.

    Returns:
        (table, summary): a pandas DataFrame with one row a measurement (kind, name, severity, protocol, metric,
        value; errors in percent, flip probabilities as fractions), and a dict as `summarise` makes it, with
        `corruptions` and `perturbations`, the numbers of the benchmark's that were found, before, and the figures of
        `common_corruptions.measuring.measure_errors`, intervals and ECE, after. A corruption of your own has its rows,
        and is in none of the means. Without clean images there is no E_clean and no rCE.

    Warns:
        UserWarning: of a net that the faster ONNX Runtime does not take, so that torch evaluates it; of all that keeps
            a figure from being the benchmark's own: no clean images, corruptions or perturbations that are missing, or
            your own; files of other names, sequences of a part of the images, corruptions without rCE, no ECE.

    Raises:
        FileNotFoundError: neither corruptions nor perturbations, one asked for that is not there, or no labels.
        ValueError: an unknown name, a file that is damaged or does not fit the others, or a baseline that lacks a
            corruption, before anything is measured; and as `predict` and the metrics.
        TypeError: as `predict`, `common_corruptions.any_net.adapt` and `common_corruptions.baseline_table.as_baseline`.
        RuntimeError: ONNX Runtime gives other logits than torch, as `common_corruptions.onnx_runtime.Exported`.
    """
    import pandas as pd  # here alone, so that the corruptions and metrics do without pandas

    net, baseline = adapt(net, logits), as_baseline(baseline)
    # Hours may pass before a file or a baseline is used, so both are tried now.
    sets = open_sets(folder, corruptions, perturbations)
    found = {
        "corruptions": sum(name in CORRUPTIONS for name in sets.corruptions),
        "perturbations": sum(name in PERTURBATIONS for name in sets.perturbations),
    }
    _check_baseline(baseline, sets)
    for limit in _limits(Path(folder), sets, baseline):
        warnings.warn(f"{folder}: {limit}", stacklevel=2)
    options = {"mean": mean, "std": std, "batch_size": batch_size, "device": device}
    total = len(sets.corruptions) * len(SEVERITIES) + len(sets.perturbations)
    with tqdm(total=total, unit="set", desc=Path(folder).name, disable=not progress) as bar:
        images = sum(map(len, sets.corruptions.values()))
        images += 0 if sets.clean is None else len(sets.labels)
        errors, figures, no_ece = measure_errors(_fastest(net, images, device), sets, bar, **options)
        frames = sum(len(one) * one.shape[1] for one in sets.perturbations.values())
        flips = measure_flips(_fastest(net, frames, device), sets, bar, **options)
    if no_ece:
        warnings.warn(f"{folder}: there is no ECE: {no_ece}", stacklevel=2)
    rows = [("corruption", name, severity, None, "error", value) for name, severity, value in errors]
    rows += [("perturbation", name, None, protocol, metric, value) for name, protocol, metric, value in flips]
    table = pd.DataFrame(rows, columns=["kind", "name", "severity", "protocol", "metric", "value"])
    return table.astype({"severity": "Int64"}), found | summarise(errors, flips, baseline) | figures


def _check_baseline(baseline: Baseline | None, sets: Sets) -> None:
    """ValueError unless the baseline has what the means of these sets need."""
    relative = sets.clean is not None and len(sets.corruptions) > 0
    if baseline is not None and relative and math.isnan(baseline.clean):
        raise ValueError(f"{baseline.source} lacks the error on clean images, named clean, which rCE needs")
    names = [*(["clean"] if relative else []), *sets.corruptions]
    summarise([(name, 0, 0.0) for name in names], [], baseline)


def _fastest(net: Any, images: int, device: torch.device | str | None) -> Any:
    return net if isinstance(net, Session) else for_many(net, images, device)


def _limits(folder: Path, sets: Sets, baseline: Baseline | None) -> Iterator[str]:
    """What keeps figures measured in the folder from being the benchmark's own, a sentence each."""
    if sets.others:
        names = ", ".join(str(path.relative_to(folder)) for path in sets.others)
        yield f"{len(sets.others)} files that are named like no corruption or perturbation are left out: {names}"
    if sets.clean is None and sets.corruptions:
        yield "there are no clean images, and so no E_clean and no rCE"
    own = [name for name in sets.corruptions if name not in CORRUPTIONS]
    corruptions = [name for name in CORRUPTIONS if name in sets.corruptions]
    perturbations = [name for name in PERTURBATIONS if name in sets.perturbations]
    if own:
        yield f"E_corr, mCE and rCE leave out what is no corruption of the benchmark: {', '.join(own)}"
    if corruptions and (missing := [name for name in CORRUPTIONS if name not in corruptions]):
        main = "" if {*MAIN_CORRUPTIONS} <= {*corruptions} else ", and there is no mCE_15 and no rCE_15"
        yield (
            f"E_corr, mCE and rCE are over {len(corruptions)} of the {len(CORRUPTIONS)} corruptions{main}; missing: "
            f"{', '.join(missing)}"
        )
    if (
        sets.clean is not None
        and baseline is not None
        and (undefined := undefined_relative(baseline, corruptions))
    ):
        yield f"rCE leaves out {', '.join(undefined)}, which do not raise the error of {baseline.source}"
    if perturbations and (missing := [name for name in PERTURBATIONS if name not in perturbations]):
        yield (
            f"mFP is over {len(perturbations)} of the {len(PERTURBATIONS)} perturbations; missing: "
            f"{', '.join(missing)}"
        )
    if sets.clean is None:
        return
    images = len(sets.clean.images)
    sequences = min(map(len, sets.perturbations.values()), default=images)
    for what, count in (("corrupted images", len(sets.labels)), ("sequences", sequences)):
        if count < images:
            yield f"the {what} are of the first {count} of the {images} test images"
