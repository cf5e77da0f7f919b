"""Tables 2 and 3 of the paper, with our values beside the published ones."""

from collections.abc import Mapping, Sequence

import pandas as pd

from common_corruptions.recipes.registry import grouped
from stages.files.measurements import OURS, PUBLISHED
from stages.files.schema import Params
from stages.tables import paper
from stages.tables.cells import (
    COLUMNS,
    INCOMPLETE,
    NOTHING,
    Lineup,
    by_condition,
    by_net,
    compare,
    fault_labels,
    mean_fault_labels,
    measure,
    number,
)
from stages.tables.table import Table

HEADINGS = {
    "E_clean": "E clean",
    "E_best": "E clean, best epoch (paper protocol)",
    "E_corr": "E",
    "mCE": "mCE",
    "rCE": "rCE",
    "mCE_15": "mCE, main 15",
    "rCE_15": "rCE, main 15",
    "mFP": "mFP",
    "mFP_official": "mFP, official protocol",
}
AGAINST_PAPER = (
    " Published: the paper's figure; a dagger (†) marks one put right by data/published/errata.csv. The paper's clean "
    "errors are those of the best epoch on the test set."
)


def table2(
    params: Params, lineup: Lineup, corruption: pd.DataFrame, faults: pd.DataFrame, summary: pd.DataFrame
) -> Table:
    """Error of each net on each corruption, by group, and the mean (paper, table 2); added corruptions come last.

    Args:
        params, lineup: parameters and the nets to compare.
        corruption, faults: the valid errors (net, seed, corruption, severity, error) and the faults.
        summary: net, seed, E_corr; NaN if its set is incomplete.
    """
    names, added = params.data.averaged_corruptions(), params.data.added_corruptions()
    group = {name: kind for kind, members in grouped().items() for name in members}
    conditions = ["clean", *names, "mean", *added]
    errors = corruption.groupby(["net", "seed", "corruption"], sort=False).error.mean().reset_index()
    means = summary[["net", "seed", "E_corr"]].assign(condition="mean")
    values = pd.concat(
        [
            errors.rename(columns={"corruption": "condition", "error": "value"}),
            means.rename(columns={"E_corr": "value"}),
        ]
    )
    averaged = faults[~faults.corruption.isin(added)]
    labels = fault_labels(faults, ["corruption"])
    labels |= mean_fault_labels(averaged, set(corruption.net), "mean")
    published = paper.comparable(paper.table2(), params)
    rows = compare(measure(values, lineup, conditions, labels), published, lineup)
    kinds = ["", *(group[name] for name in names), "", *(group[name] for name in added)]
    shown = [kind if i == 0 or kind != kinds[i - 1] else "" for i, kind in enumerate(kinds)]
    lead = pd.DataFrame({"group": shown, "corruption": conditions}, index=conditions)
    lead.loc["mean", "corruption"] = f"mean of {len(names)}"
    tidy = rows.rename(columns={"condition": "corruption", "value": "error"})
    tidy.insert(1, "group", tidy.corruption.map(group).fillna(""))
    parts = by_condition(rows, lead, lineup)
    return Table(
        "table2",
        "Table 2: error by corruption, percent, mean over severities",
        "The best net of an architecture is in bold."
        + (AGAINST_PAPER if PUBLISHED in set(rows.source) else ""),
        parts if len(parts) > 1 else parts["All nets"],
        tidy,
    )


def table3(
    params: Params,
    lineup: Lineup,
    summary: pd.DataFrame,
    couples: Sequence[tuple[str, str]],
    faults: pd.DataFrame,
) -> Table:
    """Clean error, E, mCE, rCE and mFP of each net (paper, table 3), and push-pull minus baseline paired by seed.

    Args:
        params, lineup: parameters and the nets to compare.
        summary: one row per net and seed; NaN if a set is incomplete.
        couples: pairs (baseline, push-pull).
        faults: all faults; only the column `net` is used.
    """
    headings = {
        key: heading
        for key, heading in HEADINGS.items()
        if key in ("E_clean", "E_corr") or (key in summary and summary[key].notna().any())
    }
    if params.data.corrupted_images and "E_best" in headings:
        # Training measures each epoch on all test images; everything else is of the first `corrupted_images`.
        headings["E_best"] += ", of all test images"
    values = summary.reindex(columns=["net", "seed", *headings]).melt(
        ["net", "seed"], var_name="condition", value_name="value"
    )
    labels = {}
    for quantity in headings:
        alike = [key for key in headings if ("mFP" in key) == ("mFP" in quantity) and key != "E_best"]
        measured = set(summary.net[summary.reindex(columns=alike).notna().any(axis=1)])
        labels |= mean_fault_labels(faults, measured, quantity)
    printed = pd.concat([paper.table3(), paper.main_set(), paper.released_mfp()])
    rows = compare(measure(values, lineup, list(headings), labels), paper.comparable(printed, params), lineup)
    rows = rows[(rows.source == OURS) | rows.value.notna()]  # the authors' weights have no best epoch

    def decimals(source: str, quantity: str) -> int:
        return 0 if source == PUBLISHED and quantity in ("mCE", "rCE") else 2

    note = "mFP: mean flip probability, percent."
    if PUBLISHED in set(rows.source):
        note += AGAINST_PAPER + (
            " Those over the main 15 are computed from its table 2, mFP from the released flip probabilities."
        )
    tidy = rows.rename(columns={"condition": "quantity"})
    display = by_net(rows, headings, decimals)
    if couples:
        paired = seed_differences(summary, list(headings), couples, lineup)
        tidy = pd.concat([tidy, paired.rename(columns={"condition": "quantity"})], ignore_index=True)
        display = {
            "Nets": display,
            "Push-pull minus baseline, paired by seed": signed(paired, headings),
        }
    return Table("table3", "Table 3: errors and mean flip probability", note, display, tidy)


def seed_differences(
    summary: pd.DataFrame, quantities: Sequence[str], couples: Sequence[tuple[str, str]], lineup: Lineup
) -> pd.DataFrame:
    """Mean and spread over common seeds of push-pull minus baseline: the columns of `measure`, net `a - b`."""
    by_seed = summary.set_index(["net", "seed"]).reindex(columns=list(quantities))
    rows = []
    for plain, pushpull in couples:
        seeds = [seed for seed in lineup.seeds[pushpull] if seed in lineup.seeds[plain]]
        own = by_seed.reindex([(pushpull, seed) for seed in seeds]).to_numpy()
        base = by_seed.reindex([(plain, seed) for seed in seeds]).to_numpy()
        differences = pd.DataFrame(own - base, columns=list(quantities))
        for quantity, values in differences.items():
            found = values.dropna()
            fault = INCOMPLETE if len(found) < len(seeds) else ""
            rows.append(
                (f"{pushpull} - {plain}", quantity, "paired", found.mean(), found.std(), len(found), len(seeds), fault)
            )  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def signed(paired: pd.DataFrame, headings: Mapping[str, str]) -> pd.DataFrame:
    """One row per pair, one column per quantity: `-2.97 ± 0.92`."""
    cells = {}
    for row in paired.itertuples():
        shown = row.fault or NOTHING
        if row.seeds:
            shown = number(row.value, sign=True) + (f" ± {row.spread:.2f}" if row.seeds > 1 else "")
            shown += f" ({row.seeds} of {row.of} seeds)" if row.seeds < row.of else ""
        cells.setdefault(row.net, {"nets": row.net})[headings[row.condition]] = shown
    return pd.DataFrame(list(cells.values()))
