"""`python -m stages.experiments.study <study>`: the experiments of a study of the paper, its table and its figures.

What has been run is not run again: see `stages.experiments.studies` for what makes two experiments the same.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import pandas as pd

from common_corruptions.sweeps import FIGURE4_VARIANCES, FIGURE5_CONTRASTS
from stages.experiments.queue import read, run
from stages.experiments.studies import STUDIES, Experiment, Study, experiments
from stages.files import datasets, workspace
from stages.files.writing import show
from stages.page.study_figures import accuracy_bars
from stages.tables.studies import TABLES, accuracies
from stages.tables.table import write_table
from stages.tracking import runs, store
from stages.tracking.mirror import net_run


@click.command()
@click.argument("study", type=click.Choice(list(STUDIES)))
@click.option(
    "--data", help="The paper's data set, for full size; by default the set and size of params.yaml."
)
@click.option("--set", "-S", "extra", multiple=True, help="Change a parameter, as `dvc exp run -S` does.")
@click.option(
    "--jobs", "-j", type=click.IntRange(1), default=2, show_default=True, help="Experiments at a time."
)
def main(study: str, data: str | None, extra: tuple[str, ...], jobs: int) -> None:
    """Run the experiments of STUDY that were not run yet in DVC's queue, then write its table and figures.

    They go to metrics/<data>/studies, from where `dvc repro` takes them into the report; the results also go to MLflow.
    """
    chosen = STUDIES[study]
    wanted = experiments(chosen, data or None, extra)
    store.connect()  # creates MLflow's database, which two trainings that start together cannot
    # Workers that all take all cores get in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    revisions = run(wanted, jobs, chosen.prepare)
    measured = gather(chosen, wanted, revisions)
    write(chosen, measured, wanted[0].params.data.name)
    for one in wanted:
        mirror(chosen, one, revisions[one.name], measured[measured.experiment == one.name])


def gather(study: Study, wanted: Sequence[Experiment], revisions: Mapping[str, str]) -> pd.DataFrame:
    """The measurements of all experiments: experiment, scale, alpha, train_alpha, and the columns of the stage.

    Scale and alpha are NaN for a net without push-pull layers, train_alpha is False.

    Raises:
        click.ClickException: an experiment lacks a seed, or holds a measurement twice or not a number.
    """
    tables = []
    for one in wanted:
        path = Path("metrics") / one.params.data.name / study.results / f"{one.cell.net}.csv"
        try:
            table = pd.read_csv(io.StringIO(read(revisions[one.name], path)))
        except ValueError:
            table = pd.DataFrame()  # which holds no seed
        keys = [column for column in table.columns if column != "error"]
        seeds = set(one.params.training(one.cell.net).seeds)
        if set(table.get("seed", ())) != seeds or table.duplicated(keys).any() or table.isna().any(axis=None):
            raise click.ClickException(
                f"{path} of experiment {one.name} must hold every measurement of the seeds {sorted(seeds)} once; "
                f"`dvc exp remove {one.name}` and the same command measure it again"
            )
        options = one.params.options(one.cell.net)
        plain = options["pushpull"] is None
        table.insert(0, "experiment", one.name)
        tables.append(
            table.assign(
                scale=float("nan") if plain else options["scale"],
                alpha=float("nan") if plain else options["alpha"],
                train_alpha=not plain and options["train_alpha"],
            )
        )
    return pd.concat(tables, ignore_index=True)


def write(study: Study, measured: pd.DataFrame, data_name: str) -> None:
    """Write the study's table, and its figures if it has any, to metrics/<data>/."""
    folder = Path("metrics") / data_name
    table = TABLES[study.name](measured, data_name)
    write_table(folder / "studies", **table._asdict())
    show((folder / "studies" / f"{table.name}.md").read_text(encoding="utf-8"))
    if study.name == "mnist":
        values = accuracies(measured)
        for name, sweep, levels, title, axis in (
            ("figure4", "gaussian_noise", FIGURE4_VARIANCES, "Gaussian noise", "noise variance σ²"),
            ("figure5", "poisson_noise", FIGURE5_CONTRASTS, "contrast and Poisson noise", "contrast C"),
        ):
            accuracy_bars(
                folder / "studies" / f"{name}.png", values, sweep, levels,
                title=f"{datasets.full_name(data_name)}, {title} (paper, figure {name[-1]})", axis=axis,
            )  # fmt: skip


def mirror(study: Study, experiment: Experiment, revision: str, measured: pd.DataFrame) -> None:
    """Give the experiment's runs in MLflow what was measured; a net that DVC took from its cache gets a run, too."""
    params, net = experiment.params, experiment.cell.net
    values = {
        seed: {f"{study.results}/{key}": error for key, error in errors_by_condition(study, rows).items()}
        for seed, rows in measured.groupby("seed")
    }
    baseline = workspace.git("rev-parse", f"{revision}^")
    opened = runs.open_experiment(params, runs.identity(experiment.name, baseline))
    client = opened.client
    if client.get_run(opened.parent).data.metrics:
        return
    curves = read(revision, Path("metrics") / params.data.name / "history" / f"{net}.csv")
    history = pd.read_csv(io.StringIO(curves))
    for seed, metrics in values.items():
        child, _ = net_run(opened, params, net, seed, history)
        runs.log_metrics(client, child, metrics)
        client.set_terminated(child)
    means = pd.DataFrame(values.values()).mean()
    runs.log_metrics(client, opened.parent, {f"{key}/{net}": value for key, value in means.items()})
    client.set_terminated(opened.parent)


def errors_by_condition(study: Study, rows: pd.DataFrame) -> dict[str, float]:
    """Error of one net and seed by condition, as MLflow names it: `gaussian_noise_0.01`, or the corruption."""
    if study.results == "corruption":
        return rows.groupby("corruption").error.mean().to_dict()
    names = rows.sweep.where(rows.sweep == "clean", rows.sweep + "_" + rows.level.map("{:g}".format))
    return dict(zip(names, rows.error, strict=True))


if __name__ == "__main__":
    main()
