"""Train all nets and seeds on a Ray cluster: one task for each net and seed, each with a share of a GPU.

Finished trainings are written where `stages.train` keeps its checkpoints. `dvc repro` then finds every training done,
writes models, curves and MLflow runs as usual, and continues with the evaluation. Called again after an interruption,
this command resumes; it skips nets whose training stage is up to date.
"""

import contextlib
import functools
import os
from pathlib import Path

import click
import numpy as np
from dvc.exceptions import DvcException
from dvc.repo import Repo
from tqdm import tqdm

from nets.registry import create_net
from stages.files import workspace
from stages.files.checkpoints import load_checkpoint, work_folder
from stages.files.datasets import Split, load_split
from stages.files.dependencies import ROOT
from stages.files.interruption import stopping
from stages.files.params import in_pipeline, load_params
from stages.files.schema import Params
from stages.files.writing import write_bytes
from stages.train import recipe, untrained
from training.remote import Mailbox, train_task

PACKAGES = ("pushpull", "nets", "common_corruptions", "training")  # packages that a task needs

Job = tuple[str, int]  # net and seed


@click.command()
@click.argument("address")
@in_pipeline
@click.option(
    "--gpus",
    default=0.25,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Share of a GPU per task, if there are GPUs.",
)
@click.option("--cpus", default=1, show_default=True, type=click.IntRange(1), help="Cores per task.")
@stopping("resumes from the last checkpoints received")
def main(address: str, pipeline: Path, gpus: float, cpus: int) -> None:
    """Train every net and seed of params.yaml, or of a study, on the Ray cluster at ADDRESS.

    ADDRESS is `ray` for this machine, or ray://HOST:PORT. The machines of the cluster need the packages of
    requirements.lock; code and images are sent to them.
    """
    if address != "ray" and not address.startswith("ray://"):
        raise click.UsageError(f"launcher must be `ray` or ray://HOST:PORT, got {address!r}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise click.ClickException("Ray is not installed; pip install '.[cluster]'") from None
    params = load_params(pipeline=pipeline)
    nets = to_train(params, pipeline)
    if not nets:
        click.echo("every training is up to date")
        return
    train, test = load_split(params.data.name, "train"), load_split(params.data.name, "test")
    folders = {net: work_folder(params, net) for net in nets}
    with contextlib.ExitStack() as held:
        for folder in folders.values():  # prevents a stage from training the net meanwhile
            held.enter_context(workspace.lock(folder.name))
            folder.mkdir(exist_ok=True)
        code = {"py_modules": [str(ROOT / package) for package in PACKAGES]}
        try:
            ray.init(None if address == "ray" else address, runtime_env=code, log_to_driver=False)
        except ConnectionError as error:
            raise click.ClickException(
                f"no Ray cluster responds at {address}: {str(error).splitlines()[0]}. "
                "If it needs a token, set RAY_AUTH_TOKEN, and RAY_AUTH_MODE=token"
            ) from None
        held.callback(ray.shutdown)
        on_gpus = params.train.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        failed = train_all(params, folders, train, test, cpus, gpus if on_gpus else 0)
    if failed:
        lines = [f"{net} seed {seed}: {message}" for (net, seed), message in failed.items()]
        raise click.ClickException("\n".join([f"{len(failed)} trainings failed.", *lines]))


def to_train(params: Params, pipeline: Path) -> list[str]:
    """The nets whose stage `train@<net>` DVC would run.

    Raises:
        click.ClickException: DVC fails to determine them.
    """
    stages = {net: f"{pipeline / 'dvc.yaml'}:train@{net}" for net in params.nets}
    try:
        with Repo() as repo:
            changed = repo.status(targets=list(stages.values()))
    except DvcException as error:
        raise click.ClickException(" ".join(str(error).split())) from None
    known = {name.removeprefix("dvc.yaml:") for name in changed}  # DVC's prefix for stages of the top file
    return [net for net, stage in stages.items() if stage.removeprefix("dvc.yaml:") in known]


def train_all(
    params: Params, folders: dict[str, Path], train: Split, test: Split, cpus: int, gpus: float
) -> dict[Job, str]:
    """Train every net and seed on the cluster that Ray is connected to.

    Args:
        folders: net -> folder of the checkpoints of its seeds.
        train, test: the images and labels.
        cpus, gpus: cores and share of a GPU per task.

    Returns:
        The error message for each net and seed whose training failed.
    """
    import ray

    mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
    # Sent only once: every machine keeps one copy for all its tasks.
    images = ray.put([np.array(array) for array in (*train, *test)])
    task = ray.remote(num_cpus=cpus, num_gpus=gpus)(train_task)
    files = {
        (net, seed): folder / f"{seed}.pt"
        for net, folder in folders.items()
        for seed in params.training(net).seeds
    }
    total = sum(params.training(net).epochs for net, _ in files)
    nets = {net: untrained(params, net, train, test) for net in folders}
    running = {
        task.remote(
            functools.partial(create_net, nets[net].arch, **nets[net].options), images,
            (nets[net].mean, nets[net].std), recipe(params, net, seed), params.train.device,
            load_checkpoint(file), (net, seed), mailbox,
        ): (net, seed)
        for (net, seed), file in files.items()
    }  # fmt: skip
    failed: dict[Job, str] = {}
    with tqdm(total=total, desc=f"{len(files)} trainings", unit="epoch") as bar:
        while running:
            done, _ = ray.wait(list(running), timeout=1)
            epochs, newest = ray.get(mailbox.take.remote())
            for job, content in newest.items():
                write_bytes(files[job], content)
            for one in done:
                job = running.pop(one)
                try:
                    write_bytes(files[job], ray.get(one))
                except ray.exceptions.RayError as error:
                    failed[job] = str(getattr(error, "cause", None) or error).splitlines()[-1]
            bar.update(sum(epochs.values()) - bar.n)
    return failed


if __name__ == "__main__":
    main()
