"""MLflow as a mirror of the pipeline: one experiment per data set, one parent run per DVC experiment or state of the
workspace, one child run per net and seed.

DVC owns the files; nothing of MLflow enters a DVC output. Experiments in DVC's temporary folders write to the store of
the repository they came from. A server over http is never written to from here: every run is kept in the database
beside the pipeline, and `stages.sync` copies it to the server, so that a server that fails stops no training.

    python -m stages.tracking          creates the database
    python -m stages.tracking sync     uploads what the server of MLFLOW_TRACKING_URI lacks
"""

import contextlib
import gc
import hashlib
import logging
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from filelock import FileLock

from stages.params import PARAMS, Params

MOST_METRICS = 1000  # that a request to MLflow may hold


def git(*arguments: str) -> str:
    """Output of a git command in this folder, empty where it fails."""
    return subprocess.run(
        ["git", *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False
    ).stdout.strip()


def root() -> Path:
    """Top of the repository; for an experiment in a temporary folder, of the one it was started from."""
    return Path(os.environ.get("DVC_ROOT") or git("rev-parse", "--show-toplevel") or ".").resolve()


def scratch() -> Path:
    """Folder for locks and unfinished work, which git ignores and all experiments share."""
    folder = root() / ".dvc" / "tmp" / "pushpull"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lock(name: str) -> FileLock:
    """A lock between processes, released by the system when its holder dies."""
    return FileLock(scratch() / f"{name}.lock")


def server_uri() -> str | None:
    """MLFLOW_TRACKING_URI where it is a server over http, which gets a copy of every run; otherwise None."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else None


def store_uri() -> str:
    """The store that every stage writes to: the database beside the pipeline, or the one of MLFLOW_TRACKING_URI."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return uri if uri and server_uri() is None else own_store()


def own_store() -> str:
    return f"sqlite:///{root() / 'mlflow.db'}"


def connect():
    """An MlflowClient; the first one creates the database."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with garbage_left_alone():
        from mlflow import MlflowClient

        # What these say of a new database is no news here.
        for name in ("mlflow", "mlflow.store.db.utils", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # The client makes the database already as it is constructed, and two processes that make it at once break it.
        with lock("mlflow"):
            client = MlflowClient(tracking_uri=store_uri(), registry_uri=store_uri())
            client.search_experiments(max_results=1)
    return client


@contextlib.contextmanager
def garbage_left_alone() -> Iterator[None]:
    """No garbage collection: what modules define as they load stays; to look through it takes a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def experiment_id(client, data_name: str) -> str:
    """The MLflow experiment of a data set."""
    with lock("mlflow"):
        found = client.get_experiment_by_name(data_name)
        if found:
            return found.experiment_id
        place = None
        if store_uri() == own_store():
            place = (root() / "mlartifacts" / data_name).as_uri()
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return client.create_experiment(data_name, artifact_location=place, tags=tags)


def identity() -> dict[str, str]:
    """Tags that say which DVC experiment, or which state of the workspace, is running."""
    baseline = os.environ.get("DVC_EXP_BASELINE_REV") or git("rev-parse", "HEAD")
    state = hashlib.sha256(PARAMS.read_bytes()).hexdigest()[:6]
    name = os.environ.get("DVC_EXP_NAME") or f"workspace-{baseline[:7]}-{state}"
    return {
        "dvc.exp": name,
        "dvc.baseline": baseline,
        "git.commit": baseline[:7],  # of MLflow's own tag below the table of runs shows no column
        "mlflow.source.git.commit": baseline,
    }


def parent_run(client, experiment: str, params: Params) -> str:
    """The run of this DVC experiment or workspace state, created at its first use."""
    tags = identity()
    with lock("mlflow"):
        found = _find(client, experiment, {"role": "experiment", "dvc.exp": tags["dvc.exp"]})
        if found:
            return found.info.run_id
        run = client.create_run(
            experiment,
            run_name=tags["dvc.exp"],
            tags={**tags, "role": "experiment", "data": params.data.name},
        )
    sections = params.model_dump(include={"data", "train", "evaluate"})
    _log_params(client, run.info.run_id, _flat({**sections, **params.model_dump()["blocks"]}))
    return run.info.run_id


def child_run(
    client, experiment: str, parent: str, params: Params, net: str, seed: int, tags: Mapping[str, str]
) -> str:
    """A new run of one net and seed under its parent, with every parameter that decides it."""
    run = client.create_run(
        experiment,
        run_name=child_name(params, net),
        tags={
            **identity(),
            "dvc.stage": os.environ.get("DVC_STAGE", ""),
            "role": "net",
            "net": net,
            "seed": str(seed),
            "data": params.data.name,
            "mlflow.parentRunId": parent,
            **tags,
        },
    )
    _log_params(client, run.info.run_id, net_params(params, net, seed))
    return run.info.run_id


def find_child(client, experiment: str, parent: str, net: str, seed: int):
    """The newest run of a net and seed under the parent, or None."""
    return _find(client, experiment, {"mlflow.parentRunId": parent, "net": net, "seed": str(seed)})


def find_training(client, experiment: str, net: str, seed: int, weights: str):
    """The run of the training that gave a net its weights (a digest), or None."""
    tags = {"net": net, "seed": str(seed), "weights": weights}
    return _find(client, experiment, tags, " and metrics.`train/seconds` > 0")


def child_name(params: Params, net: str) -> str:
    """`resnet20-pp (alpha=2)`: the comparison page knows runs by their names alone."""
    block = params.blocks[params.nets[net].block]
    if block.layers is None:
        return net
    alpha = "learned" if block.train_alpha else f"{block.alpha:g}"
    return f"{net} (alpha={alpha}{'' if block.scale == 2 else f', scale={block.scale:g}'})"


def net_params(params: Params, net: str, seed: int) -> dict[str, Any]:
    """Every parameter that decides the result of one net and seed, flat."""
    training = params.training(net).model_dump(exclude={"seeds"})
    chosen = params.nets[net]
    options = params.blocks[chosen.block].model_dump()
    if options["layers"] is None:  # a net without the layer has no alpha that could be compared
        options = {"lpf_size": options["lpf_size"]}
    return {
        **{"net": net, "seed": seed, "arch": chosen.arch, "block": chosen.block, **options},
        **_flat({"train": training, "data": params.data.model_dump(exclude={"path", "archives"})}),
    }


def log_metrics(client, run: str, values: Mapping[str, float], step: int = 0) -> None:
    """Log values of one step in one request."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(key, float(value), now, step) for key, value in values.items()]
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run, metrics=metrics[start : start + MOST_METRICS])


def log_curve(client, run: str, rows: list[dict[str, float]]) -> None:
    """Log the rows of a training curve that the run does not have yet."""
    logged = {metric.step for metric in client.get_metric_history(run, "test/error")}
    for row in rows:
        if row["epoch"] not in logged:
            log_metrics(client, run, curve_metrics(row), int(row["epoch"]))


def curve_metrics(row: Mapping[str, float]) -> dict[str, float]:
    """Metric names, whose prefixes become sections of charts, for one row of the training curve."""
    names = {
        "lr": "train/lr",
        "train_loss": "train/loss",
        "train_error": "train/error",
        "test_error": "test/error",
    }
    names["images_per_second"] = "train/images_per_second"
    return {names[key]: value for key, value in row.items() if key in names}


@contextlib.contextmanager
def finishing(client, run: str) -> Iterator[None]:
    """Mark the run finished at the end, failed on an error, killed on an interruption."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        client.set_terminated(run, status="KILLED")
        raise
    except BaseException:
        client.set_terminated(run, status="FAILED")
        raise
    client.set_terminated(run, status="FINISHED")


def _find(client, experiment: str, tags: Mapping[str, str], condition: str = ""):
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items()) + condition
    runs = client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time DESC"])
    return runs[0] if runs else None


def _flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()
    }


def _log_params(client, run: str, values: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    client.log_batch(run, params=[Param(key, str(value)) for key, value in values.items()])


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Create the database of runs, where there is none."""
    if context.invoked_subcommand is None:
        connect()


@main.command()
def sync() -> None:
    """Upload the runs, or the parts of runs, that the server of MLFLOW_TRACKING_URI lacks."""
    from stages import sync

    if server_uri() is None:
        raise click.UsageError("MLFLOW_TRACKING_URI must be the address of an MLflow server, http://...")
    try:
        done = sync.upload(connect())
    except sync.ServerError as error:
        raise click.ClickException(f"{error}; what was uploaded is not uploaded again") from None
    click.echo(f"{server_uri()}: {done.uploaded} of {done.runs} runs uploaded, the others were there")


if __name__ == "__main__":
    main()
