"""Read and validate the files of measurements: tidy rows, each once and numeric, and a report of the faults.

`metrics/<data>/{corruption,perturbation,history}/<net>.csv` should hold every measurement that params.yaml asks for.
A fault does not stop the pipeline: faulty rows are left out and reported, so that tables can mark them in place.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pandas as pd

from common_corruptions.metrics import PROTOCOLS
from common_corruptions.recipes.names import SEVERITIES
from stages.files.schema import Params
from stages.files.writing import read_table

OURS, AUTHORS, PUBLISHED, DIFFERENCE = "ours", "authors' weights", "published", "ours - published"
MISSING, TWICE, NOT_A_NUMBER, OUT_OF_RANGE = "missing", "twice", "not a number", "out of range"

VALUES = {"corruption": "error", "perturbation": "value", "epoch": "test_error"}  # by the first key


class Results(NamedTuple):
    """Measurements of all nets.

    rows: net, seed, the keys and the values; each measurement occurs once and is a number.
    faults: net, seed, the keys and `fault`: missing, twice (with different values), not a number or out of range.
    warnings: one line per net, seed and kind of fault, and for everything else that was left out.
    """

    rows: pd.DataFrame
    faults: pd.DataFrame
    warnings: list[str]


def check(folder: Path, params: Params, keys: Sequence[str]) -> Results:
    """Read the measurements of every net of params.yaml; files of other nets in the folder are ignored.

    A corruption with a fault at one severity is left out at all five: a mean over four would look like one over five.

    Args:
        folder: folder with `<net>.csv`.
        params: determine which nets, seeds and conditions are expected.
        keys: the columns that identify a measurement of a net and seed: corruption and severity; perturbation,
            protocol and metric; or epoch.

    Raises:
        click.ClickException: a file is not a table of these measurements.
    """
    paths = {net: folder / f"{net}.csv" for net in params.nets}
    read = {net: read_rows(path, keys) for net, path in paths.items()}
    metrics = measured_metrics(read.values()) if "metric" in keys else []
    results = []
    for net, rows in read.items():
        if others := set(rows.net) - {net}:
            raise click.ClickException(f"{paths[net]} holds rows of {', '.join(map(str, others))}; remove it")
        training = params.training(net)
        asked = conditions(params, keys, metrics, training.epochs)
        results.append(compare(paths[net], net, rows, asked, training.seeds, keys))
    return concatenate(results) if results else nothing(keys)


def check_official(path: Path, params: Params, keys: Sequence[str]) -> Results:
    """Read the measurements of the authors' weights, all nets in one file, validated as by `check`.

    Raises:
        click.ClickException: the file is not a table of these measurements.
    """
    read = read_rows(path, keys)
    metrics = measured_metrics([read]) if "metric" in keys else []
    asked = conditions(params, keys, metrics)
    results = [compare(path, net, rows, asked, [0], keys) for net, rows in read.groupby("net", sort=False)]
    return concatenate(results) if results else nothing(keys)


def nothing(keys: Sequence[str]) -> Results:
    """Results without any rows."""
    index = ["net", "seed", *keys]
    return Results(
        pd.DataFrame(columns=[*index, VALUES[keys[0]]]), pd.DataFrame(columns=[*index, "fault"]), []
    )


def concatenate(results: Sequence[Results]) -> Results:
    """Concatenate the results of several nets."""
    filled = [one.rows for one in results if len(one.rows)] or [results[0].rows]
    faults = [one.faults for one in results if len(one.faults)] or [results[0].faults]
    return Results(
        pd.concat(filled, ignore_index=True),
        pd.concat(faults, ignore_index=True),
        [warning for one in results for warning in one.warnings],
    )


def compare(
    path: Path,
    net: str,
    rows: pd.DataFrame,
    asked: Sequence[tuple],
    seeds: Sequence[int],
    keys: Sequence[str],
) -> Results:
    """Compare the rows of one net with the conditions expected for each seed."""
    wanted = pd.DataFrame([(seed, *key) for seed in seeds for key in asked], columns=["seed", *keys])
    sound, faults, notes = inspect(rows, wanted)
    if "severity" in keys:
        at_fault = pd.MultiIndex.from_frame(faults[["seed", "corruption"]])
        sound = sound[~pd.MultiIndex.from_frame(sound[["seed", "corruption"]]).isin(at_fault)]
    faults.insert(0, "net", net)
    if rows.empty:
        return Results(sound, faults, [f"{path}: no measurements of {net}; `dvc repro` makes them"])
    lines = [*notes, *describe(faults, wanted)]
    return Results(sound, faults, [f"{path}: {net}: {line}" for line in lines])


def conditions(params: Params, keys: Sequence[str], metrics: Sequence[str], epochs: int = 0) -> list[tuple]:
    """The keys of every measurement that params.yaml asks for, for one net and seed."""
    if keys[0] == "corruption":
        return [("clean", 0), *product(params.data.corruption_names(), SEVERITIES)]
    if keys[0] == "perturbation":
        return list(product(params.data.perturbation_names(), PROTOCOLS, metrics))
    return [(epoch,) for epoch in range(1, epochs + 1)]


def measured_metrics(tables: Sequence[pd.DataFrame]) -> list[str]:
    """The metrics measured for any net; a data set with fewer than five classes has no top-5 distance."""
    names = dict.fromkeys(name for table in tables for name in table.metric.dropna())
    return list(names) or ["flip_probability", "zipf_distance"]


def read_rows(path: Path, keys: Sequence[str]) -> pd.DataFrame:
    """Read a file without validation, its values as numbers or NaN; no rows if there is no file.

    Raises:
        click.ClickException: not a CSV file, or columns are missing.
    """
    needed = ["net", "seed", *keys, VALUES[keys[0]]]
    try:
        table = read_table(path, needed)
    except FileNotFoundError:
        return pd.DataFrame(columns=needed)
    values = [column for column in table if column not in ("net", "seed", *keys)]
    table[values] = table[values].apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan)
    return table


def inspect(rows: pd.DataFrame, wanted: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Compare the rows of a net with the wanted seeds and keys; return the valid rows, the faults, and notes."""
    keys = list(wanted.columns)
    notes = []
    index, asked = pd.MultiIndex.from_frame(rows[keys]), pd.MultiIndex.from_frame(wanted)
    if unasked := int((~index.isin(asked)).sum()):
        notes.append(f"{unasked} rows that params.yaml does not ask for, left out")
    rows = rows[index.isin(asked)]
    if agreeing := int(rows.duplicated().sum()):
        notes.append(f"{agreeing} rows twice with the same value, counted once")
    rows = rows.drop_duplicates()
    twice, broken, outside = rows.duplicated(keys, keep=False), rows.isna().any(axis=1), out_of_range(rows)
    index = pd.MultiIndex.from_frame(rows[keys])
    fault = pd.Series("", index=asked)
    fault[~asked.isin(index)] = MISSING
    fault[asked.isin(index[outside])] = OUT_OF_RANGE
    fault[asked.isin(index[broken])] = NOT_A_NUMBER
    fault[asked.isin(index[twice])] = TWICE
    faults = wanted.assign(fault=fault.to_numpy())
    return rows[~twice & ~broken & ~outside], faults[faults.fault != ""], notes


