"""Figures of results: PNG files that are byte-identical for the same numbers and versions."""

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from common_corruptions.recipes.registry import grouped
from pushpull import pull_kernel, push_pull_conv2d
from stages.files.writing import replacing

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NOISE = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)  # standard deviations, for images in 0..1

DIFFERENCES = ("#d55e00", "#0072b2", "#009e73")  # a colour for each source of differences
INK = "#111111"

COLOURS = ("#9ecae1", "#08519c", "#fdae6b", "#a63603", "#a1d99b", "#006d2c", "#bcbddc", "#54278f")


def error_bars(
    path: Path,
    corruption: pd.DataFrame,
    panels: Sequence[Sequence[str]],
    published: Mapping[tuple[str, str], float] | None = None,
) -> None:
    """Bars of the error of each net on each corruption, by group, with the spread over seeds (paper, figure 7).

    Args:
        path: the PNG to write.
        corruption: net, seed, corruption, severity, error (percent).
        panels: for each panel its nets, in the order of the bars; at most eight.
        published: error by net and corruption, drawn as a line across the bar.
    """
    published = published or {}
    by_seed = corruption.groupby(["net", "seed", "corruption"]).error.mean()
    places, centres = places_of(set(corruption.corruption))
    figure, column = stacked(len(panels), 1.0 + 2.6 * len(panels))
    for axes, nets in zip(column, panels, strict=True):
        width = 0.8 / len(nets)
        for i, net in enumerate(nets):
            values = by_seed[net].unstack("corruption").reindex(columns=list(places))  # NaN if not measured
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
            printed = [
                (place, published[net, name]) for name, place in places.items() if (net, name) in published
            ]
            if printed:
                centre = (i - (len(nets) - 1) / 2) * width
                axes.hlines(
                    [value for _, value in printed],
                    [place + centre - width / 2 for place, _ in printed],
                    [place + centre + width / 2 for place, _ in printed],
                    color=INK,
                    linewidth=1.2,
                    label="published" if i == 0 else None,
                )
        name_groups(axes, centres)
        axes.set_ylabel("classification error (%)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
        axes.set_ylim(bottom=0)
        columns = max(1, 120 // (6 + max(map(len, nets))))  # as many as fit the width
        axes.legend(
            frameon=False,
            ncols=min(columns, len(nets) + 1),
            loc="lower right",
            bbox_to_anchor=(1, 1),
            fontsize=9,
        )
    name_conditions(axes, places)
    save(figure, path)


class Differences(NamedTuple):
    """Push-pull minus baseline in percentage points on each condition: a corruption, `clean` or `mean`."""

    label: str
    conditions: Sequence[str]
    difference: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def differences(path: Path, panels: Mapping[str, Sequence[Differences]]) -> None:
    """Push-pull minus baseline on each corruption: a panel for each architecture, a mark for each source.

    Args:
        path: the PNG to write.
        panels: architecture -> its series. Series with the same label share a colour; those with bounds are drawn as
            dots with error bars, the others as short lines.
    """
    labels = list(dict.fromkeys(one.label for panel in panels.values() for one in panel))
    known = {name for panel in panels.values() for one in panel for name in one.conditions}
    places, centres = places_of(known)
    places = {"mean": -1.5} | places if "mean" in known else places
    figure, column = stacked(len(panels), 1.2 + 1.9 * len(panels))
    for axes, (name, panel) in zip(column, panels.items(), strict=True):
        axes.axhline(0, color="#999999", linewidth=0.8)
        bounded = [one for one in panel if one.low is not None]
        for one in panel:
            colour = DIFFERENCES[labels.index(one.label) % len(DIFFERENCES)]
            x = np.array([places[condition] for condition in one.conditions])
            if one.low is None:
                axes.hlines(
                    one.difference, x - 0.36, x + 0.36, color=INK, linewidth=1.4, label=one.label, zorder=1
                )
                continue
            x = x + 0.3 * (bounded.index(one) - (len(bounded) - 1) / 2)
            axes.vlines(x, one.low, one.high, color=colour, linewidth=1.6)
            axes.plot(x, one.difference, "o", color=colour, markersize=4.5, label=one.label)
        axes.set_title(name, loc="left", size=10)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
    name_conditions(axes, places)
    name_groups(column[0], centres)
    figure.supylabel("push-pull minus baseline, points", size=9)
    handles = {}
    for axes in column:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(), handles, frameon=False, ncols=len(handles), loc="outside upper right", fontsize=9
    )
    save(figure, path)


def stacked(count: int, height: float) -> tuple[plt.Figure, np.ndarray]:
    """A figure of this height in inches, and its `count` panels, stacked vertically with shared axes."""
    figure, grid = plt.subplots(
        count, figsize=(10, height), layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    return figure, grid[:, 0]


def places_of(conditions: Container[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Positions of the corruptions on the axis, `clean` first, and the centre of each group of corruptions."""
    places: dict[str, float] = {}
    centres: dict[str, float] = {}
    position = 0.0
    for group, names in {"clean": ("clean",), **grouped()}.items():
        names = [name for name in names if name in conditions]
        for name in names:
            places[name] = position
            position += 1
        if names and group != "clean":
            centres[group] = float(np.mean([places[name] for name in names]))
        position += 0.5
    return places, centres


def name_conditions(axes: plt.Axes, places: Mapping[str, float]) -> None:
    """Label each position with the name of its condition."""
    names = [name.replace("_", " ") for name in places]
    axes.set_xticks(list(places.values()), names, rotation=40, ha="right", size=8)


def name_groups(axes: plt.Axes, centres: Mapping[str, float]) -> None:
    """Label the groups of corruptions at the upper edge."""
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


def response_maps(
    path: Path, image: np.ndarray, alpha: float, scale: float, seed: int = 0
) -> dict[str, list[float]]:
    """Responses of a convolution and of a push-pull layer to an image under growing noise (paper, figure 2).

    The kernel is fixed, an oriented 5 x 5 edge detector, so that the figure shows the effect of the layer and not of a
    training. The grey scale of each map spans its own range. The number below it is its correlation with the map of the
    clean image.

    Args:
        path: the PNG to write.
        image: (H, W, C) uint8; channels are averaged.
        alpha, scale: options of the push-pull layer.
        seed: seed of the noise.

    Returns:
        The correlations for "convolution" and "push-pull", one per level of NOISE.
    """
    push = oriented_edge(5)
    clean = torch.from_numpy(image.astype(np.float32).mean(2) / 255)
    noise = torch.from_numpy(np.random.default_rng(seed).normal(size=clean.shape).astype(np.float32))
    noisy = torch.stack([clean + sigma * noise for sigma in NOISE])[:, None]
    maps = {
        "convolution": F.conv2d(noisy, push, padding=2),
        "push-pull": push_pull_conv2d(noisy, push, padding=2, alpha=alpha, scale=scale),
    }
    kept = {
        name: [float(torch.corrcoef(torch.stack((stack[0].ravel(), one.ravel())))[0, 1]) for one in stack]
        for name, stack in maps.items()
    }
    columns = len(NOISE) + 1
    figure, grid = plt.subplots(3, columns, figsize=(10, 3.9), layout="constrained")
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    for axes, sigma, picture in zip(grid[0, 1:], NOISE, noisy[:, 0], strict=True):
        axes.imshow(picture.clip(0, 1), cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"noise {sigma:g}" if sigma else "clean", size=9, color="#333333")
    for row, (name, stack) in zip(grid[1:], maps.items(), strict=True):
        for axes, picture, r in zip(row[1:], stack[:, 0], kept[name], strict=True):
            axes.imshow(picture, cmap="gray")
            axes.set_xlabel(f"{r:.2f}", size=9, color="#333333")
    pull = alpha * pull_kernel(push, scale)[0, 0]
    grid[0, 0].text(0.5, 0.5, "image", ha="center", va="center", size=10)
    for axes, name, kernels in (
        (grid[1, 0], "convolution", [push[0, 0]]),
        (grid[2, 0], "push-pull", [push[0, 0], pull]),
    ):
        axes.imshow(side_by_side(kernels, max(len(pull), len(push[0, 0]))), cmap="gray")
        axes.set_title(name, size=10)
    grid[2, 0].set_xlabel(f"push and pull\nalpha {alpha:g}, scale {scale:g}", size=8, color="#666666")
    save(figure, path)
    return kept


def side_by_side(kernels: Sequence[torch.Tensor], side: int) -> np.ndarray:
    """One or two square kernels on a canvas with room for two of size `side`, so that all are drawn at one scale."""
    canvas = np.full((side, 2 * side + 1), np.nan)
    for i, kernel in enumerate(kernels):
        top = (side - len(kernel)) // 2
        left = top + i * (side + 1) if len(kernels) > 1 else side - len(kernel) // 2
        canvas[top : top + len(kernel), left : left + len(kernel)] = kernel
    return canvas


def oriented_edge(size: int) -> torch.Tensor:
    """Kernel (1, 1, size, size): an elongated derivative of a Gaussian at 45 degrees, with absolute sum 1."""
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float32) - size // 2] * 2, indexing="ij")
    across, along = (x + y) / 2**0.5, (y - x) / 2**0.5
    kernel = -across * torch.exp(-(across**2 + along**2 / 4) / 2)
    return (kernel / kernel.abs().sum())[None, None]


def save(figure: plt.Figure, path: Path) -> None:
    """Write a PNG whole or not at all, without matplotlib's version in its metadata."""
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=150, metadata={"Software": None})
    plt.close(figure)
