"""Comparison of front ends: error by group of corruptions, flips, cost, and differences from a baseline net."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from common_corruptions.recipes.names import CORRUPTION_GROUPS
from stages.files.schema import Params
from stages.tables.answers import INTERVALS, Answers, Scores, paired_differences
from stages.tables.caption import describe_trainings, measured_set
from stages.tables.cells import NOTHING, number, shown
from stages.tables.table import Table

COSTS = {
    "parameters": ("parameters", "{:,.0f}"),
    "multiply_adds": ("multiply-adds, million", "{:,.1f}"),
    "training_ms": ("training step, ms", "{:,.1f}"),
    "evaluation_ms": ("evaluation, ms", "{:,.1f}"),
    "kept_mib": ("kept for backward, MiB", "{:,.1f}"),
}


def frontends(params: Params, answers: Answers, cost: pd.DataFrame, baseline: str) -> Table:
    """Make the table; its `tidy` has one row per net and quantity.

    Args:
        params: parameters of the study.
        answers: predictions of every net.
        cost: net, the columns of COSTS, batch, device.
        baseline: the net from which differences are taken.
    """
    rows = compared(params, answers, baseline)
    headings = labels(params)
    measured, differences = [], []
    for net in params.nets:
        own = rows[rows.net == net].set_index("quantity")
        augment = params.training(net).augment
        front_end = params.nets[net].block + ("" if augment == "none" else f", {augment}")
        lead = {"net": net, "front end": front_end}
        measured.append(lead | {text: cell(own.loc[key]) for key, text in headings.items()})
        if net != baseline:
            differences.append(lead | {text: interval(own.loc[key]) for key, text in headings.items()})
    first = cost.set_index("net").loc[baseline]
    costs = [
        {"net": row["net"]} | {text: priced(row, first, key, form) for key, (text, form) in COSTS.items()}
        for row in cost.to_dict("records")
    ]
    corruptions = len(params.data.averaged_corruptions())
    batch, device = cost.batch.iloc[0], {"cpu": "CPU", "cuda": "GPU"}[cost.device.iloc[0]]
    note = (
        f"On {measured_set(params.data, answers.images)}, percent. {' '.join(describe_trainings(params))} "
        f"A group is the mean error over its corruptions at 5 severities, E that over all {corruptions}, mFP the mean "
        "flip probability. Differences are in points, paired by seed and image, with intervals of 95 % over seeds and "
        "images (over images alone with one seed); one whose interval does not hold 0 is in bold, none is corrected "
        f"for their number. Costs are of a batch of {batch} images, in float32 on this {device}, medians of nets timed "
        f"in turn, in parentheses their ratio to {baseline}."
    )
    display = {
        "error and flips": pd.DataFrame(measured),
        f"minus {baseline}": pd.DataFrame(differences),
        "cost": pd.DataFrame(costs),
    }
    long = cost[["net", *COSTS]].melt("net", var_name="quantity")
    tidy = pd.concat([rows, long], ignore_index=True)
    return Table("frontends", "Front ends side by side", note, display, tidy)


def labels(params: Params) -> dict[str, str]:
    """Quantity -> its heading: clean error, the measured groups of corruptions, E and mFP."""
    groups = groups_of(params.data.averaged_corruptions())
    return {"clean": "E clean", **{name: name for name in groups}, "mean": "E", "mFP": "mFP"}


def groups_of(names: Sequence[str]) -> dict[str, list[str]]:
    """Group of corruptions -> its members among the names; empty groups are left out."""
    groups = {group: [name for name in names if name in own] for group, own in CORRUPTION_GROUPS.items()}
    return {group: own for group, own in groups.items() if own}


def compared(params: Params, answers: Answers, baseline: str) -> pd.DataFrame:
    """Table with net, quantity, seeds, value, spread (over seeds), and INTERVALS, which are NaN for the baseline."""
    scores = {net: quantities(params, answers, net) for net in params.nets}
    conditions = list(labels(params))
    rows = []
    for net, of_net in scores.items():
        for quantity in conditions:
            by_seed = of_net.by_condition[quantity].mean(1)
            spread = by_seed.std(ddof=1) if len(by_seed) > 1 else np.nan
            rows.append((net, quantity, len(by_seed), by_seed.mean(), spread))
    values = pd.DataFrame(rows, columns=["net", "quantity", "seeds", "value", "spread"])
    couples = [(baseline, net) for net in params.nets if net != baseline]
    seeds = {net: params.training(net).seeds for net in params.nets}
    # Flips are measured on sequences and errors on images, so they are resampled separately.
    parts = [
        paired_differences(scores, couples, seeds, [one for one in conditions if (one == "mFP") == flips])
        for flips in (False, True)
    ]
    differences = pd.concat(parts).rename(columns={"pushpull": "net", "condition": "quantity"})
    return values.merge(differences[["net", "quantity", *INTERVALS]], how="left", on=["net", "quantity"])


def quantities(params: Params, answers: Answers, net: str) -> Scores:
    """Scores of a net by quantity: errors on images, and flips on sequences as mFP.

    Raises:
        ValueError: errors and flips are of different seeds.
    """
    errors, flips = answers.errors[net], answers.flips[net]
    if flips.seeds != errors.seeds:
        raise ValueError(
            f"{net}: answers on images of the seeds {errors.seeds}, on sequences of {flips.seeds}"
        )
    groups: Mapping[str, list[str]] = groups_of(params.data.averaged_corruptions())
    means = {
        group: np.mean([errors.by_condition[name] for name in own], axis=0) for group, own in groups.items()
    }
    kept = {name: errors.by_condition[name] for name in ("clean", "mean")}
    return Scores(errors.seeds, {**kept, **means, "mFP": flips.by_condition["mean"]})


def cell(row: pd.Series) -> str:
    """`12.34 ± 0.56`."""
    return shown(row["value"], row.spread)


def bounds(row: pd.Series) -> tuple[float, float]:
    """The interval over seeds and images; with one seed, that over images."""
    return (row.low_images, row.high_images) if np.isnan(row.low) else (row.low, row.high)


def interval(row: pd.Series) -> str:
    """`-1.23 [-2.34, -0.12]`, the difference in bold if the interval excludes 0."""
    low, high = bounds(row)
    if np.isnan(low):
        return NOTHING
    difference = number(row.difference, sign=True)
    marked = f"**{difference}**" if high < 0 or low > 0 else difference
    return f"{marked} [{number(low, sign=True)}, {number(high, sign=True)}]"


def priced(row: Mapping[str, float], first: pd.Series, key: str, form: str) -> str:
    """A cost, with its ratio to that of the baseline, except for the number of parameters."""
    value = row[key] / 1e6 if key == "multiply_adds" else row[key]
    ratio = "" if key == "parameters" else f" ({row[key] / first[key]:.2f})"
    return form.format(value) + ratio
