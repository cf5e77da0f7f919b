"""The paper's published values, from `data/published/`, and which of our nets they can be compared with."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from common_corruptions.metrics import mean_corruption_error, relative_corruption_error
from common_corruptions.recipes.names import CORRUPTIONS, MAIN_CORRUPTIONS, PERTURBATIONS
from nets.families import families
from stages.files.datasets import published_name
from stages.files.measurements import AUTHORS, registry_name
from stages.files.schema import Params, Train

PUBLISHED = Path("data") / "published"
NETS = tuple(
    f"{arch}{suffix}"
    for arch in (
        "resnet20", "resnet32", "resnet44", "resnet56", "densenet40_12", "densenet100_12", "densenet100_24"
    )
    for suffix in ("", "-pp")
)  # fmt: skip
# The paper's layer, as options of a net.
LAYER = {
    "pushpull": "first",
    "alpha": 1.0,
    "scale": 2.0,
    "train_alpha": False,
    "pull": "upsampled",
    "average_size": 0,
}
# Training settings of a family that differ from those of the ResNets: DenseNets as in section 4.2.2, AlexNet as in
# section `paper` of params.yaml.
RECIPES = {
    "alexnet": {"lr": 0.01},
    "densenet": {"epochs": 350, "batch_size": 64, "milestones": [150, 225, 300]},
}
QUANTITIES = {"e_clean": "E_clean", "e_corr": "E_corr", "mce": "mCE", "rce": "rCE"}


def counterparts(params: Params) -> dict[str, str]:
    """Our net -> the paper's net with the same architecture, front end and training, if there is one."""
    found = {}
    for name, net in params.nets.items():
        twin = net.arch if params.block(name).layers is None else f"{net.arch}-pp"
        known = twin in ("alexnet", *NETS)
        if known and not other_options(params, name) and trained_as_published(params, name):
            found[name] = twin
    return found


def other_options(params: Params, net: str) -> dict[str, Any]:
    """The options in which a net differs from the paper's: the low-pass filter, and those of the layer if any."""
    options = params.options(net)
    expected = {"lpf_size": None} | (LAYER if options["pushpull"] else {})
    return {key: options[key] for key, value in expected.items() if options[key] != value}


def trained_as_published(params: Params, net: str) -> bool:
    """Whether a net's training allows a comparison with published values.

    Its training must be that of the training section, with or without the settings in RECIPES for its family. The
    section may have fewer epochs than the paper's 200, which every table states. With an augmentation, which the paper
    does not use, there is no comparison, whether the section or the net sets it.
    """
    section, own = recipe(params.train), recipe(params.training(net))
    of_family = RECIPES.get(families()[params.nets[net].arch], {})
    return own["augment"] == "none" and own in (section, section | of_family)


def own_training(params: Params, net: str) -> dict[str, Any]:
    """The settings in which a net's recipe differs from the training section."""
    section = recipe(params.train)
    return {key: value for key, value in recipe(params.training(net)).items() if value != section[key]}


def recipe(training: Train) -> dict[str, Any]:
    """The settings of a training that determine the weights apart from chance: all but seeds and device."""
    return training.model_dump(exclude={"seeds", "device"})


def authors_nets(measured: Iterable[str]) -> dict[str, str]:
    """Measured net with the authors' weights -> the paper's net."""
    mark = f" ({AUTHORS})"
    return {
        net: registry_name(net.removesuffix(mark)) for net in dict.fromkeys(measured) if net.endswith(mark)
    }


