"""Tables of what the paper does not have: paired differences with intervals, and calibration."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from robustness.names import CORRUPTION_GROUPS, PERTURBATIONS
from stages.cells import Lineup, by_net, measure, number
from stages.params import Params
from stages.results import MISSING
from stages.statistics import Answers, paired_differences
from stages.tables import Table


def difference(
    params: Params, lineup: Lineup, answers: Answers, couples: Sequence[tuple[str, str]]
) -> Table | None:
    """Push-pull minus baseline on every corruption and perturbation; None without a couple."""
    if not couples:
        return None
    corruptions, perturbations = params.data.corruption_names(), params.data.perturbation_names()
    errors = paired_differences(answers.errors, couples, lineup.seeds, ["clean", *corruptions, "mean"])
    flips = paired_differences(answers.flips, couples, lineup.seeds, [*perturbations, "mean"])
    note = (
        "Push-pull minus baseline in points of percent, paired by seed and image: negative is better. Intervals of "
        "95 %, from 2000 bootstrap resamples. Those over seeds and images (widened for the small number of seeds) tell "
        "of the method, and a difference whose interval does not hold 0 is in bold; those over images alone tell of "
        "these trained nets, and are all there is with one seed. No correction for the number of rows."
    )
    display = {
        "Error": intervals(errors, "corruption", corruptions, len(corruptions)),
        "Flip probability": intervals(
            flips, "perturbation", perturbations, sum(name in PERTURBATIONS for name in perturbations)
        ),
    }
    tidy = pd.concat([errors.assign(measure="error"), flips.assign(measure="flip_probability")])
    return Table(
        "difference", "Push-pull minus baseline, with intervals", note, display, tidy.reset_index(drop=True)
    )


def intervals(table: pd.DataFrame, key: str, names: Sequence[str], averaged: int) -> pd.DataFrame:
    """One row a condition, one column a couple, and how many conditions are significantly lower and higher.

    Args:
        table: as `paired_differences` returns it.
        key: heading of the first column.
        names: the conditions that are counted.
        averaged: how many of them the mean is over.
    """
    columns: dict[str, dict[str, str]] = {}
    for (pushpull, plain), own in table.groupby(["pushpull", "baseline"], sort=False):
        rows = own.set_index("condition")
        each = rows.loc[list(names)]
        measured = int(each.difference.notna().sum())
        heading = f"{pushpull} - {plain}"
        columns[heading] = {row.Index: estimate(row) for row in rows.itertuples()}
        for low, high, over in (
            ("low", "high", "over seeds and images"),
            ("low_images", "high_images", "over images"),
        ):
            if low == "low" and max(own.of) == 1:
                continue
            shown = {row.Index: bounds(row, low, high) for row in rows.itertuples()}
            for verdict, count in (("lower", (each[high] < 0).sum()), ("higher", (each[low] > 0).sum())):
                shown[f"significantly {verdict}"] = f"{count} of {measured}" if measured else MISSING
            columns[f"{heading}, {over}"] = shown
    frame = pd.DataFrame(columns).fillna("")
    frame.insert(0, key, frame.index.str.replace("^mean$", f"mean of {averaged}", regex=True))
    return frame.reset_index(drop=True)


def estimate(row: NamedTuple) -> str:
    """`-2.97`, in bold where the interval over seeds and images does not hold 0."""
    if pd.isna(row.difference):
        return MISSING
    shown = number(row.difference, sign=True)
    if row.high < 0 or row.low > 0:
        shown = f"**{shown}**"
    return shown + (f" ({row.seeds} of {row.of} seeds)" if row.seeds < row.of else "")


def bounds(row: NamedTuple, low: str, high: str) -> str:
    """`[-4.10, -1.84]`."""
    if pd.isna(row.difference):
        return MISSING
    return f"[{number(getattr(row, low), sign=True)}, {number(getattr(row, high), sign=True)}]"


def calibration(params: Params, lineup: Lineup, answers: Answers) -> Table:
    """Expected calibration error of each net on clean images, by group of corruptions and over all."""
    names = params.data.corruption_names()
    groups = {
        kind: [name for name in members if name in names] for kind, members in CORRUPTION_GROUPS.items()
    }
    headings = {
        "clean": "clean",
        "corrupted": f"mean of {len(names)}",
        **{kind: kind for kind in groups if groups[kind]},
    }
    by_seed = answers.calibration.pivot_table(index=["net", "seed"], columns="corruption", values="ece")
    by_seed = by_seed.reindex(columns=["clean", *names])
    values = pd.DataFrame({"clean": by_seed.clean, "corrupted": by_seed[list(names)].mean(1, skipna=False)})
    for kind in groups:
        values[kind] = by_seed[groups[kind]].mean(1, skipna=False)
    ours = lineup._replace(authors={})
    conditions = [*headings, *names]
    missing = {(net, condition): MISSING for net in ours.seeds for condition in conditions}
    long = pd.concat([values, by_seed[list(names)]], axis=1).reset_index()
    long = long.melt(["net", "seed"], var_name="condition", value_name="value")
    rows = measure(long, ours, conditions, missing)
    return Table(
        "calibration",
        "Expected calibration error (ECE), percent",
        "Mean difference between confidence and accuracy over 15 equal bins of confidence; that of each set, then the "
        "mean over severities and corruptions.",
        by_net(rows[rows.condition.isin(list(headings))], headings, lambda source, condition: 2),
        rows.rename(columns={"condition": "set", "value": "ece"}),
    )
