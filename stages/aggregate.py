"""Stage `aggregate`: gather the results of all nets into tidy CSV files, a summary, tables, and MLflow."""

import json
from collections.abc import Sequence
from pathlib import Path

import click
import pandas as pd

from stages.files.datasets import full_name
from stages.files.interruption import stopping
from stages.files.measurements import AUTHORS, Results, check, check_official, concatenate
from stages.files.params import load_params
from stages.files.predictions import PREDICTIONS
from stages.files.schema import Params
from stages.files.writing import show, write_csv, write_text
from stages.tables import paper
from stages.tables.agreement import agreement
from stages.tables.answers import read_answers
from stages.tables.caption import describe_run
from stages.tables.cells import Lineup
from stages.tables.differences import calibration, difference
from stages.tables.paper_tables import table2, table3
from stages.tables.perturbations import perturbations
from stages.tables.summary import choose_baseline, leave_out_incomplete, pairs, summarise_nets
from stages.tables.table import Table, markdown, write_table
from stages.tracking.mirror import mirror
from stages.tracking.store import spared


@click.command()
@stopping("starts over")
def main() -> None:
    """Gather the results of all nets of params.yaml in metrics/<data>/."""
    params = load_params()
    folder = Path("metrics") / params.data.name
    corruption = check(folder / "corruption", params, ["corruption", "severity"])
    perturbation = check(folder / "perturbation", params, ["perturbation", "protocol", "metric"])
    history = check(folder / "history", params, ["epoch"])
    errors = with_official(corruption, folder / "official" / "corruption.csv", params)
    flips = with_official(perturbation, folder / "official" / "perturbation.csv", params)
    if errors.rows.empty:
        raise click.ClickException(f"no measurements in {folder / 'corruption'}; `dvc repro` makes them")

    lineup = line_up(params, errors.rows)
    couples = pairs(params)
    answers = read_answers(
        answer_files(params.data.name, lineup), lineup.every_seed(), errors.rows, flips.rows
    )
    for source in (errors, flips, history, answers):
        for warning in source.warnings:
            click.echo(f"Warning: {warning}", err=True)
    baseline, normaliser = choose_baseline(params, corruption.rows, corruption.faults)
    summary = summarise_nets(errors.rows, flips.rows, history.rows, baseline)
    summary = leave_out_incomplete(summary, errors.faults, flips.faults, history.faults)

    write_csv(folder / "corruption.csv", errors.rows)
    write_csv(folder / "perturbation.csv", flips.rows)
    write_csv(folder / "summary.csv", summary)
    write_text(folder / "summary.json", json.dumps(means(summary, lineup), indent=2) + "\n")
    write_csv(folder / "bars.csv", corruption_bars(errors.rows))

    at_fault = pd.concat([errors.faults, flips.faults, history.faults])
    tables = [
        table3(params, lineup, summary, couples, at_fault),
        table2(params, lineup, errors.rows, errors.faults, summary),
        perturbations(params, lineup, flips.rows, flips.faults),
        difference(params, lineup, answers, [*couples, *lineup.authors_couples()]),
        agreement(params, lineup, answers),
        calibration(params, lineup, answers),
    ]
    tables = [table for table in tables if table is not None]
    run = describe_run(params, normaliser, baseline, answers.images)
    for table in tables:
        write_table(folder / "tables", **table._replace(note=f"{table.note} {run}")._asdict())
    for net in params.nets:
        if net in answers.confusion:
            write_csv(folder / "tables" / "confusion" / f"{net}.csv", answers.confusion[net])
    name = full_name(params.data.name, answers.images)
    write_text(folder / "tables.md", page(name, run, tables))
    shown = markdown(tables[0].display, level=2)
    show(f"{name}\n\n{shown}\n\nAll tables: {folder / 'tables.md'}")
    own = summary[summary.net.isin(params.nets)]
    spared(mirror, params, folder, corruption.rows, perturbation.rows, history.rows, own)


def with_official(own: Results, path: Path, params: Params) -> Results:
    """Our own measurements, followed by those of the authors' weights if there are any."""
    keys = [column for column in own.faults if column not in ("net", "seed", "fault")]
    return concatenate([own, check_official(path, params, keys)])


def line_up(params: Params, errors: pd.DataFrame) -> Lineup:
    """The nets of params.yaml by architecture, and the nets they are compared with."""
    families: dict[str, list[str]] = {}
    for name, net in params.nets.items():
        families.setdefault(net.arch, []).append(name)
    return Lineup(
        {net: params.training(net).seeds for net in params.nets},
        families,
        paper.counterparts(params),
        paper.authors_nets(errors.net),
    )


def answer_files(data_name: str, lineup: Lineup) -> dict[str, tuple[Path, Path]]:
    """Net -> the files of its predictions on corrupted images and on perturbed sequences."""
    folder = PREDICTIONS / data_name
    own = {net: (folder, net) for net in lineup.seeds}
    authors = {net: (folder / "official", net.removesuffix(f" ({AUTHORS})")) for net in lineup.authors}
    return {
        net: (place / "corruption" / f"{name}.npz", place / "perturbation" / f"{name}.npz")
        for net, (place, name) in {**own, **authors}.items()
    }


def means(summary: pd.DataFrame, lineup: Lineup) -> dict[str, dict[str, float]]:
    """Mean over seeds of every quantity of every net; quantities that lack a seed are left out."""
    found = {}
    for net, table in summary.groupby("net", sort=False):
        whole = len(lineup.seeds.get(net, [0]))
        values = table.drop(columns=["net", "seed"])
        values = values.loc[:, values.count() == whole].mean()
        found[net] = {key: round(value, 4) for key, value in values.items()}
    return found


def corruption_bars(corruption: pd.DataFrame) -> pd.DataFrame:
    """Mean error of each net on each corruption, one row per pair, for `dvc plots`."""
    bars = corruption.groupby(["net", "corruption"], sort=False).error.mean().reset_index()
    return bars.assign(bar=bars.corruption + " " + bars.net)[["bar", "net", "corruption", "error"]]


def page(name: str, run: str, tables: Sequence[Table]) -> str:
    """All tables on one Markdown page, with their notes."""
    sections = [
        f"## {table.title}\n\n{table.note}\n\n{markdown(table.display, level=3)}\n" for table in tables
    ]
    return "\n".join([f"# {name}\n\n{run}\n", *sections])


if __name__ == "__main__":
    main()
