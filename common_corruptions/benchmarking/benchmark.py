"""The benchmark of any callable net on a folder or on images: errors by corruption, flips by perturbation."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from common_corruptions.benchmarking.any_net import adapt
from common_corruptions.benchmarking.baseline_table import as_baseline
from common_corruptions.benchmarking.kept import Keeping, keep
from common_corruptions.benchmarking.limits import limits, severities_of
from common_corruptions.benchmarking.measuring import Error, measure_errors, measure_flips
from common_corruptions.benchmarking.per_image import Flip
from common_corruptions.evaluation import Net
from common_corruptions.evaluation.onnx_runtime import for_many
from common_corruptions.needs import what_to_install
from common_corruptions.recipes.names import CORRUPTIONS, PERTURBATIONS, SEVERITIES
from common_corruptions.sets.any_data import open_data
from common_corruptions.sets.opened import Sets
from common_corruptions.summary import Baseline, summarise

if TYPE_CHECKING:
    import pandas as pd


def benchmark(
    net: Any,
    data: Any,
    *,
    corruptions: Iterable[str] | None = None,
    perturbations: Iterable[str] | None = None,
    severities: Iterable[int] | None = None,
    seed: int | None = None,
    scale: str | None = None,
    baseline: Baseline | Mapping[str, float] | str | Path | None = None,
    answers: str | Path | None = None,
    name: str | None = None,
    logits: str | int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> tuple["pd.DataFrame", dict[str, float]]:
    """Measure a net on corruptions and perturbations, including corruptions of your own (`corruption`).

    Args:
        net: takes floats (n, C, H, W) and returns logits (n, K), K >= 2: a Module, an `onnxruntime.InferenceSession` or
            any callable. A Module and its submodules are in eval mode meanwhile; for nets inside any other callable,
            call `eval()` yourself.
        data: one of these; the kind of a folder is recognised by its contents, never by its name:

            - CIFAR-10-C or CIFAR-10-P as published, `<corruption>.npy` with `labels.npy` or `<perturbation>.npy`;
            - a folder with `clean/test_{images,labels}.npy`, `c/<corruption>.npy`, `p/<perturbation>.npy`. One of `c`
              and `p` may be missing, and so may `clean` if there is a `c/labels.npy`. A `labels.npy` in `c` or `p` must
              repeat the labels of the test images; sequences of only the first images need one;
            - ImageNet-C as published, `<corruption>/<severity>/<class>/<image>`, or with the corruptions in the folders
              `noise`, `blur`, `weather`, `digital` and `extra`; clean images may lie in `clean/<class>`;
            - clean images, from which corrupted or perturbed ones are made batch by batch, with the same bytes as made
              at once: a folder `<class>/<image>`; a map-style data set, such as torchvision's, whose items are
              (image, label), or dicts with both, and whose transforms neither draw nor normalise; or (images, labels),
              with images in any form that `corrupt` takes.

            The images of a folder must all have the same size. Its classes, sorted by name, are the labels.
        corruptions, perturbations: measure only these; [] for none. By default all that a folder has, and for clean
            images the 19 corruptions and no perturbation.
        severities: of the corruptions, by default all five, which mCE and rCE need.
        seed: for sets made from clean images, by default 0.
        scale: whose constants to use for corruptions made from clean images, "cifar" or "imagenet"; by default the
            image size decides, as in `common_corruptions.corrupt`.
        baseline: errors that normalise mCE and rCE, which are left out without them: "alexnet-cifar10", the paper's,
            for CIFAR-10-C only; "alexnet-imagenet", for ImageNet-C only, over its main 15 corruptions; or your own
            errors in percent, as a dict {corruption: error, ..., "clean": error} or a CSV file with the columns name
            and error, or with a table as returned here.
        answers: a folder in which the prediction for every image is kept (`kept` describes the files). Predictions
            already there for the same net, images, normalisation and choice of logits are reused, so that an
            interrupted run resumes. A Module is identified by its structure and weights, files by their names, sizes
            and modification times, arrays and items by their bytes, generated sets by their seed and recipe. In
            addition, the net must give the same logits for four images, and eight images of each set must be the same.
        name: name of the net, for `answers`. The predictions of a function are reused only if it has a name and they
            were stored under this name and `batch_size`. Give it another name when the function changes.
        logits: index, key or attribute of the logits, if the net returns a tuple, a dict or the like.
        mean, std, batch_size, device: as for `common_corruptions.evaluation.predict`.
        progress: show a progress bar.

    Returns:
        (table, summary): table is a pandas DataFrame with one row per measurement (kind, name, severity, protocol,
        metric, value; errors in percent, flip probabilities as fractions), whose `attrs["data"]` describes what was
        measured. summary is the dict of `summarise`, preceded by `corruptions` and `perturbations`, the numbers of the
        benchmark's own that were measured, and `images`, the number of test images, and followed by the figures of
        `measuring.measure_errors`, intervals and ECE. Corruptions of your own have rows but are in none of the means.
        Without clean images there is no E_clean and no rCE.

    Warns:
        UserWarning: a function with a module in training mode, see `any_net.adapt`; a net that the faster ONNX Runtime
            cannot evaluate, so that torch does; anything that makes a figure differ from the full benchmark's: no clean
            images; corruptions, severities or perturbations that are missing or your own; files with other names, or
            unread files among image files; sequences of only a part of the images; a baseline for images of another
            size or without its clean error; corruptions without rCE; no ECE; and kept predictions that cannot be
            reused.

    Raises:
        FileNotFoundError: neither corruptions nor perturbations, a requested one that is missing, or no labels.
        ValueError: before anything is measured, an unknown name, a file that is damaged or does not fit the others, or
            a baseline that lacks a corruption; while images are read, one that is damaged or of another size; and as
            `predict` and the metrics.
        TypeError: as `predict`, `any_net.adapt` and `baseline_table.as_baseline`.
        DifferentLogits: a RuntimeError; the logits of ONNX Runtime and of torch differ, see
            `common_corruptions.evaluation.onnx_runtime.Exported`.
    """
    _check_pandas()
    adapted, baseline = adapt(net, logits), as_baseline(baseline)
    # Files and baseline are checked now, as hours may pass before they are used.
    sets = open_data(data, corruptions, perturbations, severities, seed, scale, progress)
    label = str(data) if isinstance(data, str | Path) else "the images given"
    if baseline is not None:
        _check_baseline(baseline, sets)
    for limit in limits(sets, baseline):
        warnings.warn(f"{label}: {limit}", stacklevel=2)
    options = {"mean": mean, "std": std, "batch_size": batch_size, "device": device}
    keeping: Keeping | None = None
    reusable: set[str] = set()
    if answers is not None:
        keeping = keep(Path(answers), net, adapted, name, sets, logits, **options)
        reusable = _reusable(keeping, sets, label)
    # Once for all sets, so that the net is exported once.
    fastest: Net = (
        for_many(adapted, sets.images, device) if callable(net) else adapted
    )  # an ONNX session is not callable
    with tqdm(
        total=sets.images, unit=" images", unit_scale=True, desc=Path(label).name, disable=not progress
    ) as bar:
        errors, figures, no_ece = measure_errors(fastest, sets, bar, keeping, reusable, **options)
        flips = measure_flips(fastest, sets, bar, keeping, reusable, **options)
    if no_ece:
        warnings.warn(f"{label}: there is no ECE: {no_ece}", stacklevel=2)
    table = _table(errors, flips)
    table.attrs["data"] = sets.source
    whole = severities_of(sets) == SEVERITIES
    return table, _numbers(sets) | summarise(errors, flips, baseline if whole else None) | figures


def _check_pandas() -> None:
    """Raise ModuleNotFoundError, saying what to install, unless pandas is installed; only `benchmark` needs it."""
    try:
        import pandas  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            what_to_install("benchmark", "benchmark", error), name=error.name
        ) from error


def _numbers(sets: Sets) -> dict[str, float]:
    """How many of the benchmark's corruptions and perturbations the sets have, and how many test images."""
    return {
        "corruptions": sum(one in CORRUPTIONS for one in sets.corruptions),
        "perturbations": sum(one in PERTURBATIONS for one in sets.perturbations),
        "images": len(sets.labels) or max(map(len, sets.perturbations.values())),
    }