def authors_couples(authors: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs (baseline, push-pull) among the authors' weights, given as `authors_nets` returns them."""
    names = {twin: name for name, twin in authors.items()}
    return [(names[twin], names[f"{twin}-pp"]) for twin in names if f"{twin}-pp" in names]


def table2(folder: Path = PUBLISHED) -> pd.DataFrame:
    """Printed errors: net, condition (corruption, `mean` over all 19, or `clean`), value, corrected (by an erratum)."""
    alexnet = pd.read_csv(folder / "alexnet.csv").assign(net="alexnet")
    errors = pd.concat([pd.read_csv(folder / "table2.csv"), alexnet]).rename(
        columns={"corruption": "condition", "error": "value"}
    )
    means = correct(pd.read_csv(folder / "table2-mean.csv").set_index("net"), "2", folder)
    means = means[means.condition == "E_corr"].assign(condition="mean")
    clean = table3(folder).query("condition == 'E_clean'").assign(condition="clean")
    alexnet_mean = table3(folder).query("net == 'alexnet' and condition == 'E_corr'").assign(condition="mean")
    return pd.concat([errors.assign(corrected=False), means, clean, alexnet_mean], ignore_index=True)


def table3(folder: Path = PUBLISHED) -> pd.DataFrame:
    """Printed clean error, E, mCE and rCE: net, condition, value, corrected; E_clean also as E_best, which it is."""
    printed = correct(pd.read_csv(folder / "table3.csv").set_index("net"), "3", folder)
    return pd.concat([printed, printed[printed.condition == "E_clean"].assign(condition="E_best")])


def main_set(folder: Path = PUBLISHED) -> pd.DataFrame:
    """mCE and rCE over the main 15 corruptions, computed from the paper's table 2; the paper does not print them."""
    clean = pd.read_csv(folder / "table3.csv").set_index("net").e_clean
    rows = []
    for net, table in pd.read_csv(folder / "table2.csv").groupby("net", sort=False):
        errors = dict(zip(table.corruption, table.error, strict=True))
        mce = mean_corruption_error(errors, corruptions=MAIN_CORRUPTIONS)
        rce = relative_corruption_error(errors, clean[net], corruptions=MAIN_CORRUPTIONS)
        rows += [(net, "mCE_15", mce, False), (net, "rCE_15", rce, False)]
    return pd.DataFrame(rows, columns=["net", "condition", "value", "corrected"])


def released_errors(folder: Path = PUBLISHED) -> pd.DataFrame:
    """Released errors, percent, mean over severities: net, condition (a corruption, or `mean` over all 19), value.

    The clean errors (`clean`) are those of table 3, since none were released.
    """
    table = pd.read_csv(folder / "released-c.csv").rename(columns={"corruption": "condition"})
    each = table.groupby(["net", "condition"], sort=False).error.mean()
    means = each.groupby("net", sort=False).mean().reset_index().assign(condition="mean")
    clean = table3(folder).query("condition == 'E_clean'").assign(condition="clean")
    found = pd.concat([each.reset_index(), means]).rename(columns={"error": "value"})
    return pd.concat([found, clean[clean.net != "alexnet"]], ignore_index=True)[["net", "condition", "value"]]


def released_perturbations(folder: Path = PUBLISHED) -> pd.DataFrame:
    """Released values, official protocol: net, perturbation (or `mean` over the 14), metric, value."""
    table = pd.read_csv(folder / "released-p.csv")
    means = (
        table.groupby(["net", "metric"], sort=False).value.mean().reset_index().assign(perturbation="mean")
    )
    return pd.concat([table, means], ignore_index=True)[["net", "perturbation", "metric", "value"]]


def released_mfp(folder: Path = PUBLISHED) -> pd.DataFrame:
    """mFP in percent from the released flip probabilities: net, condition (`mFP_official`), value, corrected."""
    means = released_perturbations(folder).query("perturbation == 'mean' and metric == 'flip_probability'")
    return pd.DataFrame(
        {"net": means.net, "condition": "mFP_official", "value": 100 * means.value, "corrected": False}
    )


def correct(printed: pd.DataFrame, table: str, folder: Path) -> pd.DataFrame:
    """Reshape a printed table (one row per net) to net, condition, value, corrected; errata replace misprints."""
    errata = pd.read_csv(folder / "errata.csv", dtype=str)
    errata = errata[(errata.table == table) & errata.quantity.isin(QUANTITIES)]
    right = errata.set_index(["net", "quantity"]).correct.astype(float)
    rows = [
        (net, QUANTITIES[quantity], right.get((net, quantity), value), (net, quantity) in right.index)
        for net, row in printed.iterrows()
        for quantity, value in row.items()
    ]
    return pd.DataFrame(rows, columns=["net", "condition", "value", "corrected"])


def comparable(figures: pd.DataFrame, params: Params) -> pd.DataFrame:
    """The published values that can be compared with ours.

    There are none on a data set other than CIFAR-10, and no means unless params.yaml covers their corruptions or
    perturbations.
    """
    if published_name(params.data.name) != "cifar10":
        return figures[:0]
    corruptions = set(params.data.averaged_corruptions())
    perturbations = set(params.data.perturbation_names())
    other = []
    if corruptions != set(CORRUPTIONS):
        other += ["mean", "E_corr", "mCE", "rCE"]
    if not corruptions >= set(MAIN_CORRUPTIONS):
        other += ["mCE_15", "rCE_15"]
    if not perturbations >= set(PERTURBATIONS):
        other += ["mFP_official", "mean official"]
    return figures[~figures.condition.isin(other)]
