"""Stage `study@<table>` of studies/dvc.yaml: a table of the paper, and its figures, from what was measured of all nets.

They go to metrics/<data>/studies, from where `dvc repro` takes them into the report; the results also go to MLflow.
"""

from collections.abc import Mapping
from pathlib import Path

import click
import pandas as pd

from common_corruptions.sweeps import FIGURE4_VARIANCES, FIGURE5_CONTRASTS
from stages.files.datasets import full_name
from stages.files.interruption import stopping
from stages.files.params import in_pipeline, load_params
from stages.files.schema import Params
from stages.files.writing import read_table, show
from stages.page.study_figures import accuracy_bars
from stages.tables.augmentation import describe_augmentation
from stages.tables.studies import TABLES, accuracies
from stages.tables.table import write_table
from stages.tracking import runs
from stages.tracking.mirror import net_run
from stages.tracking.store import spared

OPTIONS = ("scale", "alpha", "train_alpha")
# What a table tells nets apart by.
KEYS = {"table1": ["net"], "table4": ["net", "scale", "alpha"], "table5": ["net", "train_alpha"]}


@click.command()
@click.argument("table", type=click.Choice(list(TABLES)))
@in_pipeline
@stopping("starts anew")
def main(table: str, pipeline: Path) -> None:
    """Write TABLE and its figures to metrics/<data>/studies."""
    params = load_params(pipeline=pipeline)
    if params.study is None or table not in params.study.tables:
        raise click.UsageError(f"{table} is no table of a study; name its folder, as in `--pipeline studies`")
    data_name, kind = params.data.name, params.study.tables[table]
    results = pipeline / "metrics" / data_name
    measured = gather(params, results / kind, KEYS[table])
    folder = Path("metrics") / data_name / "studies"
    written = TABLES[table](measured, data_name)
    if table != "table4":  # which has columns for them
        written = written._replace(note=written.note + deviations(measured))
    written = written._replace(note=" ".join([written.note, *describe_augmentation(params)]))
    write_table(folder, **written._asdict())
    show((folder / f"{table}.md").read_text(encoding="utf-8"))
    if table == "table1":
        write_figures(folder, accuracies(measured), full_name(data_name))
    spared(mirror, params, {kind: measured}, results / "history")


def gather(params: Params, folder: Path, keys: list[str]) -> pd.DataFrame:
    """The measurements of all nets of a study.

    Args:
        params: of the study.
        folder: with `<net>.csv`.
        keys: the columns by which the table tells nets apart.

    Returns:
        name (under `nets`), net (of the paper, such as resnet14-pp), scale, alpha (both NaN without a push-pull layer),
        train_alpha (then False), and the columns of the stage that measured.

    Raises:
        click.ClickException: a file of measurements is not whole, or two nets are one in the table.
    """
    tables = []
    for name, entry in params.nets.items():
        path = folder / f"{name}.csv"
        table = read_table(path, ["net", "seed", "error"])
        conditions = [column for column in table if column != "error"]
        seeds = sorted(params.training(name).seeds)
        if (
            sorted(set(table.seed)) != seeds
            or table.duplicated(conditions).any()
            or table.isna().any(axis=None)
        ):
            raise click.ClickException(
                f"{path} must hold every measurement of the seeds {seeds} once; remove it, then the same command"
            )
        options = params.options(name)
        if options["pull"] != "upsampled" or options["alpha"] == "uniform":
            raise click.ClickException(
                f"{name} has no number as its alpha, or another pull than the paper's, for which the table has no place"
            )
        plain = options["pushpull"] is None
        values = [float("nan"), float("nan"), False] if plain else [options[key] for key in OPTIONS]
        net = entry.arch if plain else f"{entry.arch}-pp"
        tables.append(table.assign(name=name, net=net, **dict(zip(OPTIONS, values, strict=True))))
    measured = pd.concat(tables, ignore_index=True)
    for _, names in measured.groupby(keys, dropna=False).name:
        if len(same := names.unique()) > 1:
            raise click.ClickException(
                f"{' and '.join(same)} differ in nothing that the table shows; take one out of `study.nets`"
            )
    return measured


def deviations(measured: pd.DataFrame) -> str:
    """A sentence that names the nets whose alpha and scale are not the paper's 1 and 2; empty without any."""
    layers = measured.dropna(subset="alpha").drop_duplicates("name")
    other = layers[(layers.alpha != 1) | (layers.scale != 2)]
    each = [f"{row.name} (alpha={row.alpha:g}, scale={row.scale:g})" for row in other.itertuples()]
    return f" Not the paper's layer: {', '.join(each)}." if each else ""


def write_figures(folder: Path, values: pd.DataFrame, name: str) -> None:
    """Figures 4 and 5 of the paper, from the accuracies of the LeNets."""
    for figure, sweep, levels, title, axis in (
        ("figure4", "gaussian_noise", FIGURE4_VARIANCES, "Gaussian noise", "noise variance σ²"),
        ("figure5", "poisson_noise", FIGURE5_CONTRASTS, "contrast and Poisson noise", "contrast C"),
    ):
        title = f"{name}, {title} (paper, figure {figure[-1]})"
        accuracy_bars(folder / f"{figure}.png", values, sweep, levels, title=title, axis=axis)


def mirror(params: Params, measured: Mapping[str, pd.DataFrame], history: Path) -> None:
    """Give every net and seed its run in MLflow with what was measured, and the parent run the means.

    Args:
        params: of the study.
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
    """Error of one net and seed by condition, as MLflow names it: `gaussian_noise_0.01`, or the corruption."""
    if kind != "noise":
        return rows.groupby(kind).error.mean().to_dict()
    names = rows.sweep.where(rows.sweep == "clean", rows.sweep + "_" + rows.level.map("{:g}".format))
    return dict(zip(names, rows.error, strict=True))


if __name__ == "__main__":
    main()
