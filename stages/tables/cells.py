"""From values by seed to the cells of a table: ours, the authors' weights, published, and the difference."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.files.measurements import AUTHORS, DIFFERENCE, MISSING, OURS, PUBLISHED
from stages.tables import paper

SOURCES = (OURS, AUTHORS, PUBLISHED, DIFFERENCE)
NOTHING = "–"
INCOMPLETE = "incomplete"
COLUMNS = ["net", "condition", "source", "value", "spread", "seeds", "of", "fault"]


class Lineup(NamedTuple):
    """The nets that are compared.

    seeds: our net -> its seeds.
    families: architecture -> our nets of it; the best of a family is set in bold.
    twins: our net -> the paper's net that it reproduces.
    authors: the name under which the authors' weights were measured -> the paper's net.
    """

    seeds: Mapping[str, Sequence[int]]
    families: Mapping[str, Sequence[str]]
    twins: Mapping[str, str]
    authors: Mapping[str, str]

    def every_seed(self) -> dict[str, Sequence[int]]:
        """The seeds of every net; the authors' weights have one, numbered 0."""
        return {**self.seeds, **dict.fromkeys(self.authors, (0,))}

    def authors_couples(self) -> list[tuple[str, str]]:
        """Pairs (baseline, push-pull) among the authors' weights."""
        return paper.authors_couples(self.authors)


def measure(
    values: pd.DataFrame, lineup: Lineup, conditions: Sequence[str], faults: Mapping[tuple[str, str], str]
) -> pd.DataFrame:
    """One row per net and condition, with source `ours` or `authors' weights`: mean, spread, and what is missing.

    Args:
        values: net, seed, condition, value, for our nets and the authors' weights; gaps are absent rows or NaN.
        lineup: the expected nets and seeds; the authors' weights have one seed.
        conditions: the expected conditions.
        faults: (net, condition) -> what to write if no seed has a value.

    Returns:
        COLUMNS: `spread` is the standard deviation over seeds, `seeds` the number of seeds with a value, `of` the
        expected number. The authors' weights are named after the first of our nets that is their twin, if there is one.
    """
    grouped = values.dropna(subset="value").groupby(["net", "condition"]).value
    found = grouped.agg(["mean", "std", "count"])
    ours = {twin: net for net, twin in reversed(lineup.twins.items())}  # the first of several
    rows = []
    for net, condition in product([*lineup.seeds, *lineup.authors], conditions):
        mean, spread, count = (
            found.loc[(net, condition)] if (net, condition) in found.index else (np.nan, np.nan, 0)
        )
        authors = net in lineup.authors
        name = ours.get(lineup.authors[net], net) if authors else net
        of = 1 if authors else len(lineup.seeds[net])
        fault = faults.get((net, condition), "") if count < of else ""
        rows.append((name, condition, AUTHORS if authors else OURS, mean, spread, int(count), of, fault))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"value": float, "spread": float})


def compare(measured: pd.DataFrame, published: pd.DataFrame, lineup: Lineup) -> pd.DataFrame:
    """The rows of `measure`, with the published values of the same nets and conditions and the differences.

    Args:
        measured: as `measure` returns it.
        published: net (of the paper), condition, value, corrected (whether the value replaces a misprint).
        lineup: maps our nets to those of the paper.
    """
    printed = published.set_index(["net", "condition"])[["value", "corrected"]]
    ours = measured[measured.source == OURS].set_index(["net", "condition"])
    rows = []
    for net, condition in measured[["net", "condition"]].drop_duplicates().itertuples(index=False):
        key = (lineup.twins.get(net) or lineup.authors.get(net), condition)
        if key not in printed.index:
            continue
        value, corrected = printed.loc[key]
        rows.append((net, condition, PUBLISHED, value, None, 0, 0, "erratum" if corrected else ""))
        if (net, condition) in ours.index:
            row = ours.loc[(net, condition)]
            rows.append(
                (net, condition, DIFFERENCE, row["value"] - value, None, row.seeds, row.of, row.fault)
            )
    added = pd.DataFrame(rows, columns=COLUMNS).astype({"value": float, "spread": float})
    return pd.concat([measured, added], ignore_index=True) if rows else measured


def fault_labels(faults: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[str, str], str]:
    """(net, condition) -> all kinds of fault there."""
    return {
        (net, " ".join(map(str, key))): ", ".join(dict.fromkeys(table.fault))
        for (net, *key), table in faults.groupby(["net", *keys], sort=False)
    }


def mean_fault_labels(
    faults: pd.DataFrame, measured: Container[str], condition: str
) -> dict[tuple[str, str], str]:
    """(net, condition) -> what to write in place of a mean: missing if nothing was measured, otherwise incomplete."""
    return {(net, condition): INCOMPLETE if net in measured else MISSING for net in dict.fromkeys(faults.net)}


