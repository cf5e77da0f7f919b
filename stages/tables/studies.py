"""Tables 1, 4 and 5 of the paper from the measurements of the studies, with the published values if there are any.

The column `net` holds the paper's name of a net, such as resnet14-pp for every alpha and scale.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd

from common_corruptions.recipes.names import CORRUPTIONS
from common_corruptions.sweeps import FIGURE4_VARIANCES, FIGURE5_CONTRASTS, TABLE4_VARIANCES
from stages.files.datasets import full_name, published_name
from stages.files.schema import Params
from stages.tables import paper
from stages.tables.caption import measured_set
from stages.tables.cells import NOTHING, shown
from stages.tables.paper import PUBLISHED
from stages.tables.table import Table

# Table 1: channels of the two convolutions, units of the linear layers.
CONFIGURATIONS = {
    "A": (6, 16, "128, 64, 10"),
    "B": (6, 8, "64, 32, 10"),
    "C": (4, 16, "128, 64, 10"),
    "D": (4, 8, "64, 32, 10"),
}
LENETS = {  # net -> the paper's name
    f"lenet_{letter.lower()}{suffix}": prefix + letter
    for suffix, prefix in (("", ""), ("-pp", "P"))
    for letter in CONFIGURATIONS
}
CELL = ["net", "scale", "alpha"]
PROTOCOL = "mean over seeds ± standard deviation, last epoch of training"


def table4(
    measured: pd.DataFrame, params: Params, images: int | None = None, folder: Path = PUBLISHED
) -> Table:
    """Error under Gaussian noise by scale and alpha (section 4.3), beside the published values.

    Args:
        measured: net, scale, alpha (NaN without push-pull layers), as_published (whether the net is otherwise the
            paper's; only then are published values shown), seed, sweep, level, error (percent).
        params: parameters of the study; differences from the paper are given only on CIFAR-10.
        images: number of clean test images, None if it is not known.
        folder: folder with the published values.
    """
    data_name = params.data.name
    variances = [0.0, *TABLE4_VARIANCES]
    errors = measured[measured.sweep.isin(["clean", "gaussian_noise"]) & measured.level.isin(variances)]
    tidy = summarise(errors.rename(columns={"level": "variance"}), [*CELL, "variance"], "error")
    printed = pd.read_csv(folder / "table4.csv").rename(columns={"error": "published"})
    printed = of_these_nets(printed, measured, CELL)
    tidy = tidy.merge(printed, how="left", on=[*CELL, "variance"])

    def grid(value: str, signed: bool = False) -> pd.DataFrame:
        best = None if signed else tidy.groupby("variance")[value].min().round(2)
        rows = []
        for (_, scale, alpha), part in tidy.groupby(CELL, sort=False, dropna=False):
            lead = {"scale": "–", "α": "–"} if pd.isna(scale) else {"scale": f"{scale:g}", "α": f"{alpha:g}"}
            cells = {}
            for row in part.to_dict("records"):
                spread = row["spread"] if value == "error" else None
                text = shown(row[value], spread, signed)
                winner = best is not None and round(row[value], 2) == best[row["variance"]]
                cells[f"σ² {row['variance']:g}"] = f"**{text}**" if winner else text
            rows.append(lead | cells)
        return pd.DataFrame(rows)

    nets = measured.net.str.removesuffix("-pp").str.replace("resnet", "ResNet-").unique()
    note = (
        f"{', '.join(nets)} on {full_name(data_name, images)}, error in percent, {PROTOCOL}; Gaussian noise of "
        "variance σ² on values 0 to 1. A row of – has no push-pull layer. The lowest error of a column is in bold. "
    )
    parts = {f"measured on {data_name}": grid("error")}
    known = tidy.published.notna().any()
    if known:
        parts["published, on CIFAR-10"] = grid("published")
    if published_name(data_name) == "cifar10":
        tidy["difference"] = tidy.error - tidy.published
        if known:
            parts["measured minus published"] = grid("difference", signed=True)
        note += "The paper's clean errors are those of the best epoch on the test set."
    else:
        tidy = tidy.rename(columns={"published": "published_on_cifar10"})
        note += f"The published errors are of another data set than {data_name}: compare their pattern, not their size."
    return Table("table4", "Sensitivity to scale and alpha (paper, table 4)", note, parts, tidy)


def table5(
    measured: pd.DataFrame, params: Params, images: int | None = None, folder: Path = PUBLISHED
) -> Table:
    """Clean error and E with fixed and learned alpha (section 4.4), beside the published values.

    Args:
        measured: net, train_alpha (False without push-pull layers), alpha (then NaN), as_published, seed, corruption,
            severity, error (percent).
        params, folder: as for `table4`; the difference of E is given only if E is over the paper's 19 corruptions.
        images: number of test images that were corrupted, None if it is not known.
    """
    keys = ["net", "train_alpha"]
    by_corruption = measured.groupby([*keys, "seed", "corruption"], sort=False).error.mean().reset_index()
    clean = by_corruption.corruption == "clean"
    averaged = by_corruption[by_corruption.corruption.isin(CORRUPTIONS)]
    corrupted = averaged.groupby([*keys, "seed"], sort=False).error.mean().reset_index()
    printed = pd.read_csv(folder / "table5.csv").melt(keys, var_name="quantity", value_name="published")
    conditions = printed.assign(condition=printed.quantity.map(paper.QUANTITIES))
    compared = set(paper.comparable(conditions, params).quantity)
    printed = of_these_nets(printed, measured, keys)
    tidy = pd.concat(
        [
            summarise(by_corruption[clean], keys, "error").assign(quantity="e_clean"),
            summarise(corrupted, keys, "error").assign(quantity="e_corr"),
        ]
    ).merge(printed, how="left", on=[*keys, "quantity"])
    tidy = tidy[[*keys, "quantity", "seeds", "error", "spread", "published"]]

    same = published_name(params.data.name) == "cifar10"
    headings = {"e_clean": "E clean", "e_corr": "E"}
    reference = dict.fromkeys(headings, "published" if same else "published on CIFAR-10")
    if same and "e_corr" not in compared:
        reference["e_corr"] = f"published, over {len(CORRUPTIONS)}"
    rows, alphas = [], measured.groupby(keys).alpha.first()
    for (net, learned), part in tidy.groupby(keys, sort=False):
        cells = part.set_index("quantity").to_dict("index")
        alpha = alphas[net, learned]
        row = {"net": net, "α": "learned" if learned else NOTHING if pd.isna(alpha) else f"{alpha:g}"}
        for quantity, heading in headings.items():
            row[heading] = shown(cells[quantity]["error"], cells[quantity]["spread"])
        for quantity, heading in headings.items():
            row[f"{heading}, {reference[quantity]}"] = shown(cells[quantity]["published"])
            if quantity in compared:
                difference = cells[quantity]["error"] - cells[quantity]["published"]
                row[f"{heading}, difference"] = shown(difference, signed=True)
        rows.append(row)
    count = len(params.data.averaged_corruptions())
    over = f"{count} corruptions and 5 severities"
    if same and "e_corr" not in compared:
        over += f", the published one over {len(CORRUPTIONS)}, so that no difference is given"
    note = (
        f"On {measured_set(params.data, images)}, errors in percent, {PROTOCOL}; E is the mean over {over}. A learned "
        "α is one number a channel of the push-pull layer, trained from 1."
    )
    if same:
        tidy["difference"] = (tidy.error - tidy.published).where(tidy.quantity.isin(compared))
        note += " The paper's clean errors are those of the best epoch on the test set."
    else:
        tidy = tidy.rename(columns={"published": "published_on_cifar10"})
    return Table("table5", "Learned inhibition strength (paper, table 5)", note, pd.DataFrame(rows), tidy)


def table1(
    measured: pd.DataFrame, params: Params, images: int | None = None, folder: Path = PUBLISHED
) -> Table:
    """The LeNets and their accuracy under both sweeps (section 4.1), beside the published figures.

    Args:
        measured: net, as_published, seed, sweep, level, error (percent).
        params, images, folder: as for `table4`; the paper's set is MNIST.
    """
    same = params.data.name == "mnist"
    reference = "published" if same else "published on MNIST"
    tidy = accuracies(measured)
    printed = pd.read_csv(folder / "lenet.csv").rename(columns={"accuracy": "published", "variance": "level"})
    printed["sweep"] = printed.level.map(lambda level: "gaussian_noise" if level else "clean")
    printed = of_these_nets(printed, measured, ["net"])
    tidy = tidy.merge(printed, how="left", on=["net", "sweep", "level"])
    cells = {(row["net"], row["sweep"], row["level"]): row for row in tidy.to_dict("records")}

    def cell(net: str, sweep: str, level: float) -> str:
        return shown(cells[net, sweep, level]["accuracy"], cells[net, sweep, level]["spread"])

    rows, noise, contrast = [], [], []
    for net, model in ((net, model) for net, model in LENETS.items() if net in set(measured.net)):
        first, second, linear = CONFIGURATIONS[model[-1]]
        row = {"model": model, "1st layer": f"{first} ({'pp' if net.endswith('-pp') else 'c'})"}
        row |= {"2nd layer": f"{second} (c)", "linear layers": linear}
        for sweep, level, heading in (("clean", 0.0, "clean"), ("gaussian_noise", 0.2, "σ² 0.2")):
            row[heading] = cell(net, sweep, level)
            row[f"{heading}, {reference}"] = shown(cells[net, sweep, level]["published"])
            if same:
                difference = cells[net, sweep, level]["accuracy"] - cells[net, sweep, level]["published"]
                row[f"{heading}, difference"] = shown(difference, signed=True)
        rows.append(row)
        lead = {"model": model, "no noise": cell(net, "clean", 0.0)}
        noise.append(lead | {f"σ² {v:g}": cell(net, "gaussian_noise", v) for v in FIGURE4_VARIANCES})
        contrast.append(lead | {f"C {c:g}": cell(net, "poisson_noise", c) for c in FIGURE5_CONTRASTS})
    if same:
        tidy["difference"] = tidy.accuracy - tidy.published
    else:
        tidy = tidy.rename(columns={"published": "published_on_mnist"})
    note = (
        f"Accuracy on {full_name(params.data.name, images)} in percent, {PROTOCOL}. (c) a convolution, (pp) a push-"
        "pull layer; Gaussian noise of variance σ² on values 0 to 1; Poisson noise, white being 255 photons, after the "
        "contrast was changed by the factor C. The paper prints numbers for clean images and for σ² 0.2 alone. It "
        "names no augmentation; here training crops are shifted at random by up to 4 pixels."
    )
    parts = {
        "configurations": pd.DataFrame(rows),
        "Gaussian noise, figure 4": pd.DataFrame(noise),
        "contrast with Poisson noise, figure 5": pd.DataFrame(contrast),
    }
    return Table(
        "table1", "LeNet with and without push-pull (paper, table 1, figures 4 and 5)", note, parts, tidy
    )


def accuracies(measured: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in percent by net, sweep and level: mean over seeds and spread, from tidy errors."""
    known = measured[measured.net.isin(LENETS)]
    tidy = known.assign(accuracy=100 - known.error)
    return summarise(tidy, ["net", "sweep", "level"], "accuracy")


def of_these_nets(printed: pd.DataFrame, measured: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The published values of the nets, identified by `keys`, that were measured as in the paper."""
    same = measured.loc[measured.as_published, keys].drop_duplicates()
    return printed.merge(same, on=keys)


def summarise(rows: pd.DataFrame, keys: Iterable[str], value: str) -> pd.DataFrame:
    """One row per combination of `keys`: number of seeds, mean and standard deviation (NaN for a single seed)."""
    groups = rows.groupby(list(keys), sort=False, dropna=False)[value]
    return groups.agg(seeds="count", **{value: "mean"}, spread="std").reset_index()


TABLES: Mapping[str, Callable[..., Table]] = {"table4": table4, "table5": table5, "table1": table1}
