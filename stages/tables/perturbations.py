"""Stability of the predictions by perturbation, in both protocols; the paper has no such table."""

from collections.abc import Sequence

import pandas as pd

from common_corruptions.metrics import PROTOCOLS
from common_corruptions.recipes.names import NOISE_PERTURBATIONS, PERTURBATIONS
from stages.files.schema import Params
from stages.tables import paper
from stages.tables.cells import Lineup, by_condition, compare, fault_labels, mean_fault_labels, measure
from stages.tables.table import Table

METRICS = {  # heading, factor, decimals
    "flip_probability": ("Flip probability, percent", 100, 2),
    "top5_distance": ("Top-5 distance", 1, 3),
    "zipf_distance": ("Zipf distance", 1, 3),
}


def perturbations(
    params: Params, lineup: Lineup, perturbation: pd.DataFrame, faults: pd.DataFrame
) -> Table | None:
    """Flip probability, top-5 and Zipf distance of each net by perturbation, in both protocols; None without values.

    Args:
        params, lineup: parameters and the nets to compare.
        perturbation, faults: the valid values (net, seed, perturbation, protocol, metric, value), and the faults.
    """
    names = params.data.perturbation_names()
    averaged = [name for name in names if name in PERTURBATIONS]  # no stronger variants of the noises
    lead = rows_of(names, len(averaged))
    display, tidy = {}, []
    for metric, (heading, factor, decimals) in METRICS.items():
        own, wrong = perturbation[perturbation.metric == metric], faults[faults.metric == metric]
        if own.empty and wrong.empty:
            continue
        labels = fault_labels(wrong, ["perturbation", "protocol"])
        for protocol in PROTOCOLS:
            labels |= mean_fault_labels(wrong[wrong.protocol == protocol], set(own.net), f"mean {protocol}")
        measured = measure(with_means(own, averaged), lineup, list(lead.index), labels)
        rows = compare(measured, paper.comparable(released(metric), params), lineup)
        rows[["value", "spread"]] *= factor
        for part, frame in by_condition(rows, lead, lineup, decimals).items():
            display[heading if part == "All nets" else f"{heading}, {part}"] = frame
        rows[["perturbation", "protocol"]] = rows.condition.str.rsplit(" ", n=1, expand=True).to_numpy()
        tidy.append(rows.assign(metric=metric, unit="percent" if factor == 100 else ""))
    if not tidy:
        return None
    keys = ["net", "perturbation", "protocol", "metric", "unit", "source"]
    numbers = pd.concat(tidy, ignore_index=True).drop(columns="condition")
    return Table(
        "perturbations",
        "Stability of the predictions within perturbed sequences",
        "The benchmark compares every frame of a noise with the first, all others with the previous one; the paper's "
        "authors (official protocol) compare noises with the previous frame too. The best net of an architecture is "
        "in bold.",
        display,
        numbers[[*keys, *(column for column in numbers if column not in keys)]],
    )


def rows_of(names: Sequence[str], averaged: int) -> pd.DataFrame:
    """The first columns, with `<perturbation> <protocol>` as index; the protocols differ only for noises."""
    shown = [(name, "hendrycks") for name in names]
    shown += [(name, "official") for name in names if name in NOISE_PERTURBATIONS]
    shown += [("mean", protocol) for protocol in PROTOCOLS]
    return pd.DataFrame(
        {
            "perturbation": [name if name != "mean" else f"mean of {averaged}" for name, _ in shown],
            "frame compared with": [reference(*pair) for pair in shown],
        },
        index=[f"{name} {protocol}" for name, protocol in shown],
    )


def released(metric: str) -> pd.DataFrame:
    """The authors' values of a metric: net, condition (`<perturbation> <protocol>`), value, corrected.

    They use the official protocol, which equals that of the benchmark except for noises.
    """
    table = paper.released_perturbations().query("metric == @metric").assign(corrected=False)
    ordered = table[~table.perturbation.isin([*NOISE_PERTURBATIONS, "mean"])]
    both = pd.concat(
        [
            table.assign(condition=table.perturbation + " official"),
            ordered.assign(condition=ordered.perturbation + " hendrycks"),
        ]
    )
    return both[["net", "condition", "value", "corrected"]]


def reference(name: str, protocol: str) -> str:
    if name == "mean":
        return "as above" if protocol == "hendrycks" else "previous (official protocol)"
    if name in NOISE_PERTURBATIONS:
        return "first" if protocol == "hendrycks" else "previous (official protocol)"
    return "previous"


def with_means(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """net, seed, condition (`<perturbation> <protocol>`), value; with the means if all `names` are present."""
    grouped = table[table.perturbation.isin(names)].groupby(["net", "seed", "protocol"], sort=False).value
    means = grouped.mean()[grouped.count() == len(names)].reset_index().assign(perturbation="mean")
    both = pd.concat([table, means], ignore_index=True)
    return both.assign(condition=both.perturbation + " " + both.protocol)[
        ["net", "seed", "condition", "value"]
    ]