def _table(errors: list[Error], flips: list[Flip]) -> "pd.DataFrame":
    import pandas as pd  # imported here, so that corruptions and metrics work without pandas

    rows: list[tuple[object, ...]] = [
        ("corruption", one, severity, None, "error", value) for one, severity, value in errors
    ]
    rows += [("perturbation", one, None, protocol, metric, value) for one, protocol, metric, value in flips]
    table = pd.DataFrame(rows, columns=["kind", "name", "severity", "protocol", "metric", "value"])
    return table.astype({"severity": "Int64"})


def _check_baseline(baseline: Baseline, sets: Sets) -> None:
    """Raise ValueError unless the baseline has the errors that the means over these sets need."""
    relative = sets.clean is not None and len(sets.corruptions) > 0
    names = [*(["clean"] if relative else []), *sets.corruptions]
    summarise([(name, 0, 0.0) for name in names], [], baseline)


def _reusable(keeping: Keeping, sets: Sets, label: str) -> set[str]:
    """The places of the predictions that can be reused; a single warning covers all others."""
    reusable, others = keeping.reusable(sets)
    if not keeping.net:
        warnings.warn(
            f"{label}: the net is a function, which cannot be recognised in another run, so everything is measured "
            f"again; to resume interrupted runs, give it a name, and a new one when it changes",
            stacklevel=3,
        )
    elif others:
        warnings.warn(
            f"{label}: {others} of the files in {keeping.folder} are for another net, other images or other options, "
            f"and are measured again",
            stacklevel=3,
        )
    return reusable
