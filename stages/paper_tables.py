"""Tables 2 and 3 of the paper, and what it never tabulated of the perturbations, beside the published figures."""

from collections.abc import Container, Mapping, Sequence

import pandas as pd

from robustness.benchmark import PROTOCOLS
from robustness.names import CORRUPTION_GROUPS, NOISE_PERTURBATIONS, PERTURBATIONS
from stages import paper
from stages.cells import COLUMNS, OURS, PUBLISHED, Lineup, by_condition, by_net, compare, measure, number
from stages.params import Params
from stages.results import MISSING
from stages.tables import Table

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
INCOMPLETE = "incomplete"
METRICS = {  # heading, factor, decimals
    "flip_probability": ("Flip probability, percent", 100, 2),
    "top5_distance": ("Top-5 distance", 1, 3),
    "zipf_distance": ("Zipf distance", 1, 3),
}
AGAINST_PAPER = (
    " Published: the paper's figure; a dagger (†) marks one put right by data/published/errata.csv. The paper's clean "
    "errors are those of the best epoch on the test set."
)


def table2(
    params: Params, lineup: Lineup, corruption: pd.DataFrame, faults: pd.DataFrame, summary: pd.DataFrame
) -> Table:
    """Error of each net on each corruption, by group, and their mean (paper, table 2).

    Args:
        params, lineup: what there should be.
        corruption, faults: the sound errors (net, seed, corruption, severity, error) and what is at fault.
        summary: net, seed, E_corr, NaN where its set is not whole.
    """
    names = params.data.corruption_names()
    group = {name: kind for kind, members in CORRUPTION_GROUPS.items() for name in members}
    conditions = ["clean", *names, "mean"]
    errors = corruption.groupby(["net", "seed", "corruption"], sort=False).error.mean().reset_index()
    means = summary[["net", "seed", "E_corr"]].assign(condition="mean")
    values = pd.concat(
        [
            errors.rename(columns={"corruption": "condition", "error": "value"}),
            means.rename(columns={"E_corr": "value"}),
        ]
    )
    labels = fault_labels(faults, ["corruption"]) | of_the_mean(faults, set(corruption.net), "mean")
    published = paper.comparable(paper.table2(), params)
    rows = compare(measure(values, lineup, conditions, labels), published, lineup)
    kinds = ["", *(group[name] for name in names), ""]
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
    """Clean error, E, mCE, rCE and mFP of each net (paper, table 3), and push-pull minus baseline by seed.

    Args:
        params, lineup: what there should be.
        summary: one row a net and seed, NaN where a set is not whole.
        couples: (baseline, push-pull).
        faults: net, and more, of everything at fault.
    """
    headings = {
        key: heading
        for key, heading in HEADINGS.items()
        if key in ("E_clean", "E_corr") or (key in summary and summary[key].notna().any())
    }
    values = summary.reindex(columns=["net", "seed", *headings]).melt(
        ["net", "seed"], var_name="condition", value_name="value"
    )
    labels = {}
    for quantity in headings:
        labels |= of_the_mean(faults, set(summary.net), quantity)
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
    """One row a couple, one column a quantity: `-2.97 ± 0.92`."""
    cells = {}
    for row in paired.itertuples():
        shown = row.fault or "–"
        if row.seeds:
            shown = number(row.value, sign=True) + (f" ± {row.spread:.2f}" if row.seeds > 1 else "")
            shown += f" ({row.seeds} of {row.of} seeds)" if row.seeds < row.of else ""
        cells.setdefault(row.net, {"nets": row.net})[headings[row.condition]] = shown
    return pd.DataFrame(list(cells.values()))


