"""Addresses of the pages of MLflow that answer which net is better, printed after every run of the pipeline.

MLflow reads the columns of a table from a tag of the experiment that the address names, the one that its button
"Share" writes; without it a page shows no column of ours.
"""

import json
from typing import NamedTuple
from urllib.parse import quote

import click

from stages.tracking import copies, runs, store

PORT = 5000
VIEW = "overview"
MOST_COMPARED = 24  # runs beside each other on one page

METRICS = ("E_clean", "E_corr", "mCE", "rCE", "mFP")
COLUMNS = (  # heading is the name; width in pixels
    ("tags.`dvc.exp`", 150),
    ("params.`seed`", 65),
    ("params.`alpha`", 70),
    ("params.`scale`", 70),
    *((f"metrics.`test/{name}`", 100) for name in METRICS),
    ("params.`train.epochs`", 110),
    ("metrics.`train/seconds`", 120),
    ("tags.`device`", 110),
    ("tags.`git.commit`", 100),
    ("params.`data.name`", 110),
    ("attributes.`Dataset`", 170),
)


class Links(NamedTuple):
    """Addresses of the nets as a table and as charts, of all experiments, and of the last two side by side."""

    table: str
    charts: str
    experiments: str
    comparison: str


def links(client, host: str, experiment: str, compared: list[str]) -> Links:
    """Addresses of the views of an experiment of MLflow; writes there which columns they show.

    Args:
        client: client of the store that `host` serves.
        host: address of the server, without a slash at the end.
        experiment: id of the experiment, that is of a data set.
        compared: ids of the runs that stand side by side.
    """
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(_view()))
    table = f"{host}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    ids = json.dumps(compared, separators=(",", ":"))
    comparison = f"{host}/#/compare-runs?runs={quote(ids)}&experiments={quote(json.dumps([experiment]))}"
    return Links(
        table=f"{table}&viewStateShareKey={VIEW}",
        charts=f"{table}&viewStateShareKey={VIEW}&compareRunsMode=CHART",
        experiments=table,
        comparison=comparison,
    )


def compared_runs(client, experiment: str, newest: str | None) -> list[str]:
    """Ids of the runs of every net of two experiments; where that is too many, of its first seed.

    Args:
        client: client of the store.
        experiment: id of the MLflow experiment.
        newest: id of the parent run of one of the two; where it has no nets, or is None, and for the other one, those
            that ended last.
    """
    ended = client.search_runs(
        [experiment], "tags.role = 'experiment' and attributes.status = 'FINISHED'",
        max_results=3, order_by=["attributes.end_time DESC"],
    )  # fmt: skip
    others = [run.info.run_id for run in ended if run.info.run_id != newest]
    groups = []  # of nets, newest first
    for parent in [newest, *others] if newest else others:
        found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
        if found and len(groups) < 2:
            groups.append(sorted(found, key=lambda run: (int(run.data.tags["seed"]), run.data.tags["net"])))
    nets = [run for group in reversed(groups) for run in group]
    if len(nets) > MOST_COMPARED:
        first = {}
        for run in nets:
            first.setdefault((run.data.tags["mlflow.parentRunId"], run.data.tags["net"]), run)
        nets = list(first.values())
    return [run.info.run_id for run in nets]


def show(local, data_name: str, parent: str | None, port: int = PORT) -> None:
    """Bring the server, if there is one, up to date, and print the addresses of the views; no run is made.

    Args:
        local: client of the store beside the pipeline.
        data_name: the data set.
        parent: id there of the run of the DVC experiment or workspace state, if it has one.
        port: where `make ui` serves, if there is no other server.
    """
    host = store.server_uri()
    if host:
        try:
            copies.upload(local)
            remote = copies.connect()
            experiment = copies.find_experiment(remote, data_name)
            copy = copies.find_copy(remote, experiment, parent) if experiment and parent else None
            _print(remote, store.without_user(host), data_name, experiment, copy and copy.info.run_id)
            return
        except copies.ServerError as error:
            click.echo(
                f"{error}; the runs are kept here, `python -m stages.tracking sync` uploads them later"
            )
    click.echo("`make ui` serves the runs:")
    _print(local, f"http://127.0.0.1:{port}", data_name, runs.find_experiment(local, data_name), parent)


def _print(client, host: str, data_name: str, experiment: str | None, newest: str | None) -> None:
    compared = compared_runs(client, experiment, newest) if experiment else []
    if not compared:
        click.echo(f"MLflow has no runs on {data_name} yet; `dvc repro` makes them ({host})")
        return
    addresses = links(client, host, experiment, compared)
    click.echo(f"MLflow, all nets:        {addresses.table}")
    click.echo(f"MLflow, charts:          {addresses.charts}")
    click.echo(f"MLflow, all experiments: {addresses.experiments}")
    click.echo(f"MLflow, the last two:    {addresses.comparison}")


def _view() -> dict:
    """The state of MLflow's page of runs: nets alone, best mCE first, with the columns that decide."""
    return {
        "searchFilter": "tags.role = 'net'",
        "orderByKey": "metrics.`test/mCE`",
        "orderByAsc": True,
        "selectedColumns": [name for name, _ in COLUMNS],
        "columnOrder": [name for name, _ in COLUMNS],
        "columnWidths": dict(COLUMNS),
        "runsHiddenMode": "FIRST_20_RUNS",
    }
