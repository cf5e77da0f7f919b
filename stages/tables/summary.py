"""Summarise the tidy measurements in one row per net and seed; choose the baseline and the pairs of nets to compare."""

import numpy as np
import pandas as pd

from common_corruptions.recipes.names import CORRUPTIONS, MAIN_CORRUPTIONS
from common_corruptions.summary import PUBLISHED_ALEXNET, Baseline, summarise
from stages.files.datasets import published_name
from stages.files.schema import Params
from stages.tables.paper import LAYER, recipe


def choose_baseline(
    params: Params, corruption: pd.DataFrame, faults: pd.DataFrame
) -> tuple[Baseline | None, str]:
    """The net that normalises CE, and a sentence that names it.

    On CIFAR-10 it is the paper's AlexNet, elsewhere the mean over seeds of the AlexNet trained here. It is None if
    there is no AlexNet, if its measurements have faults (which would affect everything normalised by it), or if it
    makes no error on a corruption.

    Args:
        params: define the nets.
        corruption: tidy errors (net, seed, corruption, severity, error).
        faults: faults found by `stages.files.measurements.check`; only the column `net` is used.
    """
    if published_name(params.data.name) == "cifar10":
        return PUBLISHED_ALEXNET, f"CE and rCE are normalised by {PUBLISHED_ALEXNET.source}."
    plain = (
        name
        for name, net in params.nets.items()
        if net.arch == "alexnet" and params.block(name).layers is None
    )
    name = next(plain, None)
    if name is None:
        return None, "No mCE and rCE: there is no AlexNet among the nets to normalise them."
    if (faults.net == name).any():
        return None, f"No mCE and rCE: measurements of {name}, which should normalise them, are at fault."
    errors = corruption[corruption.net == name].groupby("corruption").error.mean().to_dict()
    clean = errors.pop("clean")
    if faultless := [
        corruption for corruption in params.data.averaged_corruptions() if not errors[corruption]
    ]:
        lacking = f"{name}, which should normalise them, makes no error on {', '.join(faultless)}"
        return None, f"No mCE and rCE: {lacking}."
    baseline = Baseline(errors, clean, f"the mean of our own {name} on this data set")
    return baseline, f"CE and rCE are normalised by {baseline.source}."


def summarise_nets(
    corruption: pd.DataFrame, perturbation: pd.DataFrame, history: pd.DataFrame, baseline: Baseline | None
) -> pd.DataFrame:
    """One row per net and seed: the summary of `common_corruptions.summary.summarise`, and E_best.

    Args:
        corruption: net, seed, corruption, severity, error (percent); "clean" at severity 0.
        perturbation: net, seed, perturbation, protocol, metric, value.
        history: net, seed, epoch, test_error ...; E_best is its smallest test error, which the paper reports.
        baseline: normalises CE; if None, there is no mCE and no rCE.
    """
    errors = dict(iter(corruption.groupby(["net", "seed"], sort=False)))
    flips = dict(iter(perturbation.groupby(["net", "seed"], sort=False)))
    curves = history.groupby(["net", "seed"]).test_error.min()
    rows = []
    for key in dict.fromkeys([*errors, *flips]):
        of_corruptions = errors.get(key, corruption[:0])[["corruption", "severity", "error"]]
        of_perturbations = flips.get(key, perturbation[:0])[["perturbation", "protocol", "metric", "value"]]
        summary = summarise(
            of_corruptions.itertuples(index=False, name=None),
            of_perturbations.itertuples(index=False, name=None),
            baseline,
        )
        rows.append({"net": key[0], "seed": key[1], "E_best": curves.get(key, np.nan), **summary})
    return pd.DataFrame(rows, columns=list(dict.fromkeys(["net", "seed", *(k for row in rows for k in row)])))


def leave_out_incomplete(
    summary: pd.DataFrame, corruption: pd.DataFrame, perturbation: pd.DataFrame, history: pd.DataFrame
) -> pd.DataFrame:
    """The summary, with NaN for every mean, sum or minimum over an incomplete set.

    Args:
        summary: as `summarise_nets` makes it from the valid measurements.
        corruption, perturbation, history: the faults of each, as `stages.files.measurements.check` finds them.
    """
    flips = perturbation[perturbation.metric == "flip_probability"]
    corrupted = corruption[corruption.corruption.isin(CORRUPTIONS)]
    faults = {
        "E_corr mCE rCE": corrupted,
        "mCE_15 rCE_15": corrupted[corrupted.corruption.isin(MAIN_CORRUPTIONS)],
        "mFP": flips[flips.protocol == "hendrycks"],
        "mFP_official": flips[flips.protocol == "official"],
        "E_best": history,
    }
    index = pd.MultiIndex.from_frame(summary[["net", "seed"]])
    whole = summary.copy()
    for columns, table in faults.items():
        at_fault = index.isin(pd.MultiIndex.from_frame(table[["net", "seed"]]))
        for column in columns.split():
            if column in whole:
                whole.loc[at_fault, column] = np.nan
    return whole


def pairs(params: Params) -> list[tuple[str, str]]:
    """Pairs (baseline, push-pull net) that agree in architecture, training and all options except those of the layer.

    If several nets without the layer match, they are the same net under several names, and the first in params.yaml is
    the baseline. A push-pull net without a match is in no pair.
    """
    alike = {name: apart_from_the_layer(params, name) for name in params.nets}
    plain = [name for name in params.nets if params.block(name).layers is None]
    found = []
    for name in params.nets:
        baseline = next((one for one in plain if alike[one] == alike[name]), None)
        if name not in plain and baseline is not None:
            found.append((baseline, name))
    return found


def apart_from_the_layer(params: Params, net: str) -> tuple:
    """What the nets of a pair must share: architecture, training, and options except those of the layer."""
    options = {key: value for key, value in params.options(net).items() if key not in LAYER}
    return params.nets[net].arch, recipe(params.training(net)), options
