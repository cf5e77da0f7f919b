"""What a GPU machine sent back becomes results of the pipeline: metrics/cifar10-jpeg-200/ and runs in MLflow.

The stages `aggregate` and `report` themselves make the tables and the report, in a folder beside the pipeline whose
params.yaml is that of the trainings; params.yaml of the repository, its DVC outputs and dvc.lock stay as they are.

    python -m benchmarks.gpu.home FOLDER... --data FOLDER
"""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch

from archives.form import save_clean
from archives.formats import ArchiveError
from archives.jpeg_set import read_jpeg_set
from benchmarks.gpu.answers import spread_answers
from benchmarks.gpu.joining import TABLES, join
from benchmarks.gpu.recipe import ALEXNET_LR, NORMALISER
from benchmarks.gpu.setting import BATCH_SIZE, DATA_FILE, DATA_NAME, EPOCHS, PUSHPULL, RECIPE
from benchmarks.gpu.table import markdown
from common_corruptions.generate import generate_corruptions, generate_perturbations
from common_corruptions.recipes.names import CORRUPTIONS
from nets.families import families
from stages import aggregate, corrupt, report
from stages.files import workspace
from stages.files.datasets import DATASETS, SAME_IMAGES, load_split, published_name
from stages.files.params import load_params
from stages.files.predictions import PREDICTIONS
from stages.files.schema import Params
from stages.files.trained import Trained
from stages.files.writing import write_csv, write_text
from stages.files.yaml_file import yaml_text
from stages.tracking import runs
from stages.tracking.recording import SECONDS
from stages.train import write_curves

SHARED = ("data", "datasets", "predictions")  # of the repository


