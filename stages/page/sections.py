"""The sections of the report page: make charts, table rows and pictures from the tidy measurements."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from markupsafe import Markup

from common_corruptions.recipes.registry import grouped
from stages.files.schema import Params
from stages.files.writing import read_table
from stages.page import charts
from stages.tables import paper
from stages.tables.summary import pairs

# The order of tables on the page; others follow, sorted by name.
TABLES = (
    "agreement",
    "difference",
    "table2",
    "table3",
    "perturbations",
    "calibration",
    "table1",
    "table4",
    "table5",
)

# Figures of the studies.
STUDY_FIGURES = {
    "figure4": "Accuracy of the LeNets under Gaussian noise of growing variance.",
    "figure5": "Accuracy of the LeNets under Poisson noise at falling contrast.",
    "frontends": "ResNets that differ in their front end, by group of corruptions, and differences to one of them.",
}

MEASURES = {"E_clean": "E clean, %", "E_corr": "E, %", "mCE": "mCE, %", "mFP": "mFP, %"}


MOST_CLASSES = 20  # in a confusion matrix on the page


@dataclass
class Study:
    """The input of the page: the checked parameters and the tidy measurements of all nets."""

    params: Params
    corruption: pd.DataFrame
    perturbation: pd.DataFrame
    history: pd.DataFrame
    summary: pd.DataFrame
    folder: Path

    @property
    def nets(self) -> list[str]:
        """Nets of params.yaml, then the authors' weights if they were measured."""
        return list(dict.fromkeys(self.corruption.net))

    @property
    def couples(self) -> list[tuple[str, str]]:
        """Pairs (baseline, push-pull) of the same architecture; of the authors' weights if no net was trained here."""
        return pairs(self.params) if self.params.nets else paper.authors_couples(self.authors)

    @property
    def authors(self) -> dict[str, str]:
        """Name of measured authors' weights -> the paper's net."""
        return paper.authors_nets(self.corruption.net)

    @property
    def members(self) -> dict[str, tuple[str, str]]:
        """Net in the charts -> its architecture and front end: ours, or the authors' if none was trained here."""
        if self.params.nets:
            return {name: (net.arch, front_end(self.params, name)) for name, net in self.params.nets.items()}
        fronts = {True: "push-pull", False: "convolution"}
        return {
            name: (twin.removesuffix("-pp"), fronts[twin.endswith("-pp")])
            for name, twin in self.authors.items()
        }


def colours(study: Study) -> dict[str, int]:
    """Net -> index of its colour in the charts: one per front end, and grey for a net that is in no pair."""
    coupled = {net for couple in study.couples for net in couple}
    fronts = list(dict.fromkeys(front for _, front in study.members.values()))
    places = {}
    for name, (_, front) in study.members.items():
        alone = coupled and name not in coupled
        places[name] = charts.OTHER if alone else min(fronts.index(front), charts.OTHER - 1)
    # Nets in no pair are drawn first, below the others.
    return dict(sorted(places.items(), key=lambda item: item[1] != charts.OTHER))


def front_end(params: Params, name: str) -> str:
    """The block of a net and its own settings: `pushpull (alpha=2, augment=augmix)`.

    These are its own options, and training settings that differ from those of the first net of its architecture.
    """
    net = params.nets[name]
    first = next(other for other, one in params.nets.items() if one.arch == net.arch)
    usual = paper.recipe(params.training(first))
    trained = paper.recipe(params.training(name))
    changed = [f"{key}={value}" for key, value in trained.items() if value != usual[key]]
    own = [net.own, *changed] if net.own else changed
    return f"{net.block} ({', '.join(own)})" if own else net.block


def legend(study: Study, nets: Sequence[str]) -> list[dict]:
    """Legend of the colours of these nets: a net, or the front end that several nets share."""
    groups: dict[int, list[str]] = {}
    for net, colour in colours(study).items():
        if net in nets:
            groups.setdefault(colour, []).append(net)
    entries = []
    for colour, members in groups.items():
        fronts = dict.fromkeys(study.members[net][1] for net in members)
        text = members[0] if len(members) == 1 else f"{', '.join(fronts)} ({len(members)} nets)"
        entries.append({"colour": colour, "text": text})
    return entries


