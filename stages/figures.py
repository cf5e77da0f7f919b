"""Pictures of results: PNG files that are the same, byte for byte, for the same numbers and versions."""

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from robustness.names import CORRUPTION_GROUPS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = ("#9ecae1", "#08519c", "#fdae6b", "#a63603", "#a1d99b", "#006d2c", "#bcbddc", "#54278f")


def error_bars(path: Path, corruption: pd.DataFrame, nets: Sequence[str]) -> None:
    """Bars of the error of each net on each corruption, by group, with the spread over seeds (paper, figure 7).

    Args:
        path: the PNG to write.
        corruption: net, seed, corruption, severity, error (percent).
        nets: which, in the order of the bars; at most eight.
    """
    by_seed = corruption.groupby(["net", "seed", "corruption"]).error.mean()
    measured = set(corruption.corruption)
    places: dict[str, float] = {}
    centres: dict[str, float] = {}
    position = 0.0
    for group, names in {"clean": ("clean",), **CORRUPTION_GROUPS}.items():
        names = [name for name in names if name in measured]
        for name in names:
            places[name] = position
            position += 1
        if names and group != "clean":
            centres[group] = float(np.mean([places[name] for name in names]))
        position += 0.5
    figure, axes = plt.subplots(figsize=(10, 3.6), layout="constrained")
    width = 0.8 / len(nets)
    for i, net in enumerate(nets):
        values = by_seed[net].unstack("corruption").reindex(columns=list(places))  # a gap stays one
        spread = values.std(ddof=1).fillna(0)
        axes.bar(
            [place + (i - (len(nets) - 1) / 2) * width for place in places.values()],
            values.mean(),
            width,
            yerr=spread,
            color=COLOURS[i],
            label=net,
            error_kw={"elinewidth": 0.8, "ecolor": "#444444"},
        )
    axes.set_xticks(
        list(places.values()), [name.replace("_", " ") for name in places], rotation=40, ha="right", size=8
    )
    for group, centre in centres.items():
        axes.annotate(
            group,
            (centre, 1.0),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            color="#777777",
            size=9,
        )
    axes.set_ylabel("classification error (%)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.legend(frameon=False, ncols=len(nets), loc="lower right", bbox_to_anchor=(1, 1), fontsize=9)
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    """Write a PNG whole or not at all, without the version that matplotlib would add."""
    part = path.with_name(path.stem + ".part.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(part, dpi=150, metadata={"Software": None})
    plt.close(figure)
    os.replace(part, path)
