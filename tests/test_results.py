"""What docs/results.md says stands in the files it points to."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from common_corruptions.recipes.names import CORRUPTION_GROUPS
from common_corruptions.statistics import seeds_needed
from tests.conftest import ROOT
from tests.test_readme import rows

PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
AUTHORS = ROOT / "metrics" / "cifar10-authors"
JPEG = ROOT / "metrics" / "cifar10-jpeg"
LONG = ROOT / "metrics" / "cifar10-jpeg-200"
LONG_AND_THEIRS = [*(LONG / "tables").glob("*.md"), *(AUTHORS / "tables").glob("*.md")]


def section(name: str) -> str:
    return PAGE.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]


def test_the_table_of_the_authors_nets_is_that_of_the_files():
    measured = rows((AUTHORS / "tables" / "agreement.md").read_text(encoding="utf-8"))
    shown = rows(section("authors table"))
    assert (
        len(shown) == 2 + 3 * 6 + 3 * 3
    )  # E clean, E and mFP of six nets and three pairs, below two headings
    for row in shown:
        assert row in measured, row


def signed(text: str) -> set[str]:
    """The figures of two decimals with a sign."""
    return set(re.findall(r"[+-]\d+\.\d\d", text.replace("−", "-")))


@pytest.mark.parametrize(
    ("name", "files", "least"),
    [
        ("authors", [*(AUTHORS / "tables").glob("*.md"), ROOT / "data" / "published" / "README.md"], 20),
        (
            "trained here",
            [*(JPEG / "tables").glob("*.md"), *(JPEG / "studies").glob("*.md"), *LONG_AND_THEIRS],
            10,
        ),
        ("trained long", LONG_AND_THEIRS, 15),
    ],
)
def test_every_figure_with_a_sign_is_in_the_files(name, files, least):
    known = set().union(*(signed(path.read_text(encoding="utf-8")) for path in files))
    figures = signed(section(name))
    assert len(figures) >= least
    assert figures <= known, figures - known


def test_what_the_long_training_tells_from_nothing_is_named():
    """With the sign that the page gives it, and how many others there are."""
    table = pd.read_csv(LONG / "tables" / "difference.csv")
    heading, *measured = rows((LONG / "tables" / "table3.md").read_text(encoding="utf-8"))
    columns, *shown = rows(section("long table"))
    nets = [one for one in measured if one[0] in ("resnet20", "resnet20-pp")]
    assert shown == [[one[heading.index(column)] for column in columns] for one in nets]
    errors = table[(table.measure == "error") & ~table.condition.isin(["clean", "mean"])]
    assert set(errors[errors.high_images < 0].condition) == {*CORRUPTION_GROUPS["noise"], "fog", "pixelate"}
    assert set(errors[errors.low_images > 0].condition) == {"zoom_blur", "gaussian_blur"}
    assert len(errors) == 19
    flips = table[(table.measure == "flip_probability") & (table.condition != "mean")]
    assert set(flips[flips.high_images < 0].condition) == {"gaussian_noise", "shot_noise", "speckle_noise"}
    assert set(flips[flips.low_images > 0].condition) == {"brightness", "translate", "scale", "rotate"}


def test_the_table_of_the_nets_trained_here_is_that_of_the_files():
    heading, *measured = rows((JPEG / "tables" / "table3.md").read_text(encoding="utf-8"))
    columns, *shown = rows(section("trained table"))
    assert [row[0] for row in shown] == ["alexnet", "resnet20", "resnet20-pp", "resnet56", "resnet56-pp"]
    for row in shown:
        (whole,) = (one for one in measured if one[0] == row[0])
        assert row == [whole[heading.index(column)] for column in columns]


def test_so_many_seeds_are_needed():
    """Going by the spread, and by the ends of its interval (of the variance of normal values, chi-squared)."""
    table = pd.read_csv(JPEG / "tables" / "difference.csv")
    (row,) = table.query("measure == 'error' and condition == 'mean' and baseline == 'resnet20'").itertuples()
    told = re.search(
        r"over these seeds, (\d\.\d\d) points, it takes (\d+) seeds .* 95 % interval of (\d\.\d\d) to (\d\.\d\d) "
        r"points, so anything from (\d+) to (\d+) seeds",
        " ".join(PAGE.split()),
    ).groups()
    low, high = row.spread * np.sqrt((row.seeds - 1) / chi2.ppf([0.975, 0.025], row.seeds - 1))
    spreads = (row.spread, low, high)
    assert [float(told[i]) for i in (0, 2, 3)] == [round(value, 2) for value in spreads]
    assert [int(told[i]) for i in (1, 4, 5)] == [seeds_needed(value, 1.0) for value in spreads]


def test_the_largest_gains_are_named_in_their_order():
    table = pd.read_csv(JPEG / "tables" / "difference.csv").query(
        "measure == 'error' and baseline == 'resnet20'"
    )
    corruptions = table[~table.condition.isin(["clean", "mean"])].sort_values("difference")
    told = [f"({value:.2f}" for value in corruptions.difference[:6]]
    line = PAGE[PAGE.index("- The largest gains") : PAGE.index("- mCE normalises")]
    assert re.findall(r"\(-\d\.\d\d", line) == told
    sure = corruptions[(corruptions.high < 0) | (corruptions.low > 0)]
    assert list(sure.condition) == ["impulse_noise"] and len(corruptions) == 19


def test_the_deeper_net_gains_on_fog_alone():
    table = pd.read_csv(JPEG / "tables" / "difference.csv")
    errors = table.query(
        "measure == 'error' and baseline == 'resnet56' and condition not in ('clean', 'mean')"
    )
    assert list(errors[errors.high_images < 0].condition) == ["fog"] and len(errors) == 19
    noise = errors[errors.condition.isin(CORRUPTION_GROUPS["noise"])]
    assert len(noise) == 4 and (noise.low_images > 0).all()
    assert list(errors.sort_values("difference").condition[-2:]) == ["pixelate", "glass_blur"]


def test_every_net_errs_as_published():
    """E within 0.8 standard errors of the sample, as the page says, and the sign of every pair."""
    table = pd.read_csv(AUTHORS / "tables" / "agreement.csv").query(
        "measure == 'error' and condition == 'mean'"
    )
    nets, pairs = table[table.pushpull.isna()], table[table.pushpull.notna()]
    assert len(nets) == 6 and len(pairs) == 3
    assert (table.images == 509).all()
    assert nets.in_errors.abs().max() < 0.85
    assert ((pairs.measured < 0) == (pairs.published < 0)).all()


def test_every_net_flips_as_published():
    """mFP within 1.4 standard errors of the sample, as the page says, and the flips of single perturbations."""
    table = pd.read_csv(AUTHORS / "tables" / "agreement.csv").query("measure == 'flip_probability'")
    nets = table[table.pushpull.isna()]
    means, single = nets[nets.condition == "mean"], nets[nets.condition != "mean"]
    assert len(means) == 6 and len(single) == 84
    assert means.in_errors.abs().max() < 1.4 and round(means.difference.abs().max(), 2) == 0.36
    (far,) = single[single.in_errors.abs() > 2].itertuples()
    assert far.net.startswith("resnet-20-pp ") and far.condition == "zoom_blur"
    pairs = table[table.pushpull.notna() & (table.condition == "mean")]
    sure = pairs[(pairs.high_images < 0) | (pairs.low_images > 0)]
    assert [name.split(" ")[0] for name in sure.baseline] == ["resnet-44"] and (sure.measured < 0).all()


def test_the_gain_is_on_noise():
    table = (
        pd.read_csv(AUTHORS / "tables" / "agreement.csv")
        .query("measure == 'error'")
        .dropna(subset="pushpull")
    )
    noise = table[table.condition.isin(CORRUPTION_GROUPS["noise"])]
    assert len(noise) == 12 and (noise.high_images < 0).all()
    others = table[~table.condition.isin([*CORRUPTION_GROUPS["noise"], "clean", "mean"])]
    signs = others.groupby("baseline").measured.mean() > 0
    assert {net.split(" ")[0]: loses for net, loses in signs.items()} == {
        "resnet-20": True, "densenet-40-12": True, "resnet-44": False,
    }  # fmt: skip
    assert (table[table.condition == "clean"].eval("measured > 0 and low_images < 0 < high_images")).all()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!https?:)[^)#]+)\)", PAGE))))
def test_links_lead_to_files(path):
    assert (ROOT / "docs" / path).exists()
