"""Agreement of the authors' weights, measured here, with the authors' published values for the 10,000 test images."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from common_corruptions.recipes.names import CORRUPTIONS
from stages.files.datasets import CIFAR10_TEST_IMAGES
from stages.files.schema import Params
from stages.tables import paper
from stages.tables.answers import Answers, Scores, paired_differences
from stages.tables.cells import NOTHING, Lineup, number
from stages.tables.perturbations import released
from stages.tables.table import Table

QUANTITIES = {
    ("error", "clean"): "E clean",
    ("error", "mean"): "E",
    ("flip_probability", "mean"): "mFP, official protocol",
}
NUMBERS = ["measured", "published", "difference", "standard_error", "in_errors", "images"]


def agreement(params: Params, lineup: Lineup, answers: Answers) -> Table | None:
    """Measured and published values of each net and pair of the authors' weights; None if nothing was published.

    Args:
        params, lineup: parameters and the nets to compare.
        answers: predictions of the authors' weights, among others.
    """
    measures = {
        "error": (answers.errors, paper.comparable(paper.released_errors(), params)),
        "flip_probability": (answers.official_flips, official_flips(params)),
    }
    nets, couples = [], []
    for measure, (scores, figures) in measures.items():
        published = figures.set_index(["net", "condition"]).value.to_dict()
        nets += [one.assign(measure=measure) for one in net_rows(lineup, scores, published)]
        couples += [one.assign(measure=measure) for one in couple_rows(lineup, scores, published)]
    if not nets:
        return None
    by_net, by_couple = pd.concat(nets), pd.concat(couples) if couples else pd.DataFrame()
    display = {"Nets": summary(by_net, net_line)}
    if couples:
        display["Push-pull minus baseline"] = summary(by_couple, couple_line)
    for net, rows in by_net[by_net.measure == "error"].groupby("net", sort=False):
        display[f"Error, {net}"] = by_corruption(rows, net_line)
    for net, rows in by_couple.query("measure == 'error'").groupby("net", sort=False) if couples else ():
        display[f"Error, {net}"] = by_corruption(rows, couple_line)
    tidy = pd.concat([by_net, by_couple], ignore_index=True)
    leading = ["net", "pushpull", "baseline", "measure", "condition"]
    return Table(
        "agreement",
        "The authors' weights: measured here beside published",
        "Percent, and points of percent. Published: the errors and flip probabilities that the authors released for "
        "the 10,000 test images (clean errors: table 3 of the paper). Standard error: of the difference, from the "
        "spread over the images measured here, which are part of those 10,000; an image counts once, with its mean "
        "over all corruptions and severities. Intervals of 95 % from 2000 bootstrap resamples of the images; there is "
        "none for the published differences, whose single images are not known.",
        display,
        tidy.reindex(columns=[*leading, *NUMBERS, "low_images", "high_images"]),
    )


def official_flips(params: Params) -> pd.DataFrame:
    """The released flip probabilities, percent: net, condition (a perturbation or `mean`), value."""
    table = paper.comparable(released("flip_probability"), params)
    table = table[table.condition.str.endswith(" official")]
    return table.assign(condition=table.condition.str.removesuffix(" official"), value=100 * table.value)


def net_rows(
    lineup: Lineup, scores: Mapping[str, Scores], published: Mapping[tuple[str, str], float]
) -> list[pd.DataFrame]:
    """A table for each of the authors' nets: net, condition and NUMBERS."""
    tables = []
    for net, twin in lineup.authors.items():
        by_condition = scores[net].by_condition if net in scores else {}
        rows = [
            (condition, *compare(values[0], published[twin, condition]))
            for condition, values in by_condition.items()
            if (twin, condition) in published
        ]
        if rows:
            tables.append(pd.DataFrame(rows, columns=["condition", *NUMBERS]).assign(net=net))
    return tables


def couple_rows(
    lineup: Lineup, scores: Mapping[str, Scores], published: Mapping[tuple[str, str], float]
) -> list[pd.DataFrame]:
    """A table for each pair of the authors' nets: net (`a - b`), pushpull, baseline, condition, NUMBERS, interval."""
    tables = []
    for plain, pushpull in lineup.authors_couples():
        if plain not in scores or pushpull not in scores:
            continue
        base, own = scores[plain].by_condition, scores[pushpull].by_condition
        twins = lineup.authors[plain], lineup.authors[pushpull]
        both = [c for c in own if c in base and all((twin, c) in published for twin in twins)]
        if not both:
            continue
        rows = [
            (c, *compare(own[c][0] - base[c][0], published[twins[1], c] - published[twins[0], c]))
            for c in both
        ]
        table = pd.DataFrame(rows, columns=["condition", *NUMBERS])
        paired = paired_differences(scores, [(plain, pushpull)], lineup.every_seed(), both)
        table[["low_images", "high_images"]] = paired[["low_images", "high_images"]]
        tables.append(table.assign(net=f"{pushpull} - {plain}", pushpull=pushpull, baseline=plain))
    return tables


def compare(values: np.ndarray, published: float) -> tuple[float, ...]:
    """NUMBERS of one condition.

    Args:
        values: score (N,) of each image measured here, percent.
        published: mean of that score over the CIFAR10_TEST_IMAGES, N of which were measured here. So the variance of
            the difference is that of the mean of N images drawn without replacement; it is 0 if N is all of them.
    """
    count = len(values)
    share = max(0.0, 1 - count / CIFAR10_TEST_IMAGES)
    error = float(values.std(ddof=1) * np.sqrt(share / count)) if count > 1 else np.nan
    difference = float(values.mean() - published)
    return float(values.mean()), published, difference, error, difference / error if error else np.nan, count


def summary(rows: pd.DataFrame, line: Callable[[NamedTuple], dict[str, str]]) -> pd.DataFrame:
    """One row per net (or pair) and quantity of QUANTITIES."""
    lines = []
    for name, own in rows.groupby("net", sort=False):
        found = {(row.measure, row.condition): row for row in own.itertuples()}
        lines += [
            {"net": name, "quantity": quantity} | line(found[key])
            for key, quantity in QUANTITIES.items()
            if key in found
        ]
    return pd.DataFrame(lines)


def by_corruption(rows: pd.DataFrame, line: Callable[[NamedTuple], dict[str, str]]) -> pd.DataFrame:
    """One row per corruption, for one net or pair."""
    averaged = rows.condition.isin(CORRUPTIONS).sum()
    return pd.DataFrame(
        {"corruption": f"mean of {averaged}" if row.condition == "mean" else row.condition} | line(row)
        for row in rows.itertuples()
    )


def net_line(row: NamedTuple) -> dict[str, str]:
    """The cells of a net on one condition."""
    return {
        "measured": number(row.measured),
        "published": number(row.published),
        "difference": number(row.difference, sign=True),
        "standard error": number(row.standard_error) if row.standard_error > 0 else NOTHING,
        "in standard errors": in_errors(row),
    }


def couple_line(row: NamedTuple) -> dict[str, str]:
    """The cells of a pair of nets on one condition."""
    return {
        "measured": number(row.measured, sign=True),
        "95 % interval": f"[{number(row.low_images, sign=True)}, {number(row.high_images, sign=True)}]",
        "published": number(row.published, sign=True),
        "measured - published": number(row.difference, sign=True),
        "in standard errors": in_errors(row),
    }


def in_errors(row: NamedTuple) -> str:
    return NOTHING if pd.isna(row.in_errors) else number(row.in_errors, 1, sign=True)
