"""Figures of the studies: accuracy of the LeNets under noise (paper, figures 4 and 5), and comparison of front ends."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from stages.page.figures import save

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Light for a LeNet, dark for the same net with push-pull, as in the paper.
COLOURS = ("#9ecae1", "#08519c", "#a1d99b", "#006d2c", "#fee391", "#b8860b", "#fcae91", "#a50f15")


def accuracy_bars(
    path: Path,
    accuracies: pd.DataFrame,
    sweep: str,
    levels: Sequence[float],
    *,
    names: Mapping[str, str],
    classes: int,
    title: str,
    axis: str,
) -> None:
    """Bars of the accuracy of every LeNet at every level, clean images first, with the spread over seeds.

    Args:
        path: the PNG to write.
        accuracies: net, sweep, level, accuracy (percent), spread.
        sweep, levels: the sweep and its levels to draw.
        names: net -> its name in the paper.
        classes: number of classes, which gives the accuracy at chance level.
        title, axis: title of the figure, and label of the axis of levels.
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
            label=names[net],
            error_kw={"elinewidth": 0.8, "ecolor": "#444444"},
        )
    chance = 100 / classes
    axes.axhline(chance, color="#999999", linewidth=0.8, linestyle=":")
    axes.annotate("chance", (1.005, chance), xycoords=("axes fraction", "data"), va="center", size=8)
    axes.set_xticks(range(len(places)), ["no noise", *(f"{level:g}" for level in levels)])
    axes.set_xlabel(axis)
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 100)
    axes.set_title(title, loc="left", size=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
    save(figure, path)


FRONT_ENDS = ("#8c8c8c", "#0072b2", "#d55e00", "#009e73", "#cc79a7")  # the baseline grey


def front_end_bars(
    path: Path, table: pd.DataFrame, quantities: Mapping[str, str], *, baseline: str, title: str
) -> None:
    """Bars of each quantity for every net with spread over seeds; below, differences from the baseline with intervals.

    Args:
        path: the PNG to write.
        table: net, quantity, value, spread (percent), difference, low, high, low_images, high_images (points; NaN for
            the baseline). The interval over seeds and images is drawn thin, that over images alone thick.
        quantities: quantity -> its label on the axis.
        baseline: the net from which the differences are taken.
        title: title of the figure.
    """
    nets = list(dict.fromkeys(table.net))
    rows = table.set_index(["net", "quantity"])
    figure, (bars, below) = plt.subplots(2, figsize=(9, 5.4), layout="constrained", sharex=True)
    places, width = np.arange(len(quantities)), 0.8 / len(nets)
    below.axhline(0, color="#999999", linewidth=0.8)
    for i, net in enumerate(nets):
        own, colour = rows.loc[[(net, key) for key in quantities]], FRONT_ENDS[i % len(FRONT_ENDS)]
        x = places + (i - (len(nets) - 1) / 2) * width
        error = {"elinewidth": 0.8, "ecolor": "#444444"}
        bars.bar(x, own["value"], width, yerr=own.spread.fillna(0), color=colour, label=net, error_kw=error)
        if net != baseline:
            below.vlines(x, own.low, own.high, color=colour, linewidth=0.9)
            below.vlines(x, own.low_images, own.high_images, color=colour, linewidth=2.6)
            below.plot(x, own.difference, "o", color=colour, markersize=4.5)
    below.set_xticks(places, list(quantities.values()))
    bars.set_ylim(0, 1.15 * bars.get_ylim()[1])  # the legend stands above the bars
    bars.set_ylabel("percent")
    below.set_ylabel(f"minus {baseline}, points")
    for axes in (bars, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
        axes.set_axisbelow(True)
    bars.set_title(title, loc="left", size=10)
    bars.legend(frameon=False, fontsize=9, ncols=len(nets), loc="upper left")
    save(figure, path)
