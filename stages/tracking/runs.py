"""MLflow as a mirror of the pipeline: one experiment per data set, one parent run per DVC experiment or state of the
workspace, one child run per net and seed.

DVC owns the files; nothing of MLflow enters a DVC output. Experiments in DVC's temporary folders write to the store of
the repository they came from (`store.py`). A server over http is never written to from here: every run is kept in the
database beside the pipeline, and `copies.py` copies it to the server, so that a server that fails stops no training.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from stages.files.datasets import full_name
from stages.files.params import PARAMS
from stages.files.schema import Params
from stages.files.workspace import commit, lock, root
from stages.tracking.store import spared

MOST_METRICS = 1000  # that a request to MLflow may hold


def quoted(value: str) -> str:
    """A value for a filter of MLflow, which has no escapes: in the kind of quotes that it does not hold.

    Raises:
        click.ClickException: it holds both.
    """
    mark = '"' if "'" in value else "'"
    if mark in value:
        raise click.ClickException(f"{value} holds both kinds of quotes, so MLflow cannot search for it")
    return f"{mark}{value}{mark}"


def experiment_id(client, data_name: str) -> str:
    """The MLflow experiment of a data set, made if there is none."""
    with lock("mlflow"):
        found = find_experiment(client, data_name)
        if found:
            return found
        # By default that would be a folder where the process runs, which may be a temporary one.
        place = (root() / "mlartifacts" / data_name).as_uri()
        tags = {
            "mlflow.experimentKind": "custom_model_development",
            "mlflow.note.content": full_name(data_name),
        }
        return client.create_experiment(data_name, artifact_location=place, tags=tags)


def find_experiment(client, data_name: str) -> str | None:
    """The MLflow experiment of a data set, or None; one that was deleted in MLflow is restored."""
    found = client.get_experiment_by_name(data_name)
    if found is None:
        return None
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
        click.echo(f"the experiment {data_name} was deleted in MLflow: restored, with its runs")
    return found.experiment_id


def identity() -> dict[str, str]:
    """Tags that say which DVC experiment, or which state of the workspace, is running."""
    baseline = os.environ.get("DVC_EXP_BASELINE_REV") or commit()
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


def find_run(client, experiment: str, run: str):
    """The run of a net by its id, or None where it was deleted."""
    return _find(client, experiment, {"role": "net"}, f" and attributes.run_id = '{run}'")


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
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED"
        spared(lambda: client.impatient().set_terminated(run, status=status))
        raise
    spared(lambda: client.set_terminated(run, status="FINISHED"))


def _find(client, experiment: str, tags: Mapping[str, str], condition: str = ""):
    query = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in tags.items()) + condition
    runs = client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time DESC"])
    return runs[0] if runs else None


def _flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()
    }


def _log_params(client, run: str, values: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    client.log_batch(run, params=[Param(key, str(value)) for key, value in values.items()])
