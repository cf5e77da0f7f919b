"""Stage `comparison@frontends` of studies/dvc.yaml: compare nets that differ in their front end, in a table and figure.

Both are written to metrics/<data>/studies, from where `dvc repro` includes them in the report; the results also go to
MLflow.
"""

from pathlib import Path

import click

from stages.experiments.measured import mirror, whole
from stages.files.interruption import stopping
from stages.files.params import in_pipeline, load_params
from stages.files.predictions import PREDICTIONS
from stages.files.schema import Params
from stages.files.writing import read_table, show
from stages.page.study_figures import front_end_bars
from stages.tables.answers import Answers, read_answers
from stages.tables.caption import measured_set
from stages.tables.frontends import frontends, labels
from stages.tables.table import write_table
from stages.tracking.store import spared


@click.command()
@click.argument("table", type=click.Choice(["frontends"]))
@in_pipeline
@stopping("starts over")
def main(table: str, pipeline: Path) -> None:
    """Write TABLE and its figure to metrics/<data>/studies."""
    params = load_params(pipeline=pipeline)
    if params.study is None or table not in params.study.comparisons:
        raise click.UsageError(
            f"{table} is not a table of a study; give its folder, as in `--pipeline studies`"
        )
    data_name, results = params.data.name, pipeline / "metrics" / params.data.name
    errors = whole(results / "corruption", params, ["corruption", "severity"])
    flips = whole(results / "perturbation", params, ["perturbation", "protocol", "metric"])
    answers = all_answers(params, pipeline / PREDICTIONS / data_name, errors, flips)
    path = results / "cost" / f"{table}.csv"
    cost = read_table(path, ["net", "training_ms"])
    if list(cost.net) != list(params.nets):
        raise click.ClickException(f"{path} is for other nets; remove it and rerun the command")
    folder = Path("metrics") / data_name / "studies"
    baseline = params.study.comparisons[table]
    written = frontends(params, answers, cost, baseline)
    write_table(folder, **written._asdict())
    show((folder / f"{table}.md").read_text(encoding="utf-8"))
    title = f"{measured_set(params.data, answers.images)}: error by group of corruptions, and mFP"
    front_end_bars(folder / f"{table}.png", written.tidy, labels(params), baseline=baseline, title=title)
    hendrycks = flips[(flips.protocol == "hendrycks") & (flips.metric == "flip_probability")]
    measured = {"corruption": errors, "perturbation": hendrycks.assign(error=100 * hendrycks["value"])}
    spared(mirror, params, measured, results / "history")


def all_answers(params: Params, folder: Path, errors, flips) -> Answers:
    """Read the predictions of every net.

    Raises:
        click.ClickException: the predictions of a net are missing, lack a seed, or do not match the measurements.
    """
    files = {
        net: (folder / "corruption" / f"{net}.npz", folder / "perturbation" / f"{net}.npz")
        for net in params.nets
    }
    seeds = {net: params.training(net).seeds for net in params.nets}
    answers = read_answers(files, seeds, errors, flips)
    if answers.warnings:
        raise click.ClickException(answers.warnings[0])
    for net, paths in files.items():
        for path, scores in zip(paths, (answers.errors[net], answers.flips[net]), strict=True):
            if scores.seeds != list(seeds[net]):
                raise click.ClickException(
                    f"{path} must hold the predictions of seeds {seeds[net]}, has {scores.seeds}; "
                    "remove it and rerun the command"
                )
    return answers


if __name__ == "__main__":
    main()
