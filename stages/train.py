"""Stage `train@<net>`: train one net of params.yaml or of a study, once for each seed.

Writes models/<net>.pt, the mean training curve for `dvc plots`, and the curve of every seed. A run that was killed
resumes after its last epoch and ends with the same weights as an uninterrupted run.
`torchrun --nproc-per-node 2 -m stages.train NET` spreads every batch over processes; only the first one writes.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from filelock import Timeout

from nets.registry import create_net
from stages.files import interruption, workspace
from stages.files.checkpoints import save_checkpoint, usable_checkpoint, work_folder
from stages.files.datasets import Split, count_classes, load_split, published_name
from stages.files.params import PARAMS, in_pipeline, load_params
from stages.files.schema import Params
from stages.files.trained import Trained
from stages.files.workspace import MODELS
from stages.files.writing import write_csv
from stages.tracking import logged_model
from stages.tracking.recording import begin, recording
from stages.tracking.store import patiently, spared
from training import parallel
from training.batches import TrainingSet
from training.device import choose_device, describe
from training.engine import DivergedError
from training.normalisation import MIRRORED, normalisation
from training.recipe import Recipe
from training.resumable import TerminatedError, prepare, train_resumably


@click.command()
@click.argument("net")
@in_pipeline
@interruption.stopping("resumes after the last complete epoch")
def main(net: str, pipeline: Path) -> None:
    """Train NET, a name under `nets` in params.yaml."""
    params = load_params(pipeline=pipeline)
    if net not in params.nets:
        raise click.UsageError(
            f"no net {net!r} under `nets` in {pipeline / PARAMS}; there are {', '.join(params.nets)}"
        )
    train, test = load_split(params.data.name, "train"), load_split(params.data.name, "test")
    try:
        device = choose_device(params.train.device)
        parallel.check_launch(device)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    work = work_folder(params, net) if parallel.is_first() else None
    with contextlib.ExitStack() as held:
        if work:  # before `joined`, where the other processes wait for the first one
            held.enter_context(taken(work.name))
        device = held.enter_context(parallel.joined(device))
        try:
            prepare(device, params.training(net).precision)
        except ValueError as error:
            raise click.ClickException(f"train.precision: {error}") from None
        trained = untrained(params, net, train, test)
        data = TrainingSet.place(train.images, train.labels, trained.mean, trained.std, device)
        if work:
            train_and_write(params, net, trained, data, test, work, pipeline)
        else:
            take_part(params, net, trained, data, test)


@contextlib.contextmanager
def taken(name: str) -> Iterator[None]:
    """Hold the lock of a training; wait for a trainer that outlived its killed pipeline and still holds it.

    Under torchrun do not wait: the other processes would time out meanwhile, each with its own traceback.

    Raises:
        click.ClickException: under torchrun, if another process trains the net.
    """
    lock = workspace.lock(name)
    try:
        lock.acquire(timeout=0 if torch.distributed.is_torchelastic_launched() else -1)
    except Timeout:
        raise click.ClickException(f"another process is training {name}; wait for it, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def untrained(params: Params, net: str, train: Split, test: Split) -> Trained:
    """The net that params.yaml describes, for the images of the data set, without weights.

    Raises:
        click.ClickException: the net cannot be built with these options.
    """
    mean, std = normalisation(published_name(params.data.name), train.images)
    options = params.options(net) | {
        "num_classes": count_classes(train, test),
        "in_channels": train.images.shape[3],
    }
    try:
        with torch.device("meta"):
            create_net(params.nets[net].arch, **options)
    except ValueError as error:
        raise click.ClickException(f"nets.{net}: {error}") from None
    return Trained(params.nets[net].arch, options, mean, std, {})


def recipe(params: Params, net: str, seed: int) -> Recipe:
    """The training recipe that params.yaml gives for one seed of a net."""
    settings = params.training(net)
    return Recipe(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        milestones=tuple(settings.milestones),
        flip=published_name(params.data.name) in MIRRORED if settings.flip == "auto" else settings.flip,
        seed=seed,
        precision=settings.precision,
        augment=settings.augment,
    )


def take_part(params: Params, net: str, trained: Trained, data: TrainingSet, test: Split) -> None:
    """Train every seed together with the first process, which alone prints and writes."""
    for seed in params.training(net).seeds:
        try:
            train_resumably(
                trained.new(seed, data.device), data, test.images, test.labels, recipe(params, net, seed),
                label="", saved=None, keep=lambda content: None, log=lambda rows: None,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise SystemExit(interruption.STATUS) from None
        except (TerminatedError, DivergedError):
            raise SystemExit(1) from None


def train_and_write(
    params: Params, net: str, trained: Trained, data: TrainingSet, test: Split, work: Path, pipeline: Path
) -> None:
    """Train every seed of a net, add the weights to `trained`, and write the stage's outputs below `pipeline`.

    Unfinished trainings are kept in the folder `work`.
    """
    hardware = describe(data.device)
    work.mkdir(exist_ok=True)
    curves = []
    for seed in params.training(net).seeds:
        file = work / f"{seed}.pt"
        saved = usable_checkpoint(file, hardware, params.training(net).epochs)
        device = saved["device"] if saved else hardware
        begun = spared(begin, work / f"{seed}.run", params, net, seed, device)
        with (
            recording(*begun, params.data.name) if begun else contextlib.nullcontext(lambda rows: None) as log
        ):
            module = trained.new(seed, data.device)
            rows = train_seed(params, net, seed, module, data, test, file, saved, log)
            trained.weights[seed] = {name: value.cpu() for name, value in module.state_dict().items()}
            if begun:
                images = np.array(test.images[:2])
                spared(log_model, begun[1], trained, seed, images, work / f"{seed}.logged")
        curves.append(pd.DataFrame(rows).drop(columns="images_per_second").assign(net=net, seed=seed))
    patiently(lambda: trained.save(pipeline / MODELS / f"{net}.pt"))
    patiently(lambda: write_curves(pipeline / "metrics" / params.data.name, net, pd.concat(curves)))
    shutil.rmtree(work)


def log_model(run: str, trained: Trained, seed: int, examples: np.ndarray, note: Path) -> None:
    """Log the trained net to its run, unless the file `note` records that this was done."""
    if not (note.exists() and note.read_text(encoding="utf-8") == run):
        patiently(lambda: logged_model.log_model(run, trained, seed, examples))
        note.write_text(run, encoding="utf-8")


def train_seed(
    params: Params,
    net: str,
    seed: int,
    module: torch.nn.Module,
    data: TrainingSet,
    test: Split,
    file: Path,
    saved: dict | None,
    log: Callable[[list[dict]], object],
) -> list[dict[str, float]]:
    """Train one seed from `saved` to the end, keeping checkpoints in `file`; return the rows of its training curve.

    If the training stops earlier, one line says where the next run resumes.
    """
    kept = len(saved["rows"]) if saved else 0  # the last epoch in the file

    def keep(content: dict) -> None:
        nonlocal kept
        patiently(lambda: save_checkpoint(file, content))
        kept = len(content["rows"])

    label = f"{net} seed {seed}"
    if saved:
        click.echo(f"{label}: resuming after epoch {kept}, on {saved['device']}")
    try:
        return train_resumably(
            module, data, test.images, test.labels, recipe(params, net, seed),
            label=label, saved=saved, keep=keep, log=log,
        )  # fmt: skip
    except TerminatedError as error:
        raise SystemExit(f"{error}; `dvc repro` resumes from there") from None
    except KeyboardInterrupt:
        interruption.stop(f"resumes {label} after epoch {kept}" if kept else f"restarts {label}")
    except DivergedError as error:
        left = f"Epoch {kept} is kept in {file}" if kept else "No epoch was finished"
        raise click.ClickException(
            f"{label}: {error}. {left}; lower nets.{net}.train.lr or train.lr"
        ) from None


def write_curves(folder: Path, net: str, rows: pd.DataFrame) -> None:
    """Write the training curve of every seed, and the mean over seeds that `dvc plots` shows."""
    columns = ["lr", "train_loss", "train_error", "test_error"]
    write_csv(folder / "history" / f"{net}.csv", rows[["net", "seed", "epoch", *columns]])
    write_csv(folder / "curves" / f"{net}.csv", rows.groupby("epoch")[columns].mean().reset_index())


if __name__ == "__main__":
    main()
