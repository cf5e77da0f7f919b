"""Charts of the report page: small SVGs that follow the colours of the page, light, dark or printed.

Each function returns one `<svg>` without ids, links or own fonts. Colours are CSS variables of templates/report.css;
lines and bars have a tooltip with name and value.
"""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SVG = "http://www.w3.org/2000/svg"
ET.register_namespace("", SVG)

# The colours used in matplotlib; on the page, the CSS variables in THEME replace them.
INK, MUTED, RULE = "#111112", "#777778", "#dddddf"
SERIES = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#8c8c8c",
)  # Okabe and Ito: distinguishable for colour-blind readers
OTHER = len(SERIES) - 1
THEME = {INK: "ink", MUTED: "muted", RULE: "rule", **{colour: f"s{i}" for i, colour in enumerate(SERIES)}}

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pushpull",
    "font.size": 9,
    "text.color": MUTED,
    "axes.labelcolor": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.solid_capstyle": "round",
}


def severity(table: pd.DataFrame, colours: Mapping[str, int], top: float, label: str) -> str:
    """Error of each net from clean images (severity 0) to severity 5: mean over seeds, and the range of the seeds.

    Args:
        table: net, seed, severity, error (percent) of one corruption, with the clean error at severity 0.
        colours: net -> its index in SERIES, in the order of drawing.
        top: upper limit of the error axis, so that adjacent charts can share it.
        label: text alternative of the chart, for screen readers.
    """
    with plt.rc_context(STYLE):
        figure, axes, titles = _panel(180, 128, left=26, bottom=20)
        for net, colour in colours.items():
            by_seed = table[table.net == net].pivot_table(index="severity", columns="seed", values="error")
            mean = by_seed.mean(axis=1)
            if by_seed.empty:  # not measured
                continue
            there, back = by_seed.index, by_seed.index[::-1]
            axes.fill(
                np.r_[there, back], np.r_[by_seed.min(axis=1), by_seed.max(axis=1)[back]],
                color=SERIES[colour], alpha=0.15, linewidth=0, clip_on=False,
            )  # fmt: skip
            text = f"{net}: {', '.join(f'{value:.1f}' for value in mean)} %"
            _line(axes, titles, mean.index, mean, text, color=SERIES[colour], linewidth=1.6)
        axes.set_xlim(0, 5)
        axes.set_ylim(0, top)
        axes.set_xticks(range(6), ["clean", "1", "2", "3", "4", "5"])
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True))
        return _svg(figure, titles, label)


def training(table: pd.DataFrame, colours: Mapping[str, int], label: str) -> str:
    """Test error (line) and training error (dots) by epoch, mean over seeds; linear below 1 percent, logarithmic above.

    Args:
        table: net, seed, epoch, train_error, test_error.
        colours, label: as in `severity`.
    """
    with plt.rc_context(STYLE):
        figure, axes, titles = _panel(330, 190, left=34, bottom=30)
        means = table.groupby(["net", "epoch"])[["test_error", "train_error"]].mean()
        for net, colour in colours.items():
            if net not in means.index:  # not measured
                continue
            curve = means.loc[net]
            for column, kind, style in (
                ("train_error", "training", {"linestyle": (0, (1, 2.5)), "linewidth": 1.4}),
                ("test_error", "test", {"linewidth": 1.8}),
            ):
                text = f"{net}, {kind} error: {curve[column].iloc[-1]:.2f} % after epoch {curve.index[-1]}"
                _line(axes, titles, curve.index, curve[column], text, color=SERIES[colour], **style)
        epochs = table.epoch.max()
        axes.set_xlim(min(1, epochs - 1), epochs)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
        axes.set_xlabel("epoch")
        axes.set_yscale("symlog", linthresh=1, linscale=0.6)
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100 %"])
        axes.minorticks_off()
        return _svg(figure, titles, label)


def bars(
    table: pd.DataFrame,
    colours: Mapping[str, int],
    conditions: Sequence[str],
    label: str,
    published: Mapping[tuple[str, str], float] | None = None,
) -> str:
    """Bars of each net's error on each condition, with the standard deviation over seeds (paper, figure 7).

    Args:
        table: net, seed, corruption, error (percent), mean over severities.
        colours, label: as in `severity`.
        conditions: "clean" and corruptions, from top to bottom.
        published: error by net and corruption, drawn as a line across the bar.
    """
    published = published or {}
    with plt.rc_context(STYLE):
        row = max(14, 5 * len(colours) + 4)
        figure, axes, titles = _panel(360, row * len(conditions) + 24, left=104, bottom=18)
        height = 0.78 / len(colours)
        for i, (net, colour) in enumerate(colours.items()):
            values = table[table.net == net].groupby("corruption").error
            mean, spread = values.mean(), values.std(ddof=1).fillna(0)
            for place, name in enumerate(conditions):
                if name not in mean.index:
                    continue
                y = place + (i - (len(colours) - 1) / 2) * height
                text = f"{net}, {name.replace('_', ' ')}: {mean[name]:.2f} ± {spread[name]:.2f} %"
                printed = published.get((net, name))
                if printed is not None:
                    text += f", published {printed:.2f} %"
                    reach = [y - height / 2, y + height / 2]
                    axes.plot([printed, printed], reach, color=INK, linewidth=1.4, clip_on=False)
                bar = axes.barh(y, mean[name], height * 0.9, color=SERIES[colour], clip_on=False)[0]
                _set_title(bar, titles, text)
                reach = [max(mean[name] - spread[name], 0), mean[name] + spread[name]]
                axes.plot(reach, [y, y], color=INK, linewidth=0.8, clip_on=False)
        axes.set_ylim(len(conditions) - 0.5, -0.5)
        axes.set_yticks(range(len(conditions)), [name.replace("_", " ") for name in conditions], color=INK)
        axes.grid(False)
        axes.grid(axis="x", color=RULE, linewidth=0.6, clip_on=False)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:.0f} %")
        return _svg(figure, titles, label)


