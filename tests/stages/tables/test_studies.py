"""The tables of the studies, fed with the paper's own figures, and the figures."""

import re
from pathlib import Path

import pandas as pd
import pytest

from common_corruptions.sweeps import SWEEPS
from stages.page.study_figures import accuracy_bars
from stages.tables.studies import LENETS, accuracies, table1, table4, table5

PUBLISHED = Path(__file__).parents[3] / "data" / "published"


@pytest.fixture(autouse=True)
def _top(monkeypatch):
    monkeypatch.chdir(PUBLISHED.parents[1])


def published_table4() -> pd.DataFrame:
    """The published errors as if one seed had given them."""
    printed = pd.read_csv(PUBLISHED / "table4.csv").rename(columns={"variance": "level"})
    sweep = printed.level.map(lambda level: "gaussian_noise" if level else "clean")
    other = printed[printed.level == 0].assign(sweep="poisson_noise", level=0.5, error=99.0)
    return pd.concat([printed.assign(sweep=sweep), other]).assign(seed=0)


def test_table4_reproduces_the_paper():
    table = table4(published_table4(), "cifar10")
    measured, printed, difference = table.display.values()
    pd.testing.assert_frame_equal(measured, printed)
    assert list(measured.columns) == [
        "scale",
        "α",
        *(f"σ² {v}" for v in ("0", "0.0001", "0.0005", "0.001", "0.005", "0.01")),
    ]
    assert measured.iloc[0].tolist()[:3] == ["–", "–", "4.09"]
    assert measured.iloc[8].tolist() == ["2", "1", "4.55", "5.97", "10.10", "14.94", "44.56", "63.91"]
    bold = {
        column: measured.loc[measured[column].str.startswith("**"), column].tolist()
        for column in measured.columns[2:]
    }
    # The paper's bold, but for the erratum at variance 0.0001.
    assert list(bold.values()) == [
        ["**3.99**"],
        ["**4.72**"],
        ["**7.98**"],
        ["**11.98**"],
        ["**41.11**"],
        ["**58.86**"],
    ]
    assert set(difference.iloc[:, 2:].to_numpy().ravel()) == {"+0.00"}
    assert (table.tidy.difference == 0).all() and len(table.tidy) == 60


def test_another_data_set_is_not_compared():
    table = table4(published_table4(), "digits")
    assert list(table.display) == ["measured on digits", "published, on CIFAR-10"]
    assert "published_on_cifar10" in table.tidy and "difference" not in table.tidy
    assert "another data set" in table.note


def test_table4_gives_mean_and_spread_over_seeds():
    two = pd.concat([published_table4(), published_table4().assign(seed=1).eval("error = error + 2")])
    table = table4(two, "cifar10")
    assert table.display["measured on cifar10"].iloc[0]["σ² 0"] == "5.09 ± 1.41"
    assert table.display["measured minus published"].iloc[0]["σ² 0"] == "+1.00"
    assert set(table.tidy.seeds) == {2}


def test_table5_is_the_mean_of_the_corruptions():
    rows = []
    for net, learned, clean, corrupted in pd.read_csv(PUBLISHED / "table5.csv").itertuples(index=False):
        rows.append((net, learned, 0, "clean", 0, clean))
        for severity in range(1, 6):
            rows.append((net, learned, 0, "fog", severity, corrupted - 6 + severity))
            rows.append((net, learned, 0, "snow", severity, corrupted + 6 - severity))
    measured = pd.DataFrame(rows, columns=["net", "train_alpha", "seed", "corruption", "severity", "error"])
    table = table5(measured, "cifar10")
    assert table.display.iloc[5].tolist() == [
        "resnet56-pp", "learned", "6.48", "26.82", "6.48", "+0.00", "26.82", "+0.00"
    ]  # fmt: skip
    assert table.display["α"].tolist() == ["–", "1", "learned"] * 2
    assert "2 corruptions" in table.note
    assert table.tidy.difference.abs().max() < 1e-9
    other = table5(measured, "digits")
    assert list(other.display.columns) == [
        "net", "α", "E clean", "E", "E clean, published on CIFAR-10", "E, published on CIFAR-10"
    ]  # fmt: skip


def lenets() -> pd.DataFrame:
    """The published accuracies, and made up ones where none were printed."""
    printed = pd.read_csv(PUBLISHED / "lenet.csv").set_index(["net", "variance"]).accuracy
    rows = []
    for net in LENETS:
        rows.append((net, 0, "clean", 0.0, 100 - printed[net, 0.0]))
        for sweep, levels in SWEEPS.items():
            for level in levels:
                known = sweep == "gaussian_noise" and level == 0.2
                rows.append((net, 0, sweep, level, 100 - printed[net, 0.2] if known else 100 * level))
    return pd.DataFrame(rows, columns=["net", "seed", "sweep", "level", "error"])


def test_table1_reproduces_the_paper():
    table = table1(lenets(), "mnist")
    configurations, noise, contrast = table.display.values()
    assert configurations.model.tolist() == ["A", "B", "C", "D", "PA", "PB", "PC", "PD"]
    assert configurations.iloc[5].tolist() == [
        "PB", "6 (pp)", "8 (c)", "64, 32, 10", "98.78", "98.78", "+0.00", "87.20", "87.20", "+0.00"
    ]  # fmt: skip
    assert noise.iloc[0].tolist() == ["A", "98.93", "99.00", "90.00", "86.50", "70.00", "50.00"]
    assert contrast.iloc[7].tolist() == ["PD", "98.84", "50.00", "60.00", "70.00", "80.00"]
    other = table1(lenets(), "digits")
    assert not any("difference" in column for column in other.display["configurations"])
    assert "published on MNIST" in " ".join(other.display["configurations"])


def test_figures_are_the_same_for_the_same_numbers(tmp_path):
    values = accuracies(lenets())
    for name in ("one", "two"):
        accuracy_bars(
            tmp_path / f"{name}.png",
            values,
            "poisson_noise",
            SWEEPS["poisson_noise"],
            title="t",
            axis="contrast",
        )
    pictures = {path.read_bytes() for path in tmp_path.glob("*.png")}
    assert len(pictures) == 1 and re.match(rb"\x89PNG", pictures.pop())
