"""Log the results of all nets as runs in MLflow: by `aggregate`, and by `make repro` if DVC reused results in Git.

In a fresh clone the nets are trained, since models are not in Git, and get the same weights as before. DVC then keeps
the measurements that are in Git and runs no stage that could log them.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.files.datasets import DATASETS
from stages.files.measurements import check
from stages.files.schema import Params
from stages.files.workspace import MODELS
from stages.tracking import links, recording, runs
from stages.tracking.recording import SECONDS


def mirror_files(params: Params) -> None:
    """Log the results in metrics/<data.name> to MLflow."""
    folder = Path("metrics") / params.data.name
    summary = pd.read_csv(folder / "summary.csv")
    mirror(
        params,
        folder,
        check(folder / "corruption", params, ["corruption", "severity"]).rows,
        check(folder / "perturbation", params, ["perturbation", "protocol", "metric"]).rows,
        check(folder / "history", params, ["epoch"]).rows,
        summary[summary.net.isin(params.nets)],
    )


def mirror(
    params: Params,
    folder: Path,
    corruption: pd.DataFrame,
    perturbation: pd.DataFrame,
    history: pd.DataFrame,
    summary: pd.DataFrame,
) -> None:
    """Give every net and seed its run in MLflow with all its measurements, and the parent run the means."""
    experiment = runs.open_experiment(params)
    client, parent = experiment.client, experiment.parent
    by_seed = summary.set_index(["net", "seed"])
    for net, seed in by_seed.index:
        weights = weights_digest(net)
        run, cached = net_run(experiment, params, net, seed, history, weights)
        if cached:
            if (DATASETS / params.data.name / "clean").exists():  # a clone may hold the results alone
                recording.log_dataset(client, run, params.data.name)
            trained = weights and runs.find_training(experiment, net, seed, weights)
            if trained:
                client.set_tag(run, "device", trained.data.tags["device"])
                runs.log_metrics(client, run, {SECONDS: trained.data.metrics[SECONDS]})
        values = {f"test/{key}": round(value, 4) for key, value in by_seed.loc[(net, seed)].dropna().items()}
        errors = corruption[(corruption.net == net) & (corruption.seed == seed)]
        values |= {
            f"corruption/{k}": v for k, v in errors.groupby("corruption").error.mean().items() if k != "clean"
        }
        flips = perturbation[(perturbation.net == net) & (perturbation.seed == seed)]
        flips = flips[(flips.protocol == "hendrycks") & (flips.metric == "flip_probability")]
        values |= {f"perturbation/{k}": 100 * v for k, v in zip(flips.perturbation, flips.value, strict=True)}
        runs.log_metrics(client, run, values)
        if weights:
            client.set_tag(run, "weights", weights)
        if client.get_run(run).info.status == "RUNNING":  # otherwise it ended with its training
            client.set_terminated(run)
    values = {
        f"{key}/{net}": round(column.mean(), 4)
        for net, table in summary.drop(columns="seed").groupby("net", sort=False)
        for key, column in table.drop(columns="net").items()
        if column.count() == len(params.training(net).seeds)  # no mean over only some of the seeds
    }
    runs.log_metrics(client, parent, values)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".md", ".csv", ".png", ".gif", ".svg"):
            client.log_artifact(parent, str(path))
    client.set_terminated(parent)
    links.show(client, params.data.name, parent)


def net_run(
    experiment: runs.Experiment,
    params: Params,
    net: str,
    seed: int,
    history: pd.DataFrame,
    weights: str | None = None,
) -> tuple[str, bool]:
    """The run of a net and seed, and whether it comes from DVC's cache and not from a training.

    If there were several trainings, as before and after a change of code, it is the one that gave the weights. The
    others lose their role, so that tables and means over seeds exclude them.

    Args:
        experiment, params, net, seed: identify the run.
        history: the training curve; missing epochs are added to the run.
        weights: digest of the net's weights, None if it is not known.
    """
    trainings = experiment.children(net, seed)
    found = run_of_weights(trainings, weights)
    cached = found is None or found.data.tags.get("dvc.cached") == "true"
    run = (
        found.info.run_id if found else runs.child_run(experiment, params, net, seed, {"dvc.cached": "true"})
    )
    for one in trainings:
        role = runs.NET if one.info.run_id == run else runs.REPLACED
        if one.data.tags["role"] != role:
            experiment.client.set_tag(one.info.run_id, "role", role)
    rows = history[(history.net == net) & (history.seed == seed)].drop(columns=["net", "seed"])
    runs.log_curve(experiment.client, run, rows.to_dict("records"))
    return run, cached


def run_of_weights(trainings: Sequence[Any], weights: str | None) -> Any:
    """The run tagged with these weights, else the newest untagged one that did not fail; None if there is none."""
    known = (one for one in trainings if weights and one.data.tags.get("weights") == weights)
    ended = (
        one
        for one in trainings
        if one.info.status not in ("FAILED", "KILLED") and not (weights and "weights" in one.data.tags)
    )
    return next(known, None) or next(ended, None)


def weights_digest(net: str) -> str | None:
    """Digest of a net's file of weights, which identifies runs that share them; None if the file is absent."""
    path = MODELS / f"{net}.pt"
    if not path.exists():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
