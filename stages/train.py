"""Stage `train@<net>`: train one net of params.yaml, once for each seed.

Writes models/<net>.pt, the mean training curve for `dvc plots`, and the curve of every seed. A run that was killed goes
on after its last epoch and ends with the weights it would have had.
"""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from nets import create_net
from stages import models, serving, tracking
from stages.datasets import DATASETS, MIRRORED, Split, load_split, normalisation
from stages.engine import DivergedError, TrainingSet, train_epochs
from stages.params import Params, load_params
from stages.recording import recording
from stages.tables import write_csv

# Code that decides the weights: a checkpoint of other code is not taken up.
CODE = tuple(
    map(Path, ("pushpull", "nets", "robustness/evaluation.py", "stages/engine.py", "stages/train.py"))
)


@click.command()
@click.argument("net")
def main(net: str) -> None:
    """Train NET, a name under `nets` in params.yaml."""
    params = load_params()
    if net not in params.nets:
        raise click.UsageError(
            f"no net {net!r} under `nets` in params.yaml; there are {', '.join(params.nets)}"
        )
    train, test = load_split(params.data.name, "train"), load_split(params.data.name, "test")
    device = models.choose_device(params.train.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = (
            False  # its choice of algorithm, and so the weights, would vary by run
        )
        torch.backends.cudnn.deterministic = True
    mean, std = normalisation(params.data.name, train.images)
    options = params.options(net) | {
        "num_classes": int(max(train.labels.max(), test.labels.max())) + 1,
        "in_channels": train.images.shape[3],
    }
    trained = models.Trained(params.nets[net].arch, options, mean, std, {})

    work = tracking.scratch() / f"{net}-{fingerprint(params, net, device)}"
    with tracking.lock(work.name):  # a trainer that outlived its killed pipeline still holds it
        work.mkdir(exist_ok=True)
        client = tracking.connect()
        experiment = tracking.experiment_id(client, params.data.name)
        parent = tracking.parent_run(client, experiment, params)
        data = TrainingSet.on_device(train.images, train.labels, mean, std, device)
        curves = []
        for seed in params.training(net).seeds:
            run = resume_run(work / f"{seed}.run", client, experiment, parent, params, net, seed, device)
            with recording(client, run, params.data.name):
                torch.manual_seed(seed)
                module = create_net(trained.arch, **options).to(device, memory_format=torch.channels_last)
                rows = train_seed(
                    module, data, test, params, net, seed, work / f"{seed}.pt",
                    lambda rows, run=run: tracking.log_curve(client, run, rows),
                )  # fmt: skip
                trained.weights[seed] = {name: value.cpu() for name, value in module.state_dict().items()}
                logged = work / f"{seed}.logged"
                if not logged.exists():
                    serving.log_model(run, trained, seed, np.array(test.images[:2]))
                    logged.touch()
            curves.append(pd.DataFrame(rows).drop(columns="images_per_second").assign(net=net, seed=seed))
        models.save(models.MODELS / f"{net}.pt", trained)
        write_curves(Path("metrics") / params.data.name, net, pd.concat(curves))
        shutil.rmtree(work)


def fingerprint(params: Params, net: str, device: torch.device) -> str:
    """Digest of everything that decides the weights: parameters, code, images, versions, device and threads."""
    chosen = params.nets[net]
    digest = hashlib.sha256()
    decides = {
        "net": chosen.model_dump(),
        "block": params.blocks[chosen.block].model_dump(),
        "train": params.train.model_dump(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"cpu x {torch.get_num_threads()}",
    }
    digest.update(json.dumps(decides, sort_keys=True).encode())
    for code in CODE:
        for file in sorted(code.rglob("*.py")) if code.is_dir() else [code]:
            digest.update(file.read_bytes())
    for file in sorted((DATASETS / params.data.name / "clean").glob("*.npy")):
        with open(file, "rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def resume_run(
    note: Path,
    client,
    experiment: str,
    parent: str,
    params: Params,
    net: str,
    seed: int,
    device: torch.device,
) -> str:
    """The MLflow run that an interrupted training of this seed began, noted in its work folder, or a new one."""
    if note.exists():
        run = note.read_text()
        client.update_run(run, status="RUNNING")
        return run
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    run = tracking.child_run(client, experiment, parent, params, net, seed, {"device": hardware})
    note.write_text(run)
    return run


def train_seed(
    module: torch.nn.Module,
    data: TrainingSet,
    test: Split,
    params: Params,
    net: str,
    seed: int,
    checkpoint: Path,
    log: Callable[[list[dict]], None],
) -> list[dict[str, float]]:
    """Train one seed from its checkpoint, if there is one, to the end; the rows of its training curve."""
    settings = params.training(net)
    rows: list[dict[str, float]] = []
    state = None
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=data.padded.device, weights_only=True)
        state, rows = saved["state"], saved["rows"]
        module.load_state_dict(state["net"])
        click.echo(f"{net} seed {seed}: going on after epoch {state['epoch']}")
    steps = -(-len(data) // settings.batch_size)
    stop = StopRequest()
    with tqdm(
        total=settings.epochs * steps, initial=len(rows) * steps, desc=f"{net} seed {seed}", unit="batch"
    ) as bar:
        started = time.monotonic()
        epochs = train_epochs(
            module, data, test.images, test.labels,
            epochs=settings.epochs, batch_size=settings.batch_size, lr=settings.lr, momentum=settings.momentum,
            weight_decay=settings.weight_decay, milestones=settings.milestones,
            flip=params.data.name in MIRRORED if settings.flip == "auto" else settings.flip,
            seed=seed, state=state, on_batch=bar.update,
        )  # fmt: skip
        try:
            for row, state in epochs:
                now = time.monotonic()
                rows.append({**row, "images_per_second": len(data) / (now - started)})
                save_checkpoint(checkpoint, {"state": state, "rows": rows})
                log(rows)
                bar.set_postfix(error=f"{row['test_error']:.2f} %", refresh=False)
                started = time.monotonic()
                if stop.received:
                    raise SystemExit(f"stopped after epoch {row['epoch']}; `dvc repro` goes on from there")
        except DivergedError as error:
            raise click.ClickException(
                f"{net} seed {seed}: {error}. The last good epoch is kept in {checkpoint}; "
                f"lower nets.{net}.train.lr or train.lr"
            ) from None
    log(rows)
    return rows


class StopRequest:
    """Notes SIGTERM instead of dying of it, so that the running epoch can be finished and kept."""

    def __init__(self) -> None:
        self.received = False
        signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, *_: object) -> None:
        self.received = True


def save_checkpoint(path: Path, content: dict) -> None:
    """Replace the checkpoint by a newer one; a kill at any moment leaves one of the two."""
    part = path.with_name(path.name + ".part")
    torch.save(content, part)
    os.replace(part, path)


def write_curves(folder: Path, net: str, rows: pd.DataFrame) -> None:
    """Write the curve of every seed, and the mean over seeds that `dvc plots` shows."""
    columns = ["lr", "train_loss", "train_error", "test_error"]
    write_csv(folder / "history" / f"{net}.csv", rows[["net", "seed", "epoch", *columns]])
    write_csv(folder / "curves" / f"{net}.csv", rows.groupby("epoch")[columns].mean().reset_index())


if __name__ == "__main__":
    main()
