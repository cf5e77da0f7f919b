"""The benchmark of any callable net, on a folder or on images: errors by corruption, flips by perturbation."""

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
    """Measure a net on corruptions and perturbations, those of your own (`corruption`) too.

    Args:
        net: takes floats (n, C, H, W) and returns logits (n, K), K >= 2: a Module, an `onnxruntime.InferenceSession` or
            any callable. All of a Module is in eval mode meanwhile; of the nets in any other callable call `eval()`
            yourself.
        data: one of these, told apart by what stands in a folder, and never by its name:

            - CIFAR-10-C or CIFAR-10-P as published, `<corruption>.npy` with `labels.npy` or `<perturbation>.npy`;
            - a folder with `clean/test_{images,labels}.npy`, `c/<corruption>.npy`, `p/<perturbation>.npy`, where one of
              `c` and `p` may be missing, and `clean` where `c/labels.npy` is there. Where `c` or `p` holds a
              `labels.npy` it must repeat the labels of the test images; sequences of the first images alone need one;
            - ImageNet-C as published, `<corruption>/<severity>/<class>/<image>`, or with the corruptions in the folders
              `noise`, `blur`, `weather`, `digital` and `extra`, and with clean images in `clean/<class>` if there are;
            - clean images in `<class>/<image>`; a map-style data set of them, such as torchvision's, whose items are
              (image, label), or dicts with both, and whose transforms neither draw nor normalise; or (images, labels),
              images in any form that `corrupt` takes: what is corrupted or perturbed is made from them batch by batch,
              the same bytes as made at once.

            The images of a folder must have one size. Its classes, sorted by name, are the labels.
        corruptions, perturbations: measure these alone; [] for none. By default all that a folder has, and of clean
            images the 19 corruptions and no perturbation.
        severities: of the corruptions, by default all five; without one of them there is no mCE and no rCE.
        seed: of what is made from clean images, by default 0.
        scale: whose constants corruptions made from clean images have, "cifar" or "imagenet"; by default the images'
            size decides, as in `common_corruptions.corrupt`.
        baseline: normalises mCE and rCE, which are not there without one: "alexnet-cifar10", the paper's, for
            CIFAR-10-C alone; "alexnet-imagenet", for ImageNet-C alone, over its main 15 corruptions; or errors of your
            own in percent, a dict {corruption: error, ..., "clean": error} or a CSV file with the columns name and
            error, or with a table as it is returned here.
        answers: a folder in which the answers to every image are kept (`kept` has the form). What is there already of
            the same net, images, normalisation and choice of logits is not measured again, so that a run that was
            killed goes on. A Module is known by its structure and weights, files by their names, sizes and times of
            change, arrays and items by their bytes, what is made by its seed and recipe; the net must also give the
            same logits for four images, and eight images of each set must be the same.
        name: what the net is called, with `answers`: where it is a function, its earlier answers are used if it has a
            name and they are of this name and `batch_size`. Give it another name when the function changes.
        logits: where the net returns a tuple, a dict or the like: their place, key or attribute.
        mean, std, batch_size, device: as for `common_corruptions.evaluation.predict`.
        progress: show a bar.

    Returns:
        (table, summary): a pandas DataFrame with one row a measurement (kind, name, severity, protocol, metric,
        value; errors in percent, flip probabilities as fractions), whose `attrs["data"]` says what was measured; and a
        dict as `summarise` makes it, with `corruptions` and `perturbations`, the numbers of the benchmark's that were
        measured, and `images`, the number of test images, before, and the figures of `measuring.measure_errors`,
        intervals and ECE, after. A corruption of your own has its rows, and is in none of the means. Without clean
        images there is no E_clean and no rCE.

    Warns:
        UserWarning: of a function with a module in training mode, as `any_net.adapt`; of a net that the faster ONNX
            Runtime does not take, so that torch evaluates it; of all that keeps a figure from being the benchmark's
            own: no clean images, corruptions, severities or perturbations that are missing, or your own; files of other
            names, or among image files others that are not read; sequences of a part of the images, a baseline of
            images of another size or without its clean error, corruptions without rCE, no ECE; and of answers that
            cannot be used again.

    Raises:
        FileNotFoundError: neither corruptions nor perturbations, one asked for that is not there, or no labels.
        ValueError: an unknown name, a file that is damaged or does not fit the others, or a baseline that lacks a
            corruption, before anything is measured; an image that is damaged or of another size when it is read; and as
            `predict` and the metrics.
        TypeError: as `predict`, `any_net.adapt` and `baseline_table.as_baseline`.
        DifferentLogits: a RuntimeError; ONNX Runtime gives other logits than torch, as
            `common_corruptions.evaluation.onnx_runtime.Exported`.
    """
    _check_pandas()
    adapted, baseline = adapt(net, logits), as_baseline(baseline)
    # Hours may pass before a file or a baseline is used, so both are tried now.
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
    # For all at once, so that it is exported once.
    fastest: Net = (
        for_many(adapted, sets.images, device) if callable(net) else adapted
    )  # an ONNX session is not
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
    """ModuleNotFoundError that says what to install, unless pandas is there; nothing but `benchmark` needs it."""
    try:
        import pandas  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            what_to_install("benchmark", "benchmark", error), name=error.name
        ) from error


def _numbers(sets: Sets) -> dict[str, float]:
    """Of how many corruptions and perturbations of the benchmark's, and of how many test images, the sets are."""
    return {
        "corruptions": sum(one in CORRUPTIONS for one in sets.corruptions),
        "perturbations": sum(one in PERTURBATIONS for one in sets.perturbations),
        "images": len(sets.labels) or max(map(len, sets.perturbations.values())),
    }


def _table(errors: list[Error], flips: list[Flip]) -> "pd.DataFrame":
    import pandas as pd  # here alone, so that the corruptions and metrics do without pandas

    rows: list[tuple[object, ...]] = [
        ("corruption", one, severity, None, "error", value) for one, severity, value in errors
    ]
    rows += [("perturbation", one, None, protocol, metric, value) for one, protocol, metric, value in flips]
    table = pd.DataFrame(rows, columns=["kind", "name", "severity", "protocol", "metric", "value"])
    return table.astype({"severity": "Int64"})


def _check_baseline(baseline: Baseline, sets: Sets) -> None:
    """ValueError unless the baseline has what the means of these sets need."""
    relative = sets.clean is not None and len(sets.corruptions) > 0
    names = [*(["clean"] if relative else []), *sets.corruptions]
    summarise([(name, 0, 0.0) for name in names], [], baseline)


def _reusable(keeping: Keeping, sets: Sets, label: str) -> set[str]:
    """The places of the answers that need not be found again; what is said of others is one line."""
    reusable, others = keeping.reusable(sets)
    if not keeping.net:
        warnings.warn(
            f"{label}: the net is a function, of which it cannot be known whether it is the same in another run, so "
            f"all is measured anew; to go on after a kill give it a name, and another when it changes",
            stacklevel=3,
        )
    elif others:
        warnings.warn(
            f"{label}: {others} of the files in {keeping.folder} are of another net, of other images or of other "
            f"options, and are measured anew",
            stacklevel=3,
        )
    return reusable