def text(row: NamedTuple, decimals: int = 2) -> str:
    """`12.34 ± 0.56`, mean and spread over seeds; with `(1 of 2 seeds)` if incomplete; the fault if there is no value.

    A published value that replaces a misprint is marked with a dagger.
    """
    if pd.isna(row.value):
        return row.fault or NOTHING
    sign = row.source == DIFFERENCE
    shown = number(row.value, decimals, sign)
    if pd.notna(row.spread):
        shown += f" ± {row.spread:.{decimals}f}"
    if row.source == PUBLISHED and row.fault:
        shown += "†"
    if row.seeds < row.of:
        shown += f" ({row.seeds} of {row.of} seeds)"
    return shown


def number(value: float, decimals: int = 2, sign: bool = False) -> str:
    """A number with fixed decimals, optionally with a sign, and never a negative zero."""
    rounded = round(value, decimals) + 0.0
    return f"{rounded:{'+' if sign else ''}.{decimals}f}"


def shown(value: float, spread: float | None = None, signed: bool = False) -> str:
    """`12.34 ± 0.56`; only the number if there is no spread; NOTHING if there is no number."""
    if pd.isna(value):
        return NOTHING
    text = number(value, sign=signed)
    return text if spread is None or pd.isna(spread) else f"{text} ± {spread:.2f}"


def by_condition(
    rows: pd.DataFrame, lead: pd.DataFrame, lineup: Lineup, decimals: int = 2
) -> dict[str, pd.DataFrame]:
    """One part with the measured values of all nets, and one for each family whose nets have other sources too.

    Args:
        rows: as `compare` returns it.
        lead: the first columns, one row per condition, which is the index.
        lineup: families, in the order of the parts.
        decimals: number of decimals.
    """
    cells = {(row.net, row.condition, row.source): row for row in rows.itertuples()}
    nets = [(net, OURS) for net in lineup.seeds]
    nets += [(net, AUTHORS) for net in dict.fromkeys(rows.net) if net not in lineup.seeds]
    parts = {"All nets": columns(cells, lead, nets, lineup, decimals)}
    for family, members in lineup.families.items():
        own = rows[rows.net.isin(members)]
        if set(own.source) != {OURS}:
            pairs = list(own[["net", "source"]].drop_duplicates().itertuples(index=False, name=None))
            pairs.sort(key=lambda pair: (members.index(pair[0]), SOURCES.index(pair[1])))
            parts[family] = columns(cells, lead, pairs, lineup, decimals)
    return parts


def columns(
    cells: Mapping[tuple[str, str, str], NamedTuple],
    lead: pd.DataFrame,
    pairs: Iterable[tuple[str, str]],
    lineup: Lineup,
    decimals: int,
) -> pd.DataFrame:
    """The leading columns, then one for each net and source; the best of our nets in a family is in bold."""
    table = lead.reset_index(drop=True)
    family = {net: members for members in lineup.families.values() for net in members}
    for net, source in pairs:
        texts = []
        for condition in lead.index:
            row = cells.get((net, condition, source))
            shown = NOTHING if row is None else text(row, decimals)
            rivals = [cells[other, condition, OURS] for other in family.get(net, ())]
            texts.append(f"**{shown}**" if source == OURS and best(row, rivals, decimals) else shown)
        table[net if source == OURS or net not in lineup.seeds else f"{net}, {source}"] = texts
    return table


def best(row: NamedTuple, rivals: Sequence[NamedTuple], decimals: int) -> bool:
    """Whether a value, rounded as shown, is the lowest of two or more that were measured with all seeds."""
    whole = [rival for rival in rivals if pd.notna(rival.value) and rival.seeds == rival.of]
    if len(whole) < 2 or row.seeds < row.of:
        return False
    return round(row.value, decimals) == min(round(rival.value, decimals) for rival in whole)


def by_net(
    rows: pd.DataFrame, headings: Mapping[str, str], decimals: Callable[[str, str], int]
) -> pd.DataFrame:
    """One row per net and source, one column per condition; a column `source` only if there are several.

    Args:
        rows: as `compare` returns it.
        headings: condition -> heading, in order.
        decimals: (source, condition) -> number of decimals.
    """
    cells = {(row.net, row.source, row.condition): row for row in rows.itertuples()}
    several = len(set(rows.source)) > 1
    lines = []
    for net in dict.fromkeys(rows.net):
        for source in SOURCES:
            found = {c: cells[net, source, c] for c in headings if (net, source, c) in cells}
            if not found:
                continue
            line = {"net": net} | ({"source": source} if several else {})
            for condition, heading in headings.items():
                row = found.get(condition)
                line[heading] = NOTHING if row is None else text(row, decimals(source, condition))
            lines.append(line)
    return pd.DataFrame(lines)
