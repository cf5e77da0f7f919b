"""The benchmark on a data set on disk, for any callable net: errors by corruption, flips by perturbation."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from common_corruptions.answers import measure_corruptions, measure_perturbations
from common_corruptions.evaluation import Net
from common_corruptions.recipes.names import (
    CORRUPTIONS,
    MAIN_CORRUPTIONS,
    PERTURBATIONS,
    SEVERITIES,
)
from common_corruptions.recipes.registry import added
from common_corruptions.sets import open_clean, open_corruptions, open_perturbations, other_files
from common_corruptions.summary import PUBLISHED_ALEXNET, Baseline, summarise, undefined_relative


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
    """Measure a net on every corruption and perturbation found in a folder, those of your own (`corruption`) too.

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
        `corruptions` and `perturbations`, the numbers of the benchmark's that were found, before. A corruption of
        your own has its rows, and is in none of the means.

    Warns:
        UserWarning: of a net that the faster ONNX Runtime does not take, so that torch evaluates it; of all that keeps
            a figure from being the benchmark's own: corruptions or perturbations that are missing, or your own; files
            of other names, sequences of a part of the images, corruptions without rCE.

    Raises:
        FileNotFoundError: no clean test images, or neither corruptions nor perturbations.
        ValueError: a file that is damaged or does not fit the clean test images, or a baseline that lacks a corruption,
            before anything is measured; and as `predict` and the metrics.
        TypeError: as `predict`.
        RuntimeError: ONNX Runtime gives other logits than torch, as `common_corruptions.onnx_runtime.Exported`.
    """
    import pandas as pd  # here alone, so that the corruptions and metrics do without pandas

    folder = Path(folder)
    if baseline is None and folder.resolve().name == "cifar10":
        baseline = PUBLISHED_ALEXNET
    own, corruptions = (
        [name for name in names if (folder / "c" / f"{name}.npy").exists()]
        for names in (added(), CORRUPTIONS)
    )
    perturbations = [name for name in PERTURBATIONS if (folder / "p" / f"{name}.npy").exists()]
    if not corruptions and not own and not perturbations:
        raise FileNotFoundError(f"no c/<corruption>.npy and no p/<perturbation>.npy in {folder}")
    # Hours may pass before a file or a baseline is used, so both are tried now.
    clean = open_clean(folder)
    stacks = open_corruptions(folder, [*corruptions, *own], clean)
    sequences = open_perturbations(folder, perturbations, clean=clean)
    summarise([(name, 0, 0.0) for name in ("clean", *corruptions)], [], baseline)
    images = len(clean.images)
    used = {
        "corrupted images": min(map(len, stacks.values()), default=len(SEVERITIES) * images)
        // len(SEVERITIES),
        "sequences": min(map(len, sequences.values()), default=images),
    }
    for limit in _limits(folder, corruptions, own, perturbations, used, images, baseline):
        warnings.warn(f"{folder}: {limit}", stacklevel=2)
    options = {"mean": mean, "std": std, "batch_size": batch_size, "device": device}
    total = (len(corruptions) + len(own)) * len(SEVERITIES) + len(perturbations)
    with tqdm(total=total, unit="set", desc=folder.name, disable=not progress) as bar:
        errors = []
        for row in measure_corruptions(net, folder, [*corruptions, *own], **options):
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
    own: Sequence[str],
    perturbations: Sequence[str],
    used: dict[str, int],
    images: int,
    baseline: Baseline | None,
) -> Iterator[str]:
    """What keeps figures measured in the folder from being the benchmark's own, a sentence each."""
    if others := other_files(folder):
        names = ", ".join(str(path.relative_to(folder)) for path in others)
        yield f"{len(others)} files that are named like no corruption or perturbation are left out: {names}"
    if own:
        yield f"E_corr, mCE and rCE leave out what is no corruption of the benchmark: {', '.join(own)}"
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
    for what, count in used.items():
        if count < images:
            yield f"the {what} are of the first {count} of the {images} test images"
