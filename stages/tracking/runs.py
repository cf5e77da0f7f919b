"""MLflow as a mirror of the pipeline: one experiment per data set, one parent run per DVC experiment or state of the
workspace, one child run per net and seed.

DVC owns the files; nothing of MLflow enters a DVC output. Experiments in DVC's temporary folders write to the store of
the repository they were started from (`store.py`). This module never writes to an HTTP server: every run is kept in the
local database, and `copies.py` copies it to the server, so that a failing server stops no training.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click

from stages.files.datasets import full_name
from stages.files.params import PARAMS
from stages.files.schema import Params
from stages.files.workspace import commit, lock, marked, root
from stages.tracking.store import connect, spared

MOST_METRICS, MOST_PARAMS = 1000, 100  # MLflow's limits per request
GROUP = (
    "net of experiment"  # tag shared by all seeds of a net in one experiment: MLflow's page shows their mean
)

STATE = "dvc.params"  # tag of a named experiment: digest of params.yaml
CODE = (
    "archives",
    "common_corruptions",
    "nets",
    "pushpull",
    "stages",
    "training",
)  # code that can change a result
NET, REPLACED = "net", "replaced"  # roles: the run with the results of a net and seed, and its replaced runs


@dataclass(frozen=True)
class Experiment:
    """A DVC experiment, or a state of the workspace, in MLflow.

    Attributes:
        client: client of the store.
        id: id of the MLflow experiment, which is that of the data set.
        parent: id of the run whose children are the runs of the nets.
        tags: tags of all its runs that identify the experiment.
        name: name of the parent run, which is unique.
    """

    client: Any
    id: str
    parent: str
    tags: Mapping[str, str]
    name: str

    def children(self, net: str, seed: int) -> list[Any]:
        """The runs of a net and seed, one for each training, newest first."""
        tags = {"mlflow.parentRunId": self.parent, "net": net, "seed": str(seed)}
        return _search(self.client, self.id, tags)


def open_experiment(params: Params, tags: Mapping[str, str] | None = None) -> Experiment:
    """Open the running experiment in MLflow; create what is missing of it.

    Args:
        params: its parameters, which are logged to a new parent run.
        tags: tags from `identity`; by default determined from the environment.

    Raises:
        click.ClickException: the store cannot be used.
    """
    tags = identity(study_name(params)) if tags is None else tags
    client = connect()
    place = _experiment_id(client, params.data.name)
    with lock("mlflow"):
        found = _find_parent(client, place, tags)
        if found:
            return Experiment(client, place, found.info.run_id, tags, found.info.run_name)
        name = tags["dvc.exp"]
        if _find(client, place, {"role": "experiment", "dvc.exp": name}):  # of another commit, or overwritten
            name += f"-{tags['git.commit']}-{tags[STATE]}"
        run = client.create_run(
            place, run_name=name, tags={**tags, "role": "experiment", "data": params.data.name}
        )
    sections = params.model_dump(include={"data", "train", "evaluate"})
    blocks = {name: block.model_dump() for name, block in params.blocks.items()}
    nets = {
        name: net.model_dump(exclude_defaults=True, exclude={"family"}) for name, net in params.nets.items()
    }
    log_params(client, run.info.run_id, _flat({**sections, **blocks, "nets": nets}))
    return Experiment(client, place, run.info.run_id, tags, name)


def find_parent(client, data_name: str) -> str | None:
    """Id of the run of this DVC experiment or workspace state, or None; nothing is created."""
    place = find_experiment(client, data_name)
    found = place and _find_parent(client, place, identity())
    return found.info.run_id if found else None


def quoted(value: str) -> str:
    """A value for a filter of MLflow, which has no escapes: in the kind of quotes that it does not hold.

    Raises:
        click.ClickException: it holds both.
    """
    mark = '"' if "'" in value else "'"
    if mark in value:
        raise click.ClickException(f"{value} holds both kinds of quotes, so MLflow cannot search for it")
    return f"{mark}{value}{mark}"


def find_experiment(client, data_name: str) -> str | None:
    """Id of the MLflow experiment of a data set, or None; one that was deleted in MLflow is restored."""
    found = client.get_experiment_by_name(data_name)
    if found is None:
        return None
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
        click.echo(f"the experiment {data_name} was deleted in MLflow: restored, with its runs")
    return found.experiment_id


def identity(name: str | None = None, baseline: str | None = None) -> dict[str, str]:
    """Tags that identify the DVC experiment, or the state of the workspace, that runs belong to.

    Args:
        name: name of the experiment; by default that which DVC runs, else one for the state of the workspace.
        baseline: the commit it started from; by default that named by DVC, else the one that is checked out.

    Raises:
        click.ClickException: Git refuses to name the commit.
    """
    baseline = baseline or os.environ.get("DVC_EXP_BASELINE_REV") or commit()
    state = {}
    if not name:
        digest = hashlib.sha256(PARAMS.read_bytes()).hexdigest()[:6]
        name = os.environ.get("DVC_EXP_NAME")
        # DVC can reuse a name: on another commit, and with other parameters after `dvc exp run --force`.
        state = {STATE: digest} if name else {}
        name = name or f"workspace-{baseline[:7]}-{digest}"
    return {
        **state,
        "dvc.exp": name,
        "dvc.baseline": baseline,
        "git.commit": baseline[:7],  # MLflow's own tag below cannot be a column of the table of runs
        "mlflow.source.git.commit": baseline,
    }


def study_name(params: Params) -> str | None:
    """Name shared by the runs of a study with equal parameters, `table4-digits-1f0c9a`; None if it is no study."""
    if params.study is None:
        return None
    state = hashlib.sha256(params.model_dump_json().encode()).hexdigest()[:6]
    return "-".join([*params.study.tables, *params.study.comparisons, params.data.name, state])


def described(short: str) -> str:
    """A commit as in `git describe --dirty`: marked if the code, which runs do not record, differs from it."""
    return marked(short, *(f":(top){place}" for place in CODE))


def child_run(experiment: Experiment, params: Params, net: str, seed: int, tags: Mapping[str, str]) -> str:
    """Create a run of one net and seed with every parameter that determines its result; return its id."""
    run = experiment.client.create_run(
        experiment.id,
        run_name=child_name(params, net),
        tags={
            **experiment.tags,
            "dvc.stage": os.environ.get("DVC_STAGE", ""),
            "role": NET,
            "net": net,
            "seed": str(seed),
            "git.commit": described(experiment.tags["git.commit"]),
            GROUP: f"{child_name(params, net)}, {experiment.name}",
            "data": params.data.name,
            "mlflow.parentRunId": experiment.parent,
            **tags,
        },
    )
    log_params(experiment.client, run.info.run_id, net_params(params, net, seed))
    return run.info.run_id


def find_run(experiment: Experiment, run: str):
    """The run of a net by its id, in any experiment on the data set; None if it was deleted."""
    return _find(experiment.client, experiment.id, {"role": NET}, f" and attributes.run_id = '{run}'")


def find_training(experiment: Experiment, net: str, seed: int, weights: str):
    """The run of the training that produced the weights with this digest, or None."""
    tags = {"net": net, "seed": str(seed), "weights": weights}
    return _find(experiment.client, experiment.id, tags, " and metrics.`train/seconds` > 0")


def child_name(params: Params, net: str) -> str:
    """Name of a run, `resnet20-pp (alpha=2)`: MLflow's comparison page identifies runs only by their names."""
    block, augment = params.block(net), params.training(net).augment
    told = []
    if block.layers is not None:
        told += ["alpha=learned" if block.train_alpha else f"alpha={block.alpha:g}"]
        told += [f"scale={block.scale:g}"] if block.scale != 2 else []
        told += ["complementary", f"average {block.average_size}"] if block.pull != "upsampled" else []
    told += [augment] if augment != "none" else []
    return f"{net} ({', '.join(told)})" if told else net


