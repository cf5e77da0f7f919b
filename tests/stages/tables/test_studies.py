"""The tables of the studies, fed with the paper's own figures, and the figures."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common_corruptions.recipes.names import CORRUPTIONS
from common_corruptions.sweeps import SWEEPS
from stages.page import study_figures
from stages.tables.caption import measured_set
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
    return pd.concat([printed.assign(sweep=sweep), other]).assign(seed=0, as_published=True)


def test_table4_tells_the_part_of_cifar10(load):
    cifar = load(data={"name": "cifar10"})
    part = table4(published_table4(), cifar, 509).note
    assert part.startswith("ResNet-14 on CIFAR-10, the first 509 test images, error")
    assert "ResNet-14 on CIFAR-10, error" in table4(published_table4(), cifar, 10000).note


def test_table4_reproduces_the_paper(load):
    table = table4(published_table4(), load(data={"name": "cifar10"}))
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


def test_another_data_set_is_not_compared(load):
    table = table4(published_table4(), load(data={"name": "digits"}))
    assert list(table.display) == ["measured on digits", "published, on CIFAR-10"]
    assert "published_on_cifar10" in table.tidy and "difference" not in table.tidy
    assert "another data set" in table.note


def test_table4_gives_mean_and_spread_over_seeds(load):
    two = pd.concat([published_table4(), published_table4().assign(seed=1).eval("error = error + 2")])
    table = table4(two, load(data={"name": "cifar10"}))
    assert table.display["measured on cifar10"].iloc[0]["σ² 0"] == "5.09 ± 1.41"
    assert table.display["measured minus published"].iloc[0]["σ² 0"] == "+1.00"
    assert set(table.tidy.seeds) == {2}


def published_table5(corruptions=CORRUPTIONS) -> pd.DataFrame:
    """Errors by corruption and severity whose means are the published ones."""
    rows = []
    for net, learned, clean, corrupted in pd.read_csv(PUBLISHED / "table5.csv").itertuples(index=False):
        rows.append((net, learned, 0, "clean", 0, clean))
        for place, name in enumerate(corruptions):
            shift = place - (len(corruptions) - 1) / 2
            rows += [(net, learned, 0, name, s, corrupted + shift * (s - 2)) for s in range(1, 6)]
            rows[-1] = (
                *rows[-1][:5],
                rows[-1][5] - 5 * shift,
            )  # so that shifts cancel out over the corruptions alone
    columns = ["net", "train_alpha", "seed", "corruption", "severity", "error"]
    errors = pd.DataFrame(rows, columns=columns).assign(as_published=True)
    return errors.assign(alpha=errors.net.str.endswith("-pp").map({True: 1.0, False: np.nan}))


def test_table5_is_the_mean_of_the_corruptions(load):
    table = table5(published_table5(), load(data={"name": "cifar10"}))
    assert table.display.iloc[5].tolist() == [
        "resnet56-pp", "learned", "6.48", "26.82", "6.48", "+0.00", "26.82", "+0.00"
    ]  # fmt: skip
    assert table.display["α"].tolist() == ["–", "1", "learned"] * 2
    assert (
        table.note.startswith("On CIFAR-10, errors") and "over 19 corruptions and 5 severities." in table.note
    )
    assert table.tidy.difference.abs().max() < 1e-9
    other = table5(published_table5(), load(data={"name": "digits"}))
    assert list(other.display.columns) == [
        "net", "α", "E clean", "E", "E clean, published on CIFAR-10", "E, published on CIFAR-10"
    ]  # fmt: skip


def test_e_over_other_corruptions_is_not_compared(load):
    data = {"name": "cifar10", "corruptions": ["fog", "snow"], "corrupted_images": 2000}
    table = table5(published_table5(["fog", "snow"]), load(data=data))
    assert list(table.display.columns) == [
        "net", "α", "E clean", "E", "E clean, published", "E clean, difference", "E, published, over 19"
    ]  # fmt: skip
    assert "the mean over 2 corruptions and 5 severities, the published one over 19, so that no" in table.note
    assert table.note.startswith("On CIFAR-10, the first 2000 test images, errors")
    assert table.tidy[table.tidy.quantity == "e_corr"].difference.isna().all()
    assert table.tidy[table.tidy.quantity == "e_clean"].difference.notna().all()


def test_a_part_of_any_set_is_called_one(load):
    for name, full in (
        ("digits", "digits"),
        ("cifar10-jpeg", "cifar10-jpeg (a lossy JPEG copy of CIFAR-10)"),
    ):
        part = load(data={"name": name, "corrupted_images": 200}).data
        assert measured_set(part) == measured_set(part, 200) == f"{full}, the first 200 test images"
        assert measured_set(load(data={"name": name}).data, 360) == full
        assert measured_set(part, 150) == full  # there were no more
    assert measured_set(load(data={"name": "cifar10"}).data, 509) == "CIFAR-10, the first 509 test images"


def test_no_published_figure_is_of_another_net(load):
    """Such as one with push-pull layers throughout, or one trained on augmented images."""
    cifar, mnist = load(data={"name": "cifar10"}), load(data={"name": "mnist"})
    errors = published_table5()
    strong = errors.alpha.where(errors.net != "resnet20-pp", 2.0)
    table = table5(errors.assign(as_published=errors.net != "resnet20-pp", alpha=strong), cifar)
    assert table.display["α"].tolist() == ["–", "2", "learned", "–", "1", "learned"]
    own = table.display[table.display.net == "resnet20-pp"].iloc[:, 4:]
    assert set(own.to_numpy().ravel()) == {"–"} and len(own) == 2
    assert not table.display[table.display.net != "resnet20-pp"].isin(["–"]).iloc[:, 4:].any(axis=None)
    errors = published_table4()
    grids = table4(errors.assign(as_published=errors.alpha != 1.5), cifar).display
    for heading in ("published, on CIFAR-10", "measured minus published"):
        cells = grids[heading].set_index("α")
        assert (cells.loc["1.5"].iloc[:, 1:] == "–").all(axis=None)
        assert not (cells.loc[["1", "0.5"]] == "–").any(axis=None)
    assert list(table4(errors.assign(as_published=False), cifar).display) == ["measured on cifar10"]
    rows = lenets()
    shown = table1(rows.assign(as_published=rows.net != "lenet_a-pp"), mnist).display["configurations"]
    own = shown.set_index("model").loc["PA"]
    assert own.filter(regex="published|difference").tolist() == ["–"] * 4
    assert "–" not in own[["clean", "σ² 0.2"]].tolist()
    assert "–" not in shown.set_index("model").loc["PB"].tolist()


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
    return pd.DataFrame(rows, columns=["net", "seed", "sweep", "level", "error"]).assign(as_published=True)


def test_table1_reproduces_the_paper(load):
    table = table1(lenets(), load(data={"name": "mnist"}))
    configurations, noise, contrast = table.display.values()
    assert configurations.model.tolist() == ["A", "B", "C", "D", "PA", "PB", "PC", "PD"]
    assert configurations.iloc[5].tolist() == [
        "PB", "6 (pp)", "8 (c)", "64, 32, 10", "98.78", "98.78", "+0.00", "87.20", "87.20", "+0.00"
    ]  # fmt: skip
    assert noise.iloc[0].tolist() == ["A", "98.93", "99.00", "90.00", "86.50", "70.00", "50.00"]
    assert contrast.iloc[7].tolist() == ["PD", "98.84", "50.00", "60.00", "70.00", "80.00"]
    other = table1(lenets(), load(data={"name": "digits"}))
    assert not any("difference" in column for column in other.display["configurations"])
    assert "published on MNIST" in " ".join(other.display["configurations"])


def test_figures_are_the_same_for_the_same_numbers_and_mark_chance(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        study_figures,
        "save",
        lambda figure, path, to=study_figures.save: drawn.append(figure) or to(figure, path),
    )
    levels = SWEEPS["poisson_noise"]
    for name in ("one", "two"):
        study_figures.accuracy_bars(
            tmp_path / f"{name}.png",
            accuracies(lenets()),
            "poisson_noise",
            levels,
            names=LENETS,
            classes=5,
            title="t",
            axis="contrast",
        )
    pictures = {path.read_bytes() for path in tmp_path.glob("*.png")}
    assert len(pictures) == 1 and re.match(rb"\x89PNG", pictures.pop())
    assert [list(line.get_ydata()) for line in drawn[0].axes[0].lines if line.get_linestyle() == ":"] == [
        [20, 20]
    ]
