"""Stage `official`: measure the authors' checkpoints in the same way as our own nets."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pandas as pd
from tqdm import tqdm

from common_corruptions.recipes.names import SEVERITIES
from stages.files import workspace
from stages.files.datasets import DATASETS, load_split, naming_stage_corrupt
from stages.files.interruption import stopping
from stages.files.measurements import AUTHORS, registry_name
from stages.files.params import load_params
from stages.files.predictions import PREDICTIONS, Logits, save_frames, save_logits
from stages.files.schema import Params
from stages.files.writing import write_csv

if TYPE_CHECKING:
    from torch import nn

    from common_corruptions.evaluation import Net


@click.command()
@stopping("resumes after the last net measured")
def main() -> None:
    """Measure every checkpoint under official.path and write metrics/<data>/official/; without a path, empty tables.

    The predictions for single images go to predictions/<data>/official/.
    """
    params = load_params()
    (PREDICTIONS / params.data.name / "official").mkdir(parents=True, exist_ok=True)
    if params.official.path:
        measure_and_write(params, checkpoints(params))
    else:
        write_tables(params, [], [])


def write_tables(params: Params, corruption: list[tuple], perturbation: list[tuple]) -> None:
    folder = Path("metrics") / params.data.name / "official"
    columns = ["net", "seed", "corruption", "severity", "error"]
    write_csv(folder / "corruption.csv", pd.DataFrame(corruption, columns=columns))
    columns = ["net", "seed", "perturbation", "protocol", "metric", "value"]
    write_csv(folder / "perturbation.csv", pd.DataFrame(perturbation, columns=columns))


def measure_and_write(params: Params, found: Mapping[str, Path]) -> None:
    """Measure the nets, given as name -> file, and write their predictions and the tables."""
    # These import torch, which takes seconds; most users have no checkpoints and need none of it.
    from common_corruptions.evaluation import memory_format
    from common_corruptions.evaluation.answers import answer_corruptions, answer_perturbations, count_images
    from common_corruptions.evaluation.onnx_runtime import DifferentLogits, for_many
    from stages.files.devices import evaluation_device
    from stages.files.unfinished import Found, measured_once
    from training.normalisation import CIFAR_MEAN, CIFAR_STD

    data = params.data
    device = evaluation_device(params)
    options = {
        "mean": [value / 255 for value in CIFAR_MEAN],
        "std": [value / 255 for value in CIFAR_STD],
        "batch_size": params.evaluate.batch_size,
    }
    answers = PREDICTIONS / data.name / "official"
    corruption, perturbation = [], []
    names, flips = data.corruption_names(), data.perturbation_names()
    with naming_stage_corrupt():
        images = count_images(DATASETS / data.name, names, flips, data.perturbed_images)
    nets = {name: load(name, path) for name, path in found.items()}
    counts = 1 + len(names) * len(SEVERITIES), len(flips)  # sets per net
    with (
        measured_once("official", params, list(found.values())) as once,
        tqdm(total=len(found) * sum(counts), unit="set", desc="official") as bar,
    ):

        @functools.cache  # shared by both measurements, so that a net is exported once
        def ready(name: str) -> "Net":
            return for_many(nets[name].to(device, memory_format=memory_format(device)), images)

        def errors_of(name: str) -> Found:
            errors, logits = answer_corruptions(ready(name), DATASETS / data.name, names, bar, **options)
            return errors, {"logits": logits}

        def changes_of(name: str) -> Found:
            folder, count = DATASETS / data.name, data.perturbed_images
            return answer_perturbations(ready(name), folder, flips, count, bar, **options)

        for number, (name, path) in enumerate(found.items()):
            try:
                errors, own = once(f"{name}.corruption", errors_of, name)
                bar.update(number * sum(counts) + counts[0] - bar.n)  # counts sets of an earlier run
                changes, frames = once(f"{name}.perturbation", changes_of, name)
                bar.update((number + 1) * sum(counts) - bar.n)
            except (FileNotFoundError, ValueError, DifferentLogits) as error:
                raise click.ClickException(f"{path}: {error}") from None
            ready.cache_clear()
            corruption += [(f"{name} ({AUTHORS})", 0, *row) for row in errors]
            perturbation += [(f"{name} ({AUTHORS})", 0, *row) for row in changes]
            sets = [(condition, severity) for condition, severity, _ in errors]
            labels, logits = load_split(data.name, "test").labels, own["logits"]
            save_logits(
                answers / "corruption" / f"{name}.npz", Logits(labels[: logits.shape[1]], sets, {0: logits})
            )
            save_frames(answers / "perturbation" / f"{name}.npz", {0: frames})
        write_tables(params, corruption, perturbation)


def load(name: str, path: Path) -> "nn.Module":
    """Load the net of a checkpoint.

    Raises:
        click.ClickException: the checkpoint is not one of the authors', or not of the net that its name says; it
            would be compared with the wrong published figures.
    """
    from nets.official import load_official, official_name

    try:
        net = load_official(path)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path}: {error}") from None
    said, found = registry_name(name), official_name(net)
    if re.fullmatch(r"(resnet\d+|densenet\d+_\d+)(-pp)?", said) and said != found:
        raise click.ClickException(f"{path} is called {said}, but its tensors are of {found}; rename it")
    return net


def checkpoints(params: Params) -> dict[str, Path]:
    """Name -> file of every checkpoint below official.path, in the authors' layout: `<net>/checkpoint.pth.tar`.

    Raises:
        click.ClickException: no such folder, no checkpoint in it, or two checkpoints of the same name.
    """
    folder = workspace.below_root(params.official.path)
    files = sorted(folder.rglob("*.pth.tar"))
    if not files:
        raise click.ClickException(f"official.path: no <net>/checkpoint.pth.tar below {folder}")
    found: dict[str, Path] = {}
    for path in files:
        own = path.name.removesuffix(".pth.tar")
        name = path.parent.name if own == "checkpoint" else own
        if name in found:
            raise click.ClickException(
                f"official.path: two checkpoints are named {name}: {found[name]} and {path}"
            )
        found[name] = path
    return found


if __name__ == "__main__":
    main()