def net_params(params: Params, net: str, seed: int) -> dict[str, Any]:
    """Every parameter that determines the result of one net and seed, as a flat mapping."""
    training = params.training(net).model_dump(exclude={"seeds"})
    chosen = params.nets[net]
    options = params.block(net).model_dump()
    own = options.pop("own")
    if options["layers"] is None:  # without the layer there is no alpha to compare
        options = {"lpf_size": options["lpf_size"]}
    return {
        **{"net": net, "seed": seed, "arch": chosen.arch, "block": chosen.block, **options, **own},
        **_flat({"train": training, "data": params.data.decisive()}),
    }


def log_metrics(client, run: str, values: Mapping[str, float], step: int = 0) -> None:
    """Log values of one step in one request."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(key, float(value), now, step) for key, value in values.items()]
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run, metrics=metrics[start : start + MOST_METRICS])


def log_curve(client, run: str, rows: list[dict[str, float]], logged: set[int] | None = None) -> None:
    """Log the rows of a training curve that the run does not have yet.

    Args:
        client, run: client and id of the run.
        rows: rows of the whole curve.
        logged: the epochs that the run has, by default fetched; updated.
    """
    if logged is None:
        logged = logged_epochs(client, run)
    for row in rows:
        if row["epoch"] not in logged:
            log_metrics(client, run, curve_metrics(row), int(row["epoch"]))
            logged.add(int(row["epoch"]))


def logged_epochs(client, run: str) -> set[int]:
    """The epochs of the training curve that a run has."""
    return {metric.step for metric in client.get_metric_history(run, "test/error")}


def curve_metrics(row: Mapping[str, float]) -> dict[str, float]:
    """One row of the training curve by MLflow's metric names; their prefixes become sections of charts."""
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
    """Mark the run as finished at the end, failed on an error, killed on an interruption."""
    try:
        yield
    except BaseException as error:
        status = "KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED"
        spared(lambda: client.impatient().set_terminated(run, status=status))
        raise
    spared(lambda: client.set_terminated(run, status="FINISHED"))