def kinds() -> dict[str, str]:
    """Corruption -> its kind, ordered by kind."""
    return {name: kind for kind, names in grouped().items() for name in names}


def overall(study: Study) -> list[dict]:
    """One row per net: mean and standard deviation over seeds of every measure."""
    rows = []
    for net, table in study.summary.groupby("net", sort=False):
        cells = {}
        for key, heading in MEASURES.items():
            if key in table and study.summary[key].notna().any():
                cells[heading] = cell(table[key])
        rows.append({"net": net, "cells": cells})
    return rows


def cell(values: pd.Series) -> dict:
    """Mean, and the standard deviation if there are several seeds."""
    values = values.dropna()
    return {
        "mean": values.mean() if len(values) else None,
        "spread": values.std(ddof=1) if len(values) > 1 else None,
    }


def by_corruption(
    study: Study, published: Mapping[tuple[str, str], float], differences: pd.DataFrame
) -> list[dict]:
    """For each architecture with several nets (all architectures if none has several): its bars, and the differences
    of its pairs that have intervals."""
    errors = study.corruption.groupby(["net", "seed", "corruption"], sort=False).error.mean().reset_index()
    conditions = [name for name in ("clean", *kinds()) if name in set(errors.corruption)]
    couples = dict(list(differences.groupby(["baseline", "pushpull"], sort=False)))
    shown = []
    for arch, chosen in by_architecture(study).items():
        label = f"Error of {', '.join(chosen)} on each corruption"
        svg = charts.bars(errors, chosen, conditions, label, published)
        shown.append({"name": arch, "svg": Markup(svg)})
        for (plain, pushpull), rows in couples.items():
            if plain in chosen:
                label = f"Difference of {pushpull} and {plain} on each corruption, with its interval"
                svg = charts.differences(rows, label)
                shown.append({"name": f"{pushpull} − {plain}", "svg": Markup(svg)})
    return shown


def training(study: Study) -> list[dict]:
    """A chart of the training curves for every architecture; empty if nothing was trained."""
    grouped = by_architecture(study, couples_alone=False) if study.params.nets else {}
    return [
        {
            "name": arch,
            "svg": Markup(
                charts.training(
                    study.history[study.history.net.isin(chosen)],
                    chosen,
                    f"Error of {', '.join(chosen)} by epoch",
                )
            ),
        }
        for arch, chosen in grouped.items()
    ]


def by_architecture(study: Study, couples_alone: bool = True) -> dict[str, dict[str, int]]:
    """Architecture -> its nets and their colours; only those with several nets, if there are any and if asked for."""
    places = colours(study)
    groups: dict[str, dict[str, int]] = {}
    for name, (arch, _) in study.members.items():
        groups.setdefault(arch, {})[name] = places[name]
    several = {arch: chosen for arch, chosen in groups.items() if len(chosen) > 1}
    return several if several and couples_alone else groups


def panels(study: Study, most: int = 8) -> list[list[str]]:
    """The measured nets by architecture, at most `most` per panel; those alone in their architecture come together."""
    archs = {net: twin.removesuffix("-pp") for net, twin in study.authors.items()}
    archs |= {net: arch for net, (arch, _) in study.members.items()}
    groups: dict[str, list[str]] = {}
    for net in study.nets:
        groups.setdefault(archs.get(net, net), []).append(net)
    several = [nets for nets in groups.values() if len(nets) > 1]
    alone = [net for nets in groups.values() if len(nets) == 1 for net in nets]
    return [nets[i : i + most] for nets in (*several, alone) for i in range(0, len(nets), most)]


def severities(study: Study) -> list[dict]:
    """By kind of corruption: a chart of error by severity for each corruption; charts of one kind share their axis."""
    places = colours(study)
    table = study.corruption[study.corruption.net.isin(places)]
    clean = table[table.corruption == "clean"]
    sections = []
    for kind, names in grouped().items():
        of_kind = table[table.corruption.isin(names)]
        if of_kind.empty:
            continue
        top = max(of_kind.error.max(), clean.error.max(), 1.0)
        shown = [
            {
                "name": name,
                "svg": Markup(
                    charts.severity(
                        pd.concat([clean, table[table.corruption == name]]),
                        places,
                        top,
                        f"Error by severity of {name.replace('_', ' ')}",
                    )
                ),
            }
            for name in names
            if name in set(of_kind.corruption)
        ]
        sections.append({"kind": kind, "charts": shown})
    return sections


