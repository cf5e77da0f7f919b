"""Stage `train@<net>`: train one net of params.yaml, once for each seed.

Writes models/<net>.pt, the mean training curve for `dvc plots`, and the curve of every seed. A run that was killed goes
on after its last epoch and ends with the weights it would have had. `torchrun --nproc-per-node 2 -m stages.train NET`
spreads every batch over processes, of which the first writes.
"""

import contextlib
import hashlib
import io
import json
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from filelock import Timeout
from tqdm import tqdm

from nets.checkpoint import read_checkpoint
from stages.files import interruption, models, workspace
from stages.files.datasets import DATASETS, Split, load_split
from stages.files.params import load_params
from stages.files.schema import Params
from stages.files.writing import write_bytes, write_csv
from stages.tracking import logged_model
from stages.tracking.recording import begin, recording
from stages.tracking.store import patiently, spared
from training import parallel
from training.batches import TrainingSet
from training.device import describe, make_deterministic
from training.engine import DivergedError, train_epochs
from training.normalisation import MIRRORED, normalisation

# Code that decides the weights: a checkpoint of other code is not taken up.
ROOT = Path(__file__).parents[1]
CODE = (
    "pushpull", "nets", "common_corruptions/evaluation.py", "common_corruptions/staging.py",
    "training", "stages/train.py",
)  # fmt: skip


# Between checkpoints, each with the curve so far in MLflow: an epoch can take less than to write them.
SECONDS_BETWEEN = 15


@click.command()
@click.argument("net")
@interruption.stopping("goes on after the last whole epoch")
def main(net: str) -> None:
    """Train NET, a name under `nets` in params.yaml."""
    params = load_params()
    if net not in params.nets:
        raise click.UsageError(
            f"no net {net!r} under `nets` in params.yaml; there are {', '.join(params.nets)}"
        )
    train, test = load_split(params.data.name, "train"), load_split(params.data.name, "test")
    device = models.choose_device(params.train.device)
    try:
        parallel.check_launch(device)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    with contextlib.ExitStack() as held:
        if parallel.is_first():  # before the others wait for it to join them
            held.enter_context(taken(work_folder(params, net).name))
        device = held.enter_context(parallel.joined(device))
        prepare(device, params.training(net).precision)
        trained = untrained(params, net, train, test)
        data = TrainingSet.place(train.images, train.labels, trained.mean, trained.std, device)
        if parallel.rank() == 0:
            train_and_write(params, net, trained, data, test)
        else:
            for seed in params.training(net).seeds:
                module = trained.new(seed, device)
                train_seed(module, data, test, params, net, seed, Path(), None, lambda rows: None)