def _experiment_id(client, data_name: str) -> str:
    """Id of the MLflow experiment of a data set; created if there is none."""
    with lock("mlflow"):
        found = find_experiment(client, data_name)
        if found:
            return found
        # The default is relative to the working directory, which may be temporary.
        place = (root() / "mlartifacts" / data_name).as_uri()
        tags = {
            "mlflow.experimentKind": "custom_model_development",
            "mlflow.note.content": full_name(data_name),
        }
        return client.create_experiment(data_name, artifact_location=place, tags=tags)


def _find_parent(client, experiment: str, tags: Mapping[str, str]):
    keys = ("dvc.exp", "dvc.baseline", STATE) if STATE in tags else ("dvc.exp",)
    return _find(client, experiment, {"role": "experiment", **{key: tags[key] for key in keys}})


def _find(client, experiment: str, tags: Mapping[str, str], condition: str = ""):
    return next(iter(_search(client, experiment, tags, condition, most=1)), None)


def _search(
    client, experiment: str, tags: Mapping[str, str], condition: str = "", most: int = 1000
) -> list[Any]:
    """The runs with these tags, newest first, at most `most` of them."""
    query = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in tags.items()) + condition
    order = ["attributes.start_time DESC"]
    return list(client.search_runs([experiment], query, max_results=most, order_by=order))


def _flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()
    }


def log_params(client, run: str, values: Mapping[str, Any]) -> None:
    """Log parameters, in requests of at most MOST_PARAMS."""
    from mlflow.entities import Param

    params = [Param(key, str(value)) for key, value in values.items()]
    for start in range(0, len(params), MOST_PARAMS):
        client.log_batch(run, params=params[start : start + MOST_PARAMS])
