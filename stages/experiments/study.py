"""Stage `study@<table>` of studies/dvc.yaml: a table of the paper, and its figures, from the measurements of all nets.

They are written to metrics/<data>/studies, from where `dvc repro` includes them in the report; the results also go to
MLflow.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import click
import pandas as pd

from common_corruptions.sweeps import FIGURE4_VARIANCES, FIGURE5_CONTRASTS, SWEEPS
from stages.experiments.measured import files_of, mirror, whole
from stages.files.datasets import count_classes, full_name, load_split
from stages.files.interruption import stopping
from stages.files.params import in_pipeline, load_params
from stages.files.schema import Params
from stages.files.writing import read_table, show
from stages.page.study_figures import accuracy_bars
from stages.tables import paper
from stages.tables.caption import describe_trainings
from stages.tables.studies import LENETS, TABLES, accuracies
from stages.tables.table import write_table
from stages.tracking.store import spared

OPTIONS = ("scale", "alpha", "train_alpha")
# The columns by which a table distinguishes nets.
KEYS = {"table1": ["net"], "table4": ["net", "scale", "alpha"], "table5": ["net", "train_alpha"]}


@click.command()
@click.argument("table", type=click.Choice(list(TABLES)))
@in_pipeline
@stopping("starts over")
def main(table: str, pipeline: Path) -> None:
    """Write TABLE and its figures to metrics/<data>/studies."""
    params = load_params(pipeline=pipeline)
    if params.study is None or table not in params.study.tables:
        raise click.UsageError(
            f"{table} is not a table of a study; give its folder, as in `--pipeline studies`"
        )
    data_name, kind = params.data.name, params.study.tables[table]
    results = pipeline / "metrics" / data_name
    measured = gather(params, results / kind, kind, KEYS[table])
    folder = Path("metrics") / data_name / "studies"
    test = load_split(data_name, "test")
    images = len(test.labels)
    if kind == "corruption":  # clean images too are limited to the number of corrupted ones
        images = min(images, params.data.corrupted_images or images)
    written = TABLES[table](measured, params, images)
    told = [written.note, *deviations(params, KEYS[table]), *describe_trainings(params)]
    written = written._replace(note=" ".join(told))
    write_table(folder, **written._asdict())
    show((folder / f"{table}.md").read_text(encoding="utf-8"))
    if table == "table1":
        classes = count_classes(load_split(data_name, "train"), test)
        write_figures(folder, accuracies(measured), full_name(data_name, images), classes)
    spared(mirror, params, {kind: measured}, results / "history")


def gather(params: Params, folder: Path, kind: str, keys: Sequence[str]) -> pd.DataFrame:
    """Gather the measurements of all nets of a study.

    Args:
        params: parameters of the study.
        folder: folder with `<net>.csv`.
        kind: kind of measurement, "noise" or "corruption".
        keys: the columns by which the table distinguishes nets.

    Returns:
        name (under `nets`), net (of the paper, such as resnet14-pp), scale, alpha (both NaN without a push-pull layer),
        train_alpha (False without one), as_published (whether the net equals the paper's in all options except `keys`
        and in training), and the columns of the stage that measured.

    Raises:
        click.ClickException: a file of measurements is incomplete, the table cannot show a net's alpha or pull, or it
            cannot distinguish two nets.
    """
    rows = (
        whole(folder, params, ["corruption", "severity"]) if kind == "corruption" else noise(folder, params)
    )
    tables = []
    for name, entry in params.nets.items():
        options = params.options(name)
        if options["pull"] != "upsampled" or options["alpha"] == "uniform":
            raise click.ClickException(
                f"{name} needs a numeric `alpha` and `pull: upsampled`, as in the paper: the table shows no others"
            )
        plain = options["pushpull"] is None
        values = [float("nan"), float("nan"), False] if plain else [options[key] for key in OPTIONS]
        shown = dict(zip(OPTIONS, values, strict=True))
        shown["net"] = entry.arch if plain else f"{entry.arch}-pp"
        published = not others(params, name, keys) and paper.trained_as_published(params, name)
        tables.append(rows[rows.net == name].assign(name=name, **shown, as_published=published))
    measured = pd.concat(tables, ignore_index=True)
    for _, names in measured.groupby(keys, dropna=False).name:
        if len(same := names.unique()) > 1:
            raise click.ClickException(
                f"{' and '.join(same)} look the same in the table; remove one from `study.nets`"
            )
    return measured


def noise(folder: Path, params: Params) -> pd.DataFrame:
    """Read the measurements of all nets of the study under noise: net, seed, sweep, level, error.

    Raises:
        click.ClickException: a file is missing, or does not hold each level of `SWEEPS` and seed once, in percent.
    """
    levels = [("clean", 0.0), *((sweep, level) for sweep in SWEEPS for level in SWEEPS[sweep])]
    tables = []
    for name, path in files_of(folder, params).items():
        seeds = params.training(name).seeds
        table = read_table(path, ["net", "seed", "sweep", "level", "error"])
        found = list(table[["net", "seed", "sweep", "level"]].itertuples(index=False, name=None))
        expected = {(name, seed, *level) for seed, level in product(seeds, levels)}
        once = len(found) == len(expected) and set(found) == expected
        if not once or not table.error.between(0, 100).all():
            raise click.ClickException(
                f"{path} must hold every measurement of the seeds {seeds} once; remove it and rerun the command"
            )
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def others(params: Params, net: str, keys: Sequence[str]) -> dict[str, Any]:
    """The options in which a net differs from the paper's and for which the table has no column."""
    return {key: value for key, value in paper.other_options(params, net).items() if key not in keys}


def deviations(params: Params, keys: Sequence[str]) -> list[str]:
    """A sentence that names the nets which differ from the paper's in options not shown; empty if there are none.

    Args:
        params: parameters of the study.
        keys: the columns by which the table distinguishes nets.
    """
    each = []
    for name in params.nets:
        options = others(params, name, keys)
        if "pushpull" in options:
            options = {"layers": options.pop("pushpull")} | options  # its name in params.yaml
        if not paper.trained_as_published(params, name):
            options |= paper.own_training(params, name)
        if options:
            each.append(f"{name} ({', '.join(f'{key}={value}' for key, value in options.items())})")
    return [f"Not the paper's, so that no published figure is theirs: {', '.join(each)}."] if each else []


def write_figures(folder: Path, values: pd.DataFrame, name: str, classes: int) -> None:
    """Draw figures 4 and 5 of the paper from the accuracies of the LeNets on a data set with `classes` classes."""
    for figure, sweep, levels, title, axis in (
        ("figure4", "gaussian_noise", FIGURE4_VARIANCES, "Gaussian noise", "noise variance σ²"),
        ("figure5", "poisson_noise", FIGURE5_CONTRASTS, "contrast and Poisson noise", "contrast C"),
    ):
        title = f"{name}, {title} (paper, figure {figure[-1]})"
        accuracy_bars(
            folder / f"{figure}.png",
            values,
            sweep,
            levels,
            names=LENETS,
            classes=classes,
            title=title,
            axis=axis,
        )


if __name__ == "__main__":
    main()
