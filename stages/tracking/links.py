"""Addresses of the pages of MLflow that answer which net is better, printed after every run of the pipeline.

MLflow reads the columns of a table from a tag of the experiment that the address names, the one that its button
"Share" writes; without it a page shows no column of ours.
"""

import json
from typing import NamedTuple
from urllib.parse import quote

import click

from stages.tracking import copies, store

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


def links(client, host: str, experiment: str, newest: str) -> Links:
    """Addresses of the views of an experiment of MLflow; writes there which columns they show.

    Args:
        client: client of the store that `host` serves.
        host: address of the server, without a slash at the end.
        experiment: id of the experiment, that is of a data set.
        newest: id of the parent run whose nets are compared with those of the one that ended last before it.
    """
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(_view()))
    runs = f"{host}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    compared = json.dumps(compared_runs(client, experiment, newest), separators=(",", ":"))
    comparison = f"{host}/#/compare-runs?runs={quote(compared)}&experiments={quote(json.dumps([experiment]))}"
    return Links(
        table=f"{runs}&viewStateShareKey={VIEW}",
        charts=f"{runs}&viewStateShareKey={VIEW}&compareRunsMode=CHART",
        experiments=runs,
        comparison=comparison,
    )


def compared_runs(client, experiment: str, newest: str) -> list[str]:
    """Ids of the runs of every net of the last two experiments; where that is too many, of its first seed."""
    ended = client.search_runs(
        [experiment], "tags.role = 'experiment' and attributes.status = 'FINISHED'",
        max_results=2, order_by=["attributes.end_time DESC"],
    )  # fmt: skip
    others = [run.info.run_id for run in ended if run.info.run_id != newest]
    nets = []
    for parent in [*others[:1], newest]:
        found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
        nets += sorted(found, key=lambda run: (int(run.data.tags["seed"]), run.data.tags["net"]))
    if len(nets) > MOST_COMPARED:
        first = {}
        for run in nets:
            first.setdefault((run.data.tags["mlflow.parentRunId"], run.data.tags["net"]), run)
        nets = list(first.values())
    return [run.info.run_id for run in nets]


def show(local, experiment: str, parent: str, port: int = PORT) -> None:
    """Bring the server, if there is one, up to date, and print the addresses of the views.

    Args:
        local: client of the store beside the pipeline.
        experiment: id of the experiment there.
        parent: id of the run of the DVC experiment there.
        port: where `make ui` serves, if there is no other server.
    """
    host = store.server_uri()
    if host:
        try:
            copies.upload(local)
            remote = copies.connect()
            copied = copies.remote_experiment(local, remote, experiment)
            newest = copies.find_copy(remote, copied, parent).info.run_id
            _print(links(remote, host, copied, newest))
            return
        except copies.ServerError as error:
            click.echo(
                f"{error}; the runs are kept here, `python -m stages.tracking sync` uploads them later"
            )
    click.echo("`make ui` serves the runs:")
    _print(links(local, f"http://127.0.0.1:{port}", experiment, parent))


def _print(addresses: Links) -> None:
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
