"""Stage `aggregate`: what was measured of all nets of params.yaml as tidy CSV, summary and tables, and in MLflow."""

import json
from collections.abc import Sequence
from pathlib import Path

import click
import pandas as pd

from stages import paper
from stages.caption import describe_run
from stages.cells import AUTHORS, Lineup
from stages.mirror import mirror
from stages.paper_tables import perturbations, table2, table3
from stages.params import Params, load_params
from stages.predictions import PREDICTIONS
from stages.results import check, check_official
from stages.statistics import read_answers
from stages.statistics_tables import calibration, difference
from stages.summary import choose_baseline, leave_out_incomplete, pairs, summarise_nets
from stages.tables import Table, markdown, write_csv, write_table, write_text


@click.command()
def main() -> None:
    """Gather the results of every net of params.yaml into metrics/<data>/."""
    params = load_params()
    folder = Path("metrics") / params.data.name
    corruption = check(folder / "corruption", params, ["corruption", "severity"])
    perturbation = check(folder / "perturbation", params, ["perturbation", "protocol", "metric"])
    history = check(folder / "history", params, ["epoch"])
    authors_c = check_official(folder / "official" / "corruption.csv", params, ["corruption", "severity"])
    authors_p = check_official(
        folder / "official" / "perturbation.csv", params, ["perturbation", "protocol", "metric"]
    )
    answers = read_answers(
        PREDICTIONS / params.data.name,
        {net: params.training(net).seeds for net in params.nets},
        corruption.rows,
        perturbation.rows,
    )
    for source in (corruption, perturbation, history, authors_c, authors_p, answers):
        for warning in source.warnings:
            click.echo(f"Warning: {warning}", err=True)

    errors, flips = stack(corruption.rows, authors_c.rows), stack(perturbation.rows, authors_p.rows)
    faults_c, faults_p = (
        stack(corruption.faults, authors_c.faults),
        stack(perturbation.faults, authors_p.faults),
    )
    baseline, normaliser = choose_baseline(params, corruption.rows, corruption.faults)
    summary = leave_out_incomplete(
        summarise_nets(errors, flips, history.rows, baseline), faults_c, faults_p, history.faults
    )
    archs = {name: net.arch for name, net in params.nets.items()}
    couples = pairs(archs, {name: params.blocks[net.block].layers for name, net in params.nets.items()})
    lineup = line_up(params, errors)

    write_csv(folder / "corruption.csv", errors)
    write_csv(folder / "perturbation.csv", flips)
    write_csv(folder / "summary.csv", summary)
    write_text(folder / "summary.json", json.dumps(means(summary, lineup), indent=2) + "\n")
    write_csv(folder / "bars.csv", corruption_bars(errors))

    tables = [
        table3(params, lineup, summary, couples, stack(faults_c, faults_p, history.faults)),
        table2(params, lineup, errors, faults_c, summary),
        perturbations(params, lineup, flips, faults_p),
        difference(params, lineup, answers, couples),
        calibration(params, lineup, answers),
    ]
    tables = [table for table in tables if table is not None]
    run = describe_run(params, normaliser, baseline, answers.images)
    for table in tables:
        write_table(
            folder / "tables",
            table.name,
            table.display,
            tidy=table.tidy,
            title=table.title,
            note=f"{table.note} {run}",
        )
    for net, counts in answers.confusion.items():
        write_csv(folder / "tables" / "confusion" / f"{net}.csv", counts)
    text = page(params.data.name, run, tables)
    write_text(folder / "tables.md", text)
    click.echo(text)
    mirror(
        params,
        folder,
        corruption.rows,
        perturbation.rows,
        history.rows,
        summary[summary.net.isin(params.nets)],
    )


def stack(*tables: pd.DataFrame) -> pd.DataFrame:
    """Rows of several tables, those without any left out: their columns would lose their types."""
    filled = [table for table in tables if not table.empty]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def line_up(params: Params, errors: pd.DataFrame) -> Lineup:
    """The nets of params.yaml by architecture, and whom they stand beside."""
    families: dict[str, list[str]] = {}
    for name, net in params.nets.items():
        families.setdefault(net.arch, []).append(name)
    marked = [net for net in dict.fromkeys(errors.net) if net.endswith(f" ({AUTHORS})")]
    return Lineup(
        {net: params.training(net).seeds for net in params.nets},
        families,
        paper.counterparts(params),
        {net: paper.registry_name(net.removesuffix(f" ({AUTHORS})")) for net in marked},
    )


def means(summary: pd.DataFrame, lineup: Lineup) -> dict[str, dict[str, float]]:
    """Mean over seeds of every quantity of every net; without those that lack a seed."""
    found = {}
    for net, table in summary.groupby("net", sort=False):
        whole = len(lineup.seeds.get(net, [0]))
        values = table.drop(columns=["net", "seed"])
        values = values.loc[:, values.count() == whole].mean()
        found[net] = {key: round(value, 4) for key, value in values.items()}
    return found


def corruption_bars(corruption: pd.DataFrame) -> pd.DataFrame:
    """Mean error of each net on each corruption, one row each, for `dvc plots`."""
    bars = corruption.groupby(["net", "corruption"], sort=False).error.mean().reset_index()
    return bars.assign(bar=bars.corruption + " " + bars.net)[["bar", "net", "corruption", "error"]]


def page(name: str, run: str, tables: Sequence[Table]) -> str:
    """All tables on one Markdown page, with what is needed to read them."""
    sections = [
        f"## {table.title}\n\n{table.note}\n\n{markdown(table.display, level=3)}\n" for table in tables
    ]
    return "\n".join([f"# {name}\n\n{run}\n", *sections])


if __name__ == "__main__":
    main()