@click.command(help=__doc__.split("\n\n")[0])
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help=f"Folder with {DATA_FILE}, for the pictures and the report.",
)
@click.option(
    "--name",
    default=f"{DATA_NAME}-{EPOCHS}",
    show_default=True,
    type=click.Choice([name for name in (DATA_NAME, *SAME_IMAGES) if published_name(name) == DATA_NAME]),
    help="Of the results: those of another name stay as they are.",
)
def main(folders: tuple[Path, ...], data: Path, name: str) -> None:
    """FOLDERS hold what calls sent back, each of other seeds; what the last one measured besides trainings counts."""
    for folder in folders:
        check_sent(folder, joined=len(folders) > 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = folders[0].absolute()
        if len(folders) > 1:
            folder = Path(temporary) / "joined"
            try:
                join(folders, folder)
            except ValueError as error:
                raise click.ClickException(str(error)) from None
        bring(folder, data.absolute(), name)


def check_sent(folder: Path, joined: bool) -> None:
    """Check that a folder is what a call sent back, and whole enough to be joined with others if it is to be.

    Raises:
        click.ClickException: what is wrong with it.
    """
    if not (folder / "results.json").is_file():
        raise click.ClickException(f"{folder} lacks results.json, which every call writes")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if results["dry_run"]:
        raise click.ClickException(f"{folder} holds a dry run, whose figures mean nothing")
    missing = [name for name in TABLES if not (folder / name).is_file()]
    if missing and joined:
        raise click.ClickException(
            f"{folder} lacks {', '.join(missing)}; to be joined it has to hold trainings"
        )
    if not missing and (untold := {"device", "way", "runs"} - results["parts"].get("recipe", {}).keys()):
        raise click.ClickException(
            f"{folder} holds nets of whose training results.json does not tell {', '.join(sorted(untold))}"
        )


def bring(folder: Path, data: Path, name: str) -> None:
    """Make results of the pipeline, under this name, of what a call sent back."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if missing := [name for name in TABLES if not (folder / name).is_file()]:
        click.echo(
            f"{write_speeds(results)}: what was measured; metrics/{name} stays, {folder} lacks {', '.join(missing)}, "
            f"which the parts recipe and evaluation write"
        )
        return
    here = Path.cwd()
    device = results["parts"]["recipe"]["device"]
    place = prepare_workspace(here, folder, results, name)
    try:
        splits = read_jpeg_set(data / DATA_FILE)
    except ArchiveError as error:
        raise click.ClickException(str(error)) from None
    os.chdir(place)
    try:
        params = load_params()
        save_clean(DATASETS / name / "clean", splits)
        take_measurements(folder, params)
        draw_pictures(place, name)
        record(params, folder, results, device)
        aggregate.main.callback()
        report.main.callback()
        write_text(Path("metrics") / name / "gpu.md", markdown(results))
    finally:
        os.chdir(here)
    metrics = Path("metrics") / name
    shutil.rmtree(metrics, ignore_errors=True)  # tables of nets that these results do not have
    shutil.move(place / metrics, metrics)
    shutil.rmtree(place)
    click.echo(f"metrics/{name}: results of {device}; its speeds are in {write_speeds(results)}")


def write_speeds(results: dict[str, Any]) -> Path:
    """Write all figures to the file of the card that gave them; of parts that found nothing, those there stay."""
    device = next((part["device"] for part in results["parts"].values() if "device" in part), None)
    if device is None:
        raise click.ClickException("results.json names no device: no part that measures one has run")
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    target = Path("benchmarks") / "results" / f"gpu-{name}.json"
    parts = json.loads(target.read_text(encoding="utf-8"))["parts"] if target.exists() else {}
    parts |= {part: row for part, row in results["parts"].items() if row.keys() - {"status", "seconds"}}
    write_text(target, json.dumps(results | {"parts": parts}, indent=1) + "\n")
    return target


def prepare_workspace(here: Path, folder: Path, results: dict[str, Any], name: str) -> Path:
    """A folder with params.yaml of the trainings, where the stages find the rest of the repository, `here`."""
    place = workspace.scratch() / "gpu-home"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for shared in SHARED:
        (here / shared).mkdir(exist_ok=True)
        (place / shared).symlink_to(here / shared)
    history = pd.read_csv(folder / "history.csv")
    measured = pd.read_csv(folder / "corruption.csv").groupby("net", sort=False).seed.unique()
    seeds = {net: sorted(map(int, found)) for net, found in measured.items()}
    if not seeds:
        raise click.ClickException(f"{folder} holds no measured net")
    for net, found in history.groupby("net", sort=False).seed.unique().items():
        if unmeasured := sorted(set(found) - set(seeds.get(net, []))):
            click.echo(f"{net}, seed {', '.join(map(str, unmeasured))}: trained, not measured, and left out")
    write_text(place / "params.yaml", yaml_text(parameters(results, seeds, history, name)))
    return place


def parameters(
    results: dict[str, Any], seeds: dict[str, list[int]], history: pd.DataFrame, name: str
) -> dict[str, Any]:
    """What params.yaml would have held, had the pipeline trained these nets."""
    every = sorted({seed for own in seeds.values() for seed in own})
    precision, _, _ = results["parts"]["recipe"]["way"].split()
    nets: dict[str, dict[str, Any]] = {}
    for net, own in seeds.items():
        changes = {"lr": ALEXNET_LR} if net == NORMALISER else {}
        changes |= {"seeds": own} if own != every else {}
        block = "pushpull" if PUSHPULL[net] else "conv"
        arch = net.removesuffix("-pp")
        nets[net] = {"block": block, "arch": arch, "family": families()[arch]} | (
            {"train": changes} if changes else {}
        )
    return {
        "data": {"name": name, "corrupted": "generate", "seed": 0},
        "train": {
            **RECIPE,
            "epochs": int(history.epoch.max()),
            "batch_size": BATCH_SIZE,
            "seeds": every,
            "precision": precision,
        },
        "evaluate": {"batch_size": 1000},
        "official": {},
        "nets": nets,
        "conv": {},
        "pushpull": {"layers": "first"},
    }


def take_measurements(folder: Path, params: Params) -> None:
    """Write the files that the stages train and evaluate would have written."""
    name = params.data.name
    metrics = Path("metrics") / name
    history = pd.read_csv(folder / "history.csv")
    for kind in ("corruption", "perturbation"):
        rows = pd.read_csv(folder / f"{kind}.csv")
        for net in params.nets:
            write_csv(metrics / kind / f"{net}.csv", rows[rows.net == net])
    for net in params.nets:
        write_curves(
            metrics, net, history[(history.net == net) & history.seed.isin(params.training(net).seeds)]
        )
    if (folder / "answers.npz").exists():
        spread_answers(folder / "answers.npz", PREDICTIONS / name)
    if (folder / "weights.pt").exists():
        trained = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
        for net, fields in trained.items():
            Trained(**fields).save(workspace.root() / "models" / name / f"{net}.pt")


def draw_pictures(place: Path, name: str) -> None:
    """The corruptions and perturbations of the first test image."""
    test = load_split(name, "test")
    image, label = np.array(test.images[:1]), test.labels[:1]
    sets = place / "first"
    generate_corruptions(image, label, sets / "c", workers=1, progress=False)
    generate_perturbations(image, label, sets / "p", workers=1, progress=False)
    corrupt.draw(sets, CORRUPTIONS, image, Path("metrics") / name)


def record(params: Params, folder: Path, results: dict[str, Any], device: str) -> None:
    """Give every training its run in MLflow, with its curve, its duration and the device it ran on."""
    history = pd.read_csv(folder / "history.csv")
    experiment = runs.open_experiment(params)
    client = experiment.client
    for run in results["parts"]["recipe"]["runs"]:
        net, seed = run["net"], run["seed"]
        if "seconds" not in run or net not in params.nets or seed not in params.training(net).seeds:
            continue
        # Brought home before: no two trainings take the same time to the hundredth of a second.
        if any(old.data.metrics.get(SECONDS) == run["seconds"] for old in experiment.children(net, seed)):
            continue
        new = runs.child_run(experiment, params, net, seed, {"device": run.get("device", device)})
        curve = history[(history.net == net) & (history.seed == seed)].drop(columns=["net", "seed"])
        curve = curve.assign(images_per_second=run["images_per_second"])
        runs.log_curve(client, new, curve.to_dict("records"), set())
        runs.log_metrics(client, new, {SECONDS: run["seconds"]})
        client.set_terminated(new)


if __name__ == "__main__":
    main()
