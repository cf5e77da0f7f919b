"""Figures 4 and 5 of the paper: accuracy of the LeNets, each beside its push-pull twin, as noise grows."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd

from stages.page.figures import save
from stages.tables.studies import LENETS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Light for a LeNet, dark for its twin, as in the paper.
COLOURS = ("#9ecae1", "#08519c", "#a1d99b", "#006d2c", "#fee391", "#b8860b", "#fcae91", "#a50f15")


def accuracy_bars(
    path: Path, accuracies: pd.DataFrame, sweep: str, levels: Sequence[float], *, title: str, axis: str
) -> None:
    """Bars of the accuracy of every LeNet at every level, clean images first, with the spread over seeds.

    Args:
        path: the PNG to write.
        accuracies: net, sweep, level, accuracy (percent), spread.
        sweep, levels: of the bars.
        title, axis: of the figure, and of the levels.
    """
    values = accuracies.set_index(["net", "sweep", "level"])
    places = [("clean", 0.0), *((sweep, level) for level in levels)]
    nets = [f"lenet_{letter}{suffix}" for letter in "abcd" for suffix in ("", "-pp")]
    colours = dict(zip(nets, COLOURS, strict=True))
    nets = [net for net in nets if net in set(accuracies.net)]
    width = 0.8 / len(nets)
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for i, net in enumerate(nets):
        rows = values.loc[[(net, *place) for place in places]]
        axes.bar(
            [x + (i - (len(nets) - 1) / 2) * width for x in range(len(places))],
            rows.accuracy,
            width,
            yerr=rows.spread.fillna(0),
            color=colours[net],
            label=LENETS[net],
            error_kw={"elinewidth": 0.8, "ecolor": "#444444"},
        )
    axes.axhline(10, color="#999999", linewidth=0.8, linestyle=":")
    axes.annotate("chance", (1.005, 10), xycoords=("axes fraction", "data"), va="center", size=8)
    axes.set_xticks(range(len(places)), ["no noise", *(f"{level:g}" for level in levels)])
    axes.set_xlabel(axis)
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 100)
    axes.set_title(title, loc="left", size=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
    save(figure, path)
