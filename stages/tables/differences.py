"""Tables that the paper does not have: paired differences with intervals, and calibration."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from common_corruptions.recipes.names import CORRUPTION_GROUPS, PERTURBATIONS
from common_corruptions.statistics import seeds_needed, spread_interval
from stages.files.measurements import MISSING
from stages.files.schema import Params
from stages.tables.answers import Answers, paired_differences
from stages.tables.cells import NOTHING, Lineup, by_net, measure, number
from stages.tables.table import Table

MOST_SEEDS = 100  # more than anyone would train
KINDS = {("low", "high"): "over seeds and images", ("low_images", "high_images"): "over images"}


def difference(
    params: Params, lineup: Lineup, answers: Answers, couples: Sequence[tuple[str, str]]
) -> Table | None:
    """Push-pull minus baseline on every corruption and perturbation; None if there are no pairs.

    Args:
        params, lineup: parameters and the nets to compare.
        answers: predictions of our nets and of the authors' weights.
        couples: pairs (baseline, push-pull), including those of the authors' weights.
    """
    if not couples:
        return None
    corruptions, perturbations = params.data.averaged_corruptions(), params.data.perturbation_names()
    conditions = ["clean", *corruptions, "mean", *params.data.added_corruptions()]
    errors = paired_differences(answers.errors, couples, lineup.every_seed(), conditions)
    flips = paired_differences(answers.flips, couples, lineup.every_seed(), [*perturbations, "mean"])
    note = (
        "Push-pull minus baseline in points of percent, paired by seed and image: negative is better. Intervals of "
        "95 %, from 2000 bootstrap resamples. Those over seeds and images (widened for the small number of seeds) tell "
        "of the method, and a difference whose interval does not hold 0 is in bold; those over images alone tell of "
        "these trained nets, and are all there is with one seed. Lower, higher: how many conditions differ so; no "
        "correction for their number. Seeds for 1 point: how many trainings of each net a t-test paired by seed needs "
        "to find a difference of 1 point with a power of 80 %, going by the spread over these seeds; in brackets, by "
        "the ends of the 95 % interval of that spread."
    )
    display = {
        "Overview": overview({"error": (errors, corruptions), "flip probability": (flips, perturbations)})
    }
    averaged = sum(name in PERTURBATIONS for name in perturbations)
    for couple in errors[["pushpull", "baseline"]].drop_duplicates().itertuples(index=False, name=None):
        name = " - ".join(couple)
        display[f"Error, {name}"] = intervals(of_couple(errors, couple), "corruption", len(corruptions))
        display[f"Flip probability, {name}"] = intervals(of_couple(flips, couple), "perturbation", averaged)
    tidy = pd.concat([errors.assign(measure="error"), flips.assign(measure="flip_probability")])
    return Table(
        "difference", "Push-pull minus baseline, with intervals", note, display, tidy.reset_index(drop=True)
    )


def of_couple(table: pd.DataFrame, couple: tuple[str, str]) -> pd.DataFrame:
    """The rows of one pair (push-pull, baseline)."""
    return table[(table.pushpull == couple[0]) & (table.baseline == couple[1])]


def overview(measures: Mapping[str, tuple[pd.DataFrame, Sequence[str]]]) -> pd.DataFrame:
    """One row per pair and measure: the difference of the means, and how many conditions differ significantly.

    Args:
        measures: name -> the differences as `paired_differences` returns them, and the conditions to count.
    """
    lines = []
    for name, (table, counted) in measures.items():
        for couple, own in table.groupby(["pushpull", "baseline"], sort=False):
            (mean,) = own[own.condition == "mean"].itertuples()
            each = own[own.condition.isin(counted) & own.difference.notna()]
            line = {"nets": " - ".join(couple), "measure": name, "mean": estimate(mean)}
            for (low, high), over in KINDS.items():
                shown = line[f"interval {over}"] = bounds(mean, low, high)
                for verdict, count in (("lower", (each[high] < 0).sum()), ("higher", (each[low] > 0).sum())):
                    told = shown not in (MISSING, NOTHING)
                    line[f"{verdict} {over}"] = f"{count} of {len(each)}" if told else shown
            line["seeds for 1 point"] = NOTHING if pd.isna(mean.spread) else needed(mean.spread, mean.seeds)
            lines.append(line)
    return pd.DataFrame(lines)


def needed(spread: float, seeds: int) -> str:
    """Number of seeds needed to detect a difference of one point, and its uncertainty: `8 (4 to 100 or more)`."""
    each = [seeds_needed(value, 1.0, most=MOST_SEEDS) for value in (spread, *spread_interval(spread, seeds))]
    told, low, high = (f"{count} or more" if count == MOST_SEEDS else str(count) for count in each)
    return f"{told} ({low} to {high})"


def intervals(rows: pd.DataFrame, key: str, averaged: int) -> pd.DataFrame:
    """One row per condition of one pair: the difference and its intervals.

    Args:
        rows: rows of `paired_differences`.
        key: heading of the first column.
        averaged: number of conditions in the mean.
    """
    lines = []
    for row in rows.itertuples():
        name = f"mean of {averaged}" if row.condition == "mean" else row.condition
        line = {key: name, "difference": estimate(row)}
        lines.append(line | {f"interval {over}": bounds(row, *which) for which, over in KINDS.items()})
    return pd.DataFrame(lines)


def estimate(row: NamedTuple) -> str:
    """`-2.97`, in bold if the interval over seeds and images excludes 0."""
    if pd.isna(row.difference):
        return MISSING
    shown = number(row.difference, sign=True)
    if row.high < 0 or row.low > 0:
        shown = f"**{shown}**"
    return shown + (f" ({row.seeds} of {row.of} seeds)" if row.seeds < row.of else "")


def bounds(row: NamedTuple, low: str, high: str) -> str:
    """`[-4.10, -1.84]`; NOTHING for the interval over seeds if there is only one."""
    if pd.isna(row.difference):
        return MISSING
    if low == "low" and row.seeds == 1:
        return NOTHING
    return f"[{number(getattr(row, low), sign=True)}, {number(getattr(row, high), sign=True)}]"


def calibration(params: Params, lineup: Lineup, answers: Answers) -> Table | None:
    """Expected calibration error of each net: on clean images, over all corruptions, by group, and on added ones.

    None if the predictions are classes without logits.
    """
    if answers.images and answers.calibration.empty:
        return None
    names, added = params.data.averaged_corruptions(), params.data.added_corruptions()
    groups = {
        kind: [name for name in members if name in names] for kind, members in CORRUPTION_GROUPS.items()
    }
    headings = {
        "clean": "clean",
        "corrupted": f"mean of {len(names)}",
        **{kind: kind for kind in groups if groups[kind]},
        **{name: name for name in added},
    }
    by_seed = answers.calibration.pivot_table(index=["net", "seed"], columns="corruption", values="ece")
    by_seed = by_seed.reindex(columns=["clean", *names, *added])
    values = pd.DataFrame({"clean": by_seed.clean, "corrupted": by_seed[list(names)].mean(1, skipna=False)})
    for kind in groups:
        values[kind] = by_seed[groups[kind]].mean(1, skipna=False)
    values[list(added)] = by_seed[list(added)]
    conditions = [*headings, *names]
    missing = {
        (net, condition): MISSING for net in (*lineup.seeds, *lineup.authors) for condition in conditions
    }
    long = pd.concat([values, by_seed[list(names)]], axis=1).reset_index()
    long = long.melt(["net", "seed"], var_name="condition", value_name="value")
    rows = measure(long, lineup, conditions, missing)
    return Table(
        "calibration",
        "Expected calibration error (ECE), percent",
        "Mean difference between confidence and accuracy over 15 equal bins of confidence; that of each set, then the "
        "mean over severities and corruptions.",
        by_net(rows[rows.condition.isin(list(headings))], headings, lambda source, condition: 2),
        rows.rename(columns={"condition": "set", "value": "ece"}),
    )