def perturbations(
    params: Params, lineup: Lineup, perturbation: pd.DataFrame, faults: pd.DataFrame
) -> Table | None:
    """Flip probability, top-5 and Zipf distance of each net by perturbation in both protocols; None without any.

    Args:
        params, lineup: what there should be.
        perturbation, faults: the sound values (net, seed, perturbation, protocol, metric, value), and the faults.
    """
    names = params.data.perturbation_names()
    averaged = [name for name in names if name in PERTURBATIONS]  # not the stronger variants of the noises
    # The protocols differ in the noises alone.
    shown = [(name, "hendrycks") for name in names]
    shown += [(name, "official") for name in names if name in NOISE_PERTURBATIONS]
    shown += [("mean", protocol) for protocol in PROTOCOLS]
    lead = pd.DataFrame(
        {
            "perturbation": [name if name != "mean" else f"mean of {len(averaged)}" for name, _ in shown],
            "frame compared with": [reference(*pair) for pair in shown],
        },
        index=[f"{name} {protocol}" for name, protocol in shown],
    )
    released = paper.released_perturbations()
    display, tidy = {}, []
    for metric, (heading, factor, decimals) in METRICS.items():
        own = perturbation[perturbation.metric == metric]
        wrong = faults[faults.metric == metric]
        if own.empty and wrong.empty:
            continue
        values = with_means(own, averaged)
        labels = fault_labels(wrong, ["perturbation", "protocol"])
        for protocol in PROTOCOLS:
            labels |= of_the_mean(wrong[wrong.protocol == protocol], set(own.net), f"mean {protocol}")
        published = released[released.metric == metric]
        published = pd.concat(
            [
                published.assign(condition=published.perturbation + " official"),
                published[~published.perturbation.isin([*NOISE_PERTURBATIONS, "mean"])].assign(
                    condition=published.perturbation + " hendrycks"
                ),
            ]
        )
        published = published.assign(corrected=False)[["net", "condition", "value", "corrected"]]
        if set(averaged) != set(released.perturbation) - {"mean"}:
            published = published[~published.condition.str.startswith("mean")]
        rows = compare(
            measure(values, lineup, list(lead.index), labels), paper.comparable(published, params), lineup
        )
        rows[["value", "spread"]] *= factor
        for part, frame in by_condition(rows, lead, lineup, decimals).items():
            display[heading if part == "All nets" else f"{heading}, {part}"] = frame
        rows[["perturbation", "protocol"]] = (
            rows.pop("condition").str.rsplit(" ", n=1, expand=True).to_numpy()
        )
        tidy.append(rows.assign(metric=metric, unit="percent" if factor == 100 else ""))
    if not tidy:
        return None
    return Table(
        "perturbations",
        "Stability of the predictions within perturbed sequences",
        "The benchmark compares every frame of a noise with the first, all others with the previous one; the paper's "
        "authors (official protocol) compare noises with the previous frame too. The best net of an architecture is "
        "in bold.",
        display,
        pd.concat(tidy, ignore_index=True),
    )


def reference(name: str, protocol: str) -> str:
    if name == "mean":
        return "as above" if protocol == "hendrycks" else "previous (official protocol)"
    if name in NOISE_PERTURBATIONS:
        return "first" if protocol == "hendrycks" else "previous (official protocol)"
    return "previous"


def with_means(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """net, seed, condition (`<perturbation> <protocol>`), value; with the means, where none of `names` is absent."""
    grouped = table[table.perturbation.isin(names)].groupby(["net", "seed", "protocol"], sort=False).value
    means = grouped.mean()[grouped.count() == len(names)].reset_index().assign(perturbation="mean")
    both = pd.concat([table, means], ignore_index=True)
    return both.assign(condition=both.perturbation + " " + both.protocol)[
        ["net", "seed", "condition", "value"]
    ]


def fault_labels(faults: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[str, str], str]:
    """(net, condition) -> what is wrong there, all kinds of it."""
    return {
        (net, " ".join(map(str, key))): ", ".join(dict.fromkeys(table.fault))
        for (net, *key), table in faults.groupby(["net", *keys], sort=False)
    }


def of_the_mean(faults: pd.DataFrame, measured: Container[str], condition: str) -> dict[tuple[str, str], str]:
    """(net, condition) -> what to write where a mean cannot be had: missing if nothing was measured, or incomplete."""
    return {(net, condition): INCOMPLETE if net in measured else MISSING for net in dict.fromkeys(faults.net)}
