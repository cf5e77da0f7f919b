"""The measurements of all nets of a study: read them for its tables, only if complete, and log them to MLflow."""

from collections.abc import Mapping
from pathlib import Path

import click
import pandas as pd

from stages.files.measurements import check
from stages.files.schema import Params
from stages.tracking import runs
from stages.tracking.mirror import net_run


def whole(folder: Path, params: Params, keys: list[str]) -> pd.DataFrame:
    """Read the measurements of all nets of the study, on corruptions or perturbations.

    Raises:
        click.ClickException: a measurement is missing, occurs twice with two values, or is not a number in its range.
    """
    files_of(folder, params)
    found = check(folder, params, keys)
    if len(found.faults):
        raise click.ClickException(f"{found.warnings[0]}; remove the file and rerun the command")
    return found.rows


def files_of(folder: Path, params: Params) -> dict[str, Path]:
    """Net -> its file of measurements.

    Raises:
        click.ClickException: a file is missing.
    """
    paths = {name: folder / f"{name}.csv" for name in params.nets}
    for path in paths.values():
        if not path.exists():
            raise click.ClickException(f"no {path}; `dvc repro studies/dvc.yaml` makes it")
    return paths


def mirror(params: Params, measured: Mapping[str, pd.DataFrame], history: Path) -> None:
    """Log the measurements of every net and seed to its run in MLflow, and the means to the parent run.

    Args:
        params: parameters of the study.
        measured: kind of measurement -> name (or net), seed, error (percent), and the columns of its stage.
        history: folder with the training curves.
    """
    experiment = runs.open_experiment(params)
    client = experiment.client
    for name in params.nets:
        curves = pd.read_csv(history / f"{name}.csv")
        values = {}
        for seed in params.training(name).seeds:
            run, _ = net_run(experiment, params, name, seed, curves)
            values[seed] = {}
            for kind, table in measured.items():
                own = table[(table["name" if "name" in table else "net"] == name) & (table.seed == seed)]
                values[seed] |= {f"{kind}/{key}": error for key, error in by_condition(kind, own).items()}
            runs.log_metrics(client, run, values[seed])
            client.set_terminated(run)
        means = pd.DataFrame(values.values()).mean()
        runs.log_metrics(client, experiment.parent, {f"{key}/{name}": error for key, error in means.items()})
    client.set_terminated(experiment.parent)


def by_condition(kind: str, rows: pd.DataFrame) -> dict[str, float]:
    """Error of one net and seed by condition, named as in MLflow: `gaussian_noise_0.01`, or the corruption."""
    if kind != "noise":
        return rows.groupby(kind).error.mean().to_dict()
    names = rows.sweep.where(rows.sweep == "clean", rows.sweep + "_" + rows.level.map("{:g}".format))
    return dict(zip(names, rows.error, strict=True))