def out_of_range(rows: pd.DataFrame) -> pd.Series:
    """Mask of the rows with an error outside 0..100, a flip probability outside 0..1 or a distance below 0."""
    if "error" in rows:
        return ~rows.error.between(0, 100)
    if "metric" in rows:
        return ~rows.value.between(0, np.where(rows.metric == "flip_probability", 1, np.inf))
    return ~rows.test_error.between(0, 100)


def describe(faults: pd.DataFrame, wanted: pd.DataFrame) -> list[str]:
    """One line per seed and kind of fault; if all measurements of a seed have the fault, they are not listed."""
    _, first, *rest = wanted.columns  # the first is the seed
    lines = []
    for (seed, fault), table in faults.groupby(["seed", "fault"], sort=False):
        own = wanted[wanted.seed == seed]
        if len(table) == len(own):
            lines.append(f"seed {seed} is {fault}")
            continue
        places = []
        for name, part in table.groupby(first, sort=False):
            whole = len(part) == (own[first] == name).sum()
            which = "" if whole else " " + ", ".join(" ".join(map(str, row)) for row in part[rest].to_numpy())
            places.append(f"{first} {name}{which}")
        cut = places[:4] + ([f"and {len(places) - 4} more"] if len(places) > 4 else [])
        lines.append(f"seed {seed}, {fault}: {'; '.join(cut)}")
    return lines


def registry_name(folder: str) -> str:
    """Convert the name of the authors' checkpoint folder, `densenet-100-12-pp`, to that of the paper's net."""
    family, *numbers = folder.removesuffix("-pp").split("-")
    return family + "_".join(numbers) + ("-pp" if folder.endswith("-pp") else "")
