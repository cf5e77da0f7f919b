"""From the tidy measurements of all nets to one row for each net and seed, and which nets to compare."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd

from robustness.benchmark import PUBLISHED_ALEXNET, Baseline, summarise
from stages.params import Params


def gather(folder: Path, params: Params, keys: Sequence[str]) -> pd.DataFrame:
    """The rows of every net of params.yaml; files of other nets in the folder are left alone.

    Raises:
        click.ClickException: a net's file is missing, lacks a seed, or holds a measurement twice or not a number.
    """
    tables = []
    for net in params.nets:
        path = folder / f"{net}.csv"
        if not path.exists():
            raise click.ClickException(f"no {path}; `dvc repro` makes it")
        table = pd.read_csv(path)
        if missing := set(params.training(net).seeds) - set(table.seed):
            raise click.ClickException(f"{path} lacks seed {', '.join(map(str, sorted(missing)))}")
        if table.duplicated(["net", "seed", *keys]).any():
            twice = table[table.duplicated(["net", "seed", *keys])].iloc[0]
            which = ", ".join(f"{key} {twice[key]}" for key in ("seed", *keys))
            raise click.ClickException(f"{path} holds a measurement twice: {which}")
        if table.isna().any(axis=None):
            raise click.ClickException(f"{path} holds a value that is not a number")
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def choose_baseline(data_name: str, corruption: pd.DataFrame, archs: Mapping[str, str]) -> Baseline | None:
    """The paper's AlexNet on CIFAR-10, elsewhere the mean of the AlexNet trained here, or None if there is none.

    Args:
        data_name: name of the data set.
        corruption: tidy errors (net, seed, corruption, severity, error).
        archs: architecture of each net.
    """
    if data_name == "cifar10":
        return PUBLISHED_ALEXNET
    name = next((net for net, arch in archs.items() if arch == "alexnet"), None)
    rows = corruption[corruption.net == name]
    if rows.empty:
        return None
    errors = rows.groupby("corruption").error.mean().to_dict()
    clean = errors.pop("clean")
    return Baseline(errors, clean, f"the mean of our own {name} on this data set")


def summarise_nets(
    corruption: pd.DataFrame, perturbation: pd.DataFrame, history: pd.DataFrame, baseline: Baseline | None
) -> pd.DataFrame:
    """One row per net and seed: the summary of `robustness.benchmark.summarise`, and E_best.

    Args:
        corruption: net, seed, corruption, severity, error (percent); "clean" at severity 0.
        perturbation: net, seed, perturbation, protocol, metric, value.
        history: net, seed, epoch, test_error ...; its smallest test error is E_best, which the paper reports.
        baseline: normalises CE; without one there is no mCE and no rCE.
    """
    flips = dict(iter(perturbation.groupby(["net", "seed"])))
    curves = history.groupby(["net", "seed"]).test_error.min()
    rows = []
    for key, table in corruption.groupby(["net", "seed"], sort=False):
        errors = table[["corruption", "severity", "error"]].itertuples(index=False, name=None)
        measured = flips[key][["perturbation", "protocol", "metric", "value"]].to_numpy().tolist()
        summary = summarise(errors, measured, baseline)
        rows.append({"net": key[0], "seed": key[1], "E_best": curves.get(key, np.nan), **summary})
    return pd.DataFrame(rows)


def pairs(archs: Mapping[str, str], layers: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """(baseline net, push-pull net) of the same architecture.

    Args:
        archs: architecture of each net.
        layers: where each net has push-pull layers, None for nowhere.
    """
    plain = {arch: net for net, arch in archs.items() if layers[net] is None}
    return [(plain[arch], net) for net, arch in archs.items() if layers[net] is not None and arch in plain]