def differences(table: pd.DataFrame, label: str) -> str:
    """Difference of two nets on each condition (dot), with its intervals over images (thick line) and over seeds and
    images (thin line); coloured where the latter excludes 0.

    With few seeds the thin lines are long; they are cut off where they would compress the rest.

    Args:
        table: condition, difference, low, high, low_images, high_images (percentage points), from top to bottom;
            negative is better.
        label: as in `severity`.
    """
    with plt.rc_context(STYLE):
        figure, axes, titles = _panel(360, 14 * len(table) + 24, left=104, bottom=18)
        axes.grid(False)
        axes.grid(axis="x", color=RULE, linewidth=0.6, clip_on=False)
        axes.axvline(0, color=MUTED, linewidth=0.8, clip_on=False)
        bounds = table[["low_images", "high_images", "low", "high"]]
        reach = max(1.25 * bounds.iloc[:, :2].abs().max(axis=None), 0.1)
        left, right = max(bounds.min(axis=None), -reach), min(bounds.max(axis=None), reach)
        left, right = min(left, -0.15 * reach), max(right, 0.15 * reach)
        names = table.condition.str.replace("_", " ").tolist()
        for place, (name, row) in enumerate(zip(names, table.itertuples(), strict=True)):
            colour = SERIES[1] if row.high < 0 else SERIES[0] if row.low > 0 else SERIES[OTHER]
            text = f"{name}: {row.difference:+.2f} points; over images {row.low_images:+.2f} to {row.high_images:+.2f}"
            lines = [(row.low_images, row.high_images, 2.6)]
            if not np.isnan(row.low):
                lines.insert(0, (row.low, row.high, 0.9))
                text += f", over seeds and images {row.low:+.2f} to {row.high:+.2f}"
            for low, high, width in lines:
                ends = np.clip([low, high], left, right)
                _line(axes, titles, ends, [place, place], text, color=colour, linewidth=width)
            _line(axes, titles, [row.difference] * 2, [place, place], text, color=colour, linewidth=6)
        axes.set_xlim(left, right)
        axes.set_ylim(len(table) - 0.5, -0.5)
        axes.set_yticks(range(len(table)), names, color=INK)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6))
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:+g}".replace("-", "−") if value else "0")
        return _svg(figure, titles, label)


def _panel(width: int, height: int, left: int, bottom: int) -> tuple[plt.Figure, plt.Axes, dict[str, str]]:
    """A figure of width x height points with only horizontal grid lines, its axes, and an empty dict of titles."""
    figure = plt.figure(figsize=(width / 72, height / 72))
    box = (left / width, bottom / height, (width - left - 14) / width, (height - bottom - 8) / height)
    axes = figure.add_axes(box)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", bottom=False, left=False, pad=3)
    axes.grid(axis="y", color=RULE, linewidth=0.6, clip_on=False)
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    return figure, axes, {}


def _line(axes: plt.Axes, titles: dict[str, str], x, y, text: str, **style) -> None:
    _set_title(axes.plot(np.asarray(x), np.asarray(y), clip_on=False, **style)[0], titles, text)


def _set_title(artist: matplotlib.artist.Artist, titles: dict[str, str], text: str) -> None:
    """Record the title of a mark, which browsers show as its tooltip."""
    artist.set_gid(f"mark-{len(titles)}")
    titles[artist.get_gid()] = text


def _svg(figure: plt.Figure, titles: Mapping[str, str], label: str) -> str:
    """The figure as an SVG element of the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    root = ET.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "defs"):
                parent.remove(child)
        title = titles.get(parent.attrib.pop("id", ""))
        if title is not None:
            told = ET.Element(f"{{{SVG}}}title")
            told.text = title
            parent.insert(0, told)
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib |= {"viewBox": view, "class": "chart", "role": "img", "aria-label": label}
    text = ET.tostring(root, encoding="unicode")
    text = re.sub(r' xmlns(:\w+)?="[^"]*"| transform="rotate\(-0 [^"]*"| font-family:[^;"]*;', "", text)
    for colour, variable in THEME.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), text)
    return re.sub(r">\s+<", "><", text)