@contextlib.contextmanager
def taken(name: str) -> Iterator[None]:
    """The lock of a training, which a trainer that outlived its killed pipeline still holds: wait for it to end.

    Under torchrun there is no waiting: the other processes would give up meanwhile, each with a trace of its own.

    Raises:
        click.ClickException: under torchrun, where another process trains the net.
    """
    lock = workspace.lock(name)
    try:
        lock.acquire(timeout=0 if torch.distributed.is_torchelastic_launched() else -1)
    except Timeout:
        raise click.ClickException(f"another process trains {name}; wait for its end, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def prepare(device: torch.device, precision: str) -> None:
    """Make torch choose the same algorithms in every run.

    Raises:
        click.ClickException: the device does not compute in the precision.
    """
    if precision == "tf32" and device.type != "cuda":
        raise click.ClickException(
            f"train.precision: tf32 is a mode of CUDA GPUs and this is a {device}; set it to fp32 or bf16"
        )
    make_deterministic(device)


def untrained(params: Params, net: str, train: Split, test: Split) -> models.Trained:
    """The net as params.yaml describes it, for the images of the set, without weights."""
    mean, std = normalisation(params.data.name, train.images)
    options = params.options(net) | {
        "num_classes": int(max(train.labels.max(), test.labels.max())) + 1,
        "in_channels": train.images.shape[3],
    }
    return models.Trained(params.nets[net].arch, options, mean, std, {})


def train_and_write(
    params: Params, net: str, trained: models.Trained, data: TrainingSet, test: Split
) -> None:
    """Train every seed of a net, add the weights to `trained`, and write the stage's outputs."""
    hardware = describe(data.device)
    work = work_folder(params, net)
    work.mkdir(exist_ok=True)
    curves = []
    for seed in params.training(net).seeds:
        file, epochs = work / f"{seed}.pt", params.training(net).epochs
        saved = load_checkpoint(file, hardware, epochs) if file.exists() else None
        device = saved["device"] if saved else hardware
        begun = spared(begin, work / f"{seed}.run", params, net, seed, device)
        with (
            recording(*begun, params.data.name) if begun else contextlib.nullcontext(lambda rows: None) as log
        ):
            module = trained.new(seed, data.device)
            rows = train_seed(module, data, test, params, net, seed, file, saved, log)
            trained.weights[seed] = {name: value.cpu() for name, value in module.state_dict().items()}
            if begun:
                images = np.array(test.images[:2])
                spared(log_model, begun[1], trained, seed, images, work / f"{seed}.logged")
        curves.append(pd.DataFrame(rows).drop(columns="images_per_second").assign(net=net, seed=seed))
    patiently(lambda: models.save(models.MODELS / f"{net}.pt", trained))
    patiently(lambda: write_curves(Path("metrics") / params.data.name, net, pd.concat(curves)))
    shutil.rmtree(work)


def work_folder(params: Params, net: str) -> Path:
    """Where the unfinished training of a net is kept: named by everything in the repository that decides the weights.

    That is parameters, code, images and the version of torch. Checkpoints note their hardware themselves.
    """
    chosen = params.nets[net]
    digest = hashlib.sha256()
    decides = {
        "net": chosen.model_dump(),
        "block": params.block(net).model_dump(),
        "train": params.train.model_dump(exclude={"device"}),
        "torch": torch.__version__,
    }
    digest.update(json.dumps(decides, sort_keys=True).encode())
    for code in (ROOT / name for name in CODE):
        for file in sorted(code.rglob("*.py")) if code.is_dir() else [code]:
            digest.update(file.read_bytes())
    for file in sorted((DATASETS / params.data.name / "clean").glob("*.npy")):
        with open(file, "rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return workspace.scratch() / f"{net}-{digest.hexdigest()[:16]}"


def log_model(run: str, trained: models.Trained, seed: int, examples: np.ndarray, note: Path) -> None:
    """Log the trained net to its run, unless the file `note` says that the run has it."""
    if not (note.exists() and note.read_text(encoding="utf-8") == run):
        patiently(lambda: logged_model.log_model(run, trained, seed, examples))
        note.write_text(run, encoding="utf-8")


def train_seed(
    module: torch.nn.Module,
    data: TrainingSet,
    test: Split,
    params: Params,
    net: str,
    seed: int,
    checkpoint: Path,
    saved: dict | None,
    log: Callable[[list[dict]], object],
) -> list[dict[str, float]]:
    """Train one seed to the end, keeping the newest epochs in the file `checkpoint`; the rows of its training curve.

    Training goes on from `saved`, the file's content so far; in several processes the first one gives it to all.
    """
    saved = parallel.from_first(lambda: saved)
    rows = saved["rows"] if saved else []
    first = parallel.rank() == 0
    if saved and first:
        click.echo(f"{net} seed {seed}: going on after epoch {len(rows)}, on {saved['device']}")
    settings = params.training(net)
    steps = -(-len(data) // settings.batch_size)
    kept, at = len(rows), -math.inf  # the last epoch in the file, and when it was written
    stop = StopRequest()
    with tqdm(
        total=settings.epochs * steps, initial=len(rows) * steps, desc=f"{net} seed {seed}", unit="batch",
        disable=not first,
    ) as bar:  # fmt: skip
        try:
            for content in checkpoints(module, data, test, params, net, seed, saved, bar.update):
                rows = content["rows"]
                last = len(rows) == settings.epochs
                if first and (last or time.monotonic() - at > SECONDS_BETWEEN):
                    save_checkpoint(checkpoint, content)
                    kept, at = len(rows), time.monotonic()
                    log(rows)
                bar.set_postfix(error=f"{rows[-1]['test_error']:.2f} %", refresh=False)
                if parallel.in_any(stop.received, data.device):
                    if first and kept < len(rows):
                        save_checkpoint(checkpoint, content)
                    raise SystemExit(f"stopped after epoch {len(rows)}; `dvc repro` goes on from there")
        except KeyboardInterrupt:
            if not first:
                raise SystemExit(interruption.STATUS) from None
            bar.close()  # or the line would stand in it
            begun = f"goes on with {net} seed {seed} after epoch {kept}"
            interruption.stop(begun if kept else f"begins {net} seed {seed} again")
        except DivergedError as error:
            raise click.ClickException(
                f"{net} seed {seed}: {error}. Epoch {kept} is kept in {checkpoint}; "
                f"lower nets.{net}.train.lr or train.lr"
            ) from None
    log(rows)
    return rows


def checkpoints(
    module: torch.nn.Module,
    data: TrainingSet,
    test: Split,
    params: Params,
    net: str,
    seed: int,
    saved: dict | None,
    on_batch: Callable[[], object] = lambda: None,
) -> Iterator[dict]:
    """Train one seed from a checkpoint, or from the start, to the end; yield a checkpoint after each epoch.

    A checkpoint is {state: of `train_epochs`, rows: of the training curve so far, device: what it ran on}.
    """
    settings = params.training(net)
    rows: list[dict[str, float]] = list(saved["rows"]) if saved else []
    started = time.monotonic()
    for row, state in train_epochs(
        module, data, test.images, test.labels,
        epochs=settings.epochs, batch_size=settings.batch_size, lr=settings.lr, momentum=settings.momentum,
        weight_decay=settings.weight_decay, milestones=settings.milestones,
        flip=params.data.name in MIRRORED if settings.flip == "auto" else settings.flip,
        seed=seed, precision=settings.precision, state=saved and saved["state"], on_batch=on_batch,
    ):  # fmt: skip
        rows.append({**row, "images_per_second": len(data) / (time.monotonic() - started)})
        yield {"state": state, "rows": rows, "device": describe(data.device)}
        started = time.monotonic()


class StopRequest:
    """Notes SIGTERM instead of dying of it, so that the running epoch can be finished and kept."""

    def __init__(self) -> None:
        self.received = False
        signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, *_: object) -> None:
        self.received = True


def load_checkpoint(file: Path | bytes, hardware: str, epochs: int) -> dict | None:
    """The checkpoint to go on from, or None where the file is damaged or an unfinished one comes from other hardware.

    Other hardware rounds otherwise, so a training begun there would end with weights that neither of the two gives.
    """
    try:
        saved = read_checkpoint(file)
    except ValueError as error:
        name = file if isinstance(file, Path) else "the checkpoint that was sent"
        click.echo(f"{name}: {error}; the training starts anew")
        return None
    if saved["device"] == hardware or saved["state"]["epoch"] == epochs:
        return saved
    click.echo(f"a training begun on {saved['device']} is not taken up on {hardware}: it starts anew")
    return None


def save_checkpoint(path: Path, content: dict) -> None:
    """Replace the checkpoint by a newer one; a kill or a full disk at any moment leaves one of the two."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    patiently(lambda: write_bytes(path, buffer.getvalue()))


def write_curves(folder: Path, net: str, rows: pd.DataFrame) -> None:
    """Write the curve of every seed, and the mean over seeds that `dvc plots` shows."""
    columns = ["lr", "train_loss", "train_error", "test_error"]
    write_csv(folder / "history" / f"{net}.csv", rows[["net", "seed", "epoch", *columns]])
    write_csv(folder / "curves" / f"{net}.csv", rows.groupby("epoch")[columns].mean().reset_index())


if __name__ == "__main__":
    main()