def flips(perturbation: pd.DataFrame) -> pd.DataFrame:
    """Flip probability in percent, in the protocol of the benchmark."""
    chosen = perturbation[
        (perturbation.protocol == "hendrycks") & (perturbation.metric == "flip_probability")
    ]
    return chosen.assign(value=100 * chosen.value)


def heat(
    table: pd.DataFrame, key: str, value: str, order: Sequence[str], kind: Mapping[str, str]
) -> dict | None:
    """Heat map, one row per condition and one column per net: mean, spread over seeds, and shade (0 to 1).

    The shade is the mean divided by the largest mean. None if the table is empty.
    """
    if table.empty:
        return None
    by_seed = table.groupby(["net", "seed", key], sort=False)[value].mean()
    largest = by_seed.groupby(["net", key]).mean().max()
    found = dict(list(by_seed.groupby(["net", key])))
    nets = list(dict.fromkeys(table.net))
    rows = []
    for name in (name for name in order if name in set(table[key])):
        cells = []
        for net in nets:
            entry = cell(found.get((net, name), by_seed[:0]))
            shade = 0.0 if entry["mean"] is None or not largest else entry["mean"] / largest
            cells.append(entry | {"shade": round(float(shade), 3)})
        means = [round(c["mean"], 2) for c in cells if c["mean"] is not None]
        for c in cells:
            c["best"] = c["mean"] is not None and round(c["mean"], 2) == min(means) < max(means)
        rows.append({"name": name, "kind": kind.get(name, ""), "cells": cells})
    return {"nets": nets, "rows": rows, "kinds": bool(kind), "key": key}


def picture(path: Path) -> str:
    """A PNG as a data URI.

    Raises:
        click.ClickException: the file is missing.
    """
    if not path.exists():
        raise click.ClickException(f"no {path}; `dvc repro` makes it")
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def tables(*folders: Path) -> list[dict]:
    """The tables of the paper and beyond, in the order of TABLES, as `stages.tables.table.data` describes them."""
    found = {path.stem: path for folder in folders for path in sorted(folder.glob("*.json"))}
    ordered = [name for name in TABLES if name in found] + [name for name in found if name not in TABLES]
    return [{"name": name, **json.loads(found[name].read_text(encoding="utf-8"))} for name in ordered]


def study_figures(folder: Path) -> list[dict]:
    """The figures of STUDY_FIGURES that exist in the folder."""
    paths = [folder / f"{name}.png" for name in STUDY_FIGURES]
    return [{"uri": picture(path), "text": STUDY_FIGURES[path.stem]} for path in paths if path.exists()]


def confusions(folder: Path, nets: Sequence[str]) -> list[dict]:
    """Confusion matrix on corrupted images of every net with `<net>.csv` in the folder.

    Rows hold shares in percent, shaded relative to the largest share off the diagonal. Matrices with more than
    MOST_CLASSES classes do not fit the page and are left out.
    """
    shown = []
    for net in nets:
        path = folder / f"{net}.csv"
        if not path.exists():
            continue
        table = read_table(path, ["set", "label", "predicted", "count"])
        counts = table[table["set"] == "corrupted"].pivot_table(
            index="label", columns="predicted", values="count"
        )
        if len(counts) > MOST_CLASSES:
            continue
        shares = 100 * counts.to_numpy() / counts.sum(axis=1).clip(lower=1).to_numpy()[:, None]
        wrong = shares.copy()
        np.fill_diagonal(wrong, 0)
        shades = wrong / max(wrong.max(), 1e-9)
        rows = [
            {"label": label, "cells": list(zip(row.tolist(), shade.round(3).tolist(), strict=True))}
            for label, row, shade in zip(counts.index, shares, shades, strict=True)
        ]
        shown.append({"net": net, "classes": counts.columns.tolist(), "rows": rows})
    return shown
