"""Addresses of the MLflow pages that compare the nets, printed after every run of the pipeline.

MLflow reads the columns of a table from a tag of the experiment; the address contains the tag's key. MLflow's button
"Share" writes such tags; without one, a page shows none of our columns.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

import click

from stages.tracking import address, copies, runs

PORT = 5000

# (name, width in pixels). The most important come first: on a first visit MLflow's assistant covers part of the table.
COLUMNS = (
    ("attributes.`Run Name`", 330),
    ("metrics.`test/mCE`", 130),
    ("metrics.`test/E_corr`", 130),
    ("params.`alpha`", 65),
    ("tags.`seed`", 60),
    ("metrics.`test/E_clean`", 130),
    ("metrics.`test/rCE`", 130),
    ("metrics.`test/mFP`", 130),
    ("params.`scale`", 70),
    ("tags.`dvc.exp`", 150),
    ("params.`train.epochs`", 110),
    ("metrics.`train/seconds`", 120),
    ("tags.`device`", 110),
    ("tags.`git.commit`", 100),
    ("params.`data.name`", 110),
    ("attributes.`Dataset`", 170),
)


class Links(NamedTuple):
    """Addresses of the nets as a table and as charts, all experiments, and the comparison of the last two."""

    table: str
    charts: str
    experiments: str
    comparison: str


def links(client, host: str, experiment: str, compared: list[str]) -> Links:
    """Addresses of the views of an MLflow experiment; writes the columns of the views to its tags.

    Args:
        client: client of the store that `host` serves.
        host: address of the server, without a trailing slash.
        experiment: id of the experiment (one per data set).
        compared: ids of the parent runs to compare.
    """
    views = {
        "nets": nets(),
        "charts": charts(),
        "experiments": experiments(client, experiment),
        "comparison": comparison(compared),
    }
    for name, view in views.items():
        client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{name}", json.dumps(view))
    page = f"{host}/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey="
    return Links(
        table=f"{page}nets",
        charts=f"{page}charts&compareRunsMode=CHART",
        experiments=f"{page}experiments",
        comparison=f"{page}comparison&compareRunsMode=CHART",
    )


def compared_experiments(client, experiment: str, newest: str | None) -> list[str]:
    """Ids of the parent runs of two experiments with nets, older first; of one or none if there are fewer.

    Args:
        client: client of the store.
        experiment: id of the MLflow experiment.
        newest: id of the parent run of the newer one. The other one, and both if `newest` is None or has no nets, are
            the experiments that ended last.
    """
    ended = client.search_runs(
        [experiment], "tags.role = 'experiment' and attributes.status = 'FINISHED'",
        max_results=3, order_by=["attributes.end_time DESC"],
    )  # fmt: skip
    others = [run.info.run_id for run in ended if run.info.run_id != newest]
    found = [
        parent
        for parent in ([newest, *others] if newest else others)
        if client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=1)
    ]
    return found[1::-1]


def show(local, data_name: str, parent: str | None, port: int = PORT) -> None:
    """Update the server, if there is one, and print the addresses of the views; no run is created locally.

    Args:
        local: client of the local store.
        data_name: name of the data set.
        parent: id in the local store of the run of the DVC experiment or workspace state, if it has one.
        port: port of `make ui`, used if there is no server.
    """
    host = address.server_uri()
    if host:
        try:
            copies.upload(local)
            remote = copies.connect()
            experiment = copies.find_experiment(remote, data_name)
            copy = copies.find_copy(remote, experiment, parent) if experiment and parent else None
            _print(remote, address.without_user(host), data_name, experiment, copy and copy.info.run_id)
            return
        except copies.ServerError as error:
            click.echo(
                f"{error}; the runs are kept here, `python -m stages.tracking sync` uploads them later"
            )
    click.echo("`make ui` serves the runs:")
    _print(local, f"http://127.0.0.1:{port}", data_name, runs.find_experiment(local, data_name), parent)


def _print(client, host: str, data_name: str, experiment: str | None, newest: str | None) -> None:
    compared = compared_experiments(client, experiment, newest) if experiment else []
    if not compared:
        click.echo(f"MLflow has no runs on {data_name} yet; `dvc repro` makes them ({host})")
        return
    addresses = links(client, host, experiment, compared)
    click.echo(f"MLflow, all nets:        {addresses.table}")
    click.echo(f"MLflow, charts:          {addresses.charts}")
    click.echo(f"MLflow, all experiments: {addresses.experiments}")
    click.echo(f"MLflow, the last two:    {addresses.comparison}")


def nets() -> dict:
    """State of MLflow's page of runs that shows the nets, best mCE first: means over seeds, and each seed below."""
    keys = [{"mode": "tag", "groupByData": runs.GROUP}]
    return {
        **_table("tags.role = 'net'", "metrics.`test/mCE`", True, COLUMNS),
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys},
    }


def charts() -> dict:
    """State of that page with charts wide enough for their titles, and a legend of net, alpha and experiment."""
    sections = [
        _section(name, columns=2, height=400) for name in ("test", "corruption", "perturbation", "train")
    ]
    return {**nets(), "runListHidden": True, "compareRunCharts": [], **_sections(sections)}


def experiments(client, experiment: str) -> dict:
    """State of that page with the DVC experiments, newest first: mCE and E of each net, alpha and data set."""
    newest = client.search_runs([experiment], "tags.role = 'experiment'", max_results=20)
    measured = dict.fromkeys(key for run in newest for key in run.data.metrics)
    metrics = [key for name in ("mCE", "E_corr") for key in measured if key.startswith(f"{name}/")]
    columns = [
        *((f"metrics.`{key}`", 120) for key in metrics),
        *(
            (f"params.`{key}`", 110)
            for key in ("pushpull.alpha", "pushpull.scale", "train.epochs", "data.name")
        ),
        ("tags.`git.commit`", 100),
    ]
    return _table("tags.role = 'experiment'", "attributes.`Created`", False, columns)


def comparison(compared: list[str]) -> dict:
    """State of that page with two experiments: a table of the parameters and means that differ."""
    section = _section("what differs", columns=1, height=700)
    table = {
        "type": "DIFFERENCE",
        "uuid": "difference",
        "metricSectionId": section["uuid"],
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": len(compared),
        "chartName": "Parameters and means that differ",
        "compareGroups": ["Parameters", "Model metrics"],
        "showChangeFromBaseline": False,
        "showDifferencesOnly": True,
        "baselineColumnUuid": "",
    }
    ids = ", ".join(f"'{run}'" for run in compared)
    return {
        **_table(f"attributes.run_id IN ({ids})", "attributes.`Created`", False, ()),
        "runListHidden": True,
        "compareRunCharts": [table],
        **_sections([section]),
    }


def _section(name: str, columns: int, height: int) -> dict:
    """A section of charts; `height` is that of each chart in pixels."""
    return {
        "uuid": name,
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        "columns": columns,
        "cardHeight": height,
    }


def _sections(sections: list[dict]) -> dict:
    """State that puts these sections first, in this order."""
    return {"compareRunSections": sections, "isAccordionReordered": True}


def _table(query: str, order: str, ascending: bool, columns: Sequence[tuple[str, int]]) -> dict:
    return {
        "searchFilter": query,
        "orderByKey": order,
        "orderByAsc": ascending,
        "selectedColumns": [name for name, _ in columns],
        "columnOrder": [name for name, _ in columns],
        "columnWidths": dict(columns),
        "runsHiddenMode": "FIRST_20_RUNS",
    }
