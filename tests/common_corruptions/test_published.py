"""The published figures against each other: tables 2 and 3 from the released results, and every erratum."""

from pathlib import Path

import pandas as pd
import pytest

from common_corruptions.metrics import mean_corruption_error, relative_corruption_error
from common_corruptions.metrics.baseline import ALEXNET_CLEAN_ERROR, ALEXNET_ERRORS
from common_corruptions.recipes.names import (
    CORRUPTION_GROUPS,
    CORRUPTIONS,
    MAIN_CORRUPTIONS,
    PERTURBATIONS,
    SEVERITIES,
)
from nets.registry import list_nets

FOLDER = Path(__file__).parents[2] / "data" / "published"
BASES = ("resnet20", "resnet32", "resnet44", "resnet56", "densenet40_12", "densenet100_12", "densenet100_24")
NETS = [base + suffix for base in BASES for suffix in ("", "-pp")]


def read(name):
    return pd.read_csv(FOLDER / f"{name}.csv", dtype={"table": str}, keep_default_na=False, na_values=[""])


@pytest.fixture(scope="module")
def table2():
    """Printed error, corruption x net."""
    columns = {net: rows.set_index("corruption")["error"] for net, rows in read("table2").groupby("net")}
    return pd.DataFrame(columns).loc[list(CORRUPTIONS), NETS]


@pytest.fixture(scope="module")
def table2_mean():
    return read("table2-mean").set_index("net")["e_corr"]


@pytest.fixture(scope="module")
def table3():
    return read("table3").set_index("net")


@pytest.fixture(scope="module")
def released():
    """Released error for each net: corruption -> its five severities."""
    errors = {net: {} for net in NETS}
    for (net, corruption), rows in read("released-c").groupby(["net", "corruption"]):
        errors[net][corruption] = rows.sort_values("severity")["error"].tolist()
    return errors


@pytest.fixture(scope="module")
def errata():
    return read("errata").set_index(["table", "net", "quantity"])


def rounds_to(computed, value, digits):
    """Whether `computed`, rounded to so many decimals, is `value`."""
    return abs(computed - value) <= 0.5 * 10**-digits + 1e-9


def mean_error(errors):
    return sum(sum(values) / len(values) for values in errors.values()) / len(errors)


# Completeness


def test_the_tables_are_complete(table2, table2_mean, table3):
    assert len(read("table2")) == len(NETS) * len(CORRUPTIONS) and table2.notna().all(axis=None)
    assert list(table2_mean.index) == NETS and list(table3.index) == ["alexnet", *NETS]
    table4 = read("table4")
    settings = table4[["scale", "alpha"]].drop_duplicates().dropna().to_numpy().tolist()
    assert settings == [[scale, alpha] for scale in (1, 1.5, 2) for alpha in (0.5, 1, 1.5)]
    for _, rows in table4.groupby(["net", "scale", "alpha"], dropna=False):
        assert rows["variance"].tolist() == [0, 0.0001, 0.0005, 0.001, 0.005, 0.01]
    assert len(table4) == 60 and table4["error"].notna().all()
    assert len(read("lenet")) == 16 and len(read("table5")) == 6


def test_the_released_results_are_complete():
    corruption = read("released-c").set_index(["net", "corruption", "severity"])["error"]
    assert corruption.index.is_unique and corruption.between(0, 100).all()
    assert set(corruption.index) == {(n, c, s) for n in NETS for c in CORRUPTIONS for s in SEVERITIES}
    perturbation = read("released-p").set_index(["net", "perturbation", "metric"])["value"]
    metrics = ("flip_probability", "top5_distance", "zipf_distance")
    expected = {(n, p, m) for n in NETS for p in PERTURBATIONS for m in metrics}
    never_released = {("densenet40_12", p, m) for p in PERTURBATIONS for m in metrics[1:]}
    assert perturbation.index.is_unique and set(perturbation.index) == expected - never_released


def test_nets_have_the_names_of_the_registry():
    registered = set(list_nets())
    for file in FOLDER.glob("*.csv"):
        table = read(file.stem)
        if "net" in table:
            names = set(table["net"].dropna().str.removesuffix("-pp"))
            assert names <= registered, file.name


def test_the_released_results_are_the_authors(shared):
    def registry_name(model):
        family, *numbers = model.removesuffix("-pp").split("-")
        return family + "_".join(numbers) + ("-pp" if model.endswith("-pp") else "")

    for kind, value, factor in (("c", "error", 100), ("p", "value", 1)):
        theirs = pd.read_csv(shared / "reference" / f"official-cifar10-{kind}.csv").rename(
            columns={"model": "net"}
        )
        theirs["net"] = theirs["net"].map(registry_name)
        theirs[value] *= factor
        ours = read(f"released-{kind}")
        keys = [column for column in ours if column != value]
        pd.testing.assert_frame_equal(
            ours.sort_values(keys, ignore_index=True),
            theirs.sort_values(keys, ignore_index=True)[ours.columns],
        )


# Tables 2 and 3


def test_table_3_follows_from_table_2(table2, table2_mean, table3, errata):
    """mCE and rCE of all 14 nets to the printed digit, as means of ratios over 19 corruptions."""
    for net in NETS:
        errors, row = table2[net].to_dict(), table3.loc[net]
        assert rounds_to(mean_corruption_error(errors), row["mce"], 0), net
        assert rounds_to(relative_corruption_error(errors, row["e_clean"]), row["rce"], 0), net
        for table, value in (("2", table2_mean[net]), ("3", row["e_corr"])):
            key = (table, net, "e_corr")
            right = float(errata.loc[key, "correct"]) if key in errata.index else value
            assert rounds_to(table2[net].mean(), right, 2), key


def test_tables_2_and_3_follow_from_the_released_results(released, table2, table2_mean, table3, errata):
    """Every cell to the printed digit, except the errata and the listed differences, which are all there is."""
    differences = read("released-differences").set_index(["table", "net", "quantity"])
    for net in NETS:
        errors, row = released[net], table3.loc[net]
        cells = {("2", net, c): (sum(errors[c]) / 5, table2.loc[c, net], 2) for c in CORRUPTIONS} | {
            ("2", net, "e_corr"): (mean_error(errors), table2_mean[net], 2),
            ("3", net, "e_corr"): (mean_error(errors), row["e_corr"], 2),
            ("3", net, "mce"): (mean_corruption_error(errors, corruptions=CORRUPTIONS), row["mce"], 0),
            ("3", net, "rce"): (relative_corruption_error(errors, row["e_clean"]), row["rce"], 0),
        }
        for key, (computed, value, digits) in cells.items():
            if key in errata.index:
                assert not rounds_to(computed, value, digits), f"{key} is no erratum"
                value = float(errata.loc[key, "correct"])
            elif key in differences.index:
                assert value == differences.loc[key, "printed"]
                assert not rounds_to(computed, value, digits), f"{key} does not differ"
                value = differences.loc[key, "released"]
            assert rounds_to(computed, value, digits), key
    assert set(differences.index.get_level_values("net")) == {
        "densenet40_12", "densenet40_12-pp", "densenet100_12-pp", "densenet100_24", "densenet100_24-pp"
    }  # fmt: skip


def test_means_of_ratios_and_not_ratios_of_sums(released):
    """ResNet-20 and ResNet-56: computed as ratios of sums they would be 104.1 and 98.5 (mCE), 149.3 and 144.6 (rCE)."""
    assert mean_corruption_error(released["resnet20"]) == pytest.approx(103.73, abs=0.005)
    assert relative_corruption_error(released["resnet20"], 7.56) == pytest.approx(168.66, abs=0.005)
    assert mean_corruption_error(released["resnet56"]) == pytest.approx(97.33, abs=0.005)
    assert relative_corruption_error(released["resnet56"], 6.64) == pytest.approx(160.92, abs=0.005)


def test_the_main_set_is_another_mean(released):
    ratios = [sum(released["resnet20"][c]) / 5 / ALEXNET_ERRORS[c] for c in MAIN_CORRUPTIONS]
    mce15 = mean_corruption_error(released["resnet20"], corruptions=MAIN_CORRUPTIONS)
    assert mce15 == pytest.approx(100 * sum(ratios) / 15)
    assert abs(mce15 - mean_corruption_error(released["resnet20"])) > 0.5


# Errata and the other tables


def test_the_alexnet_baseline(table3, errata):
    alexnet = read("alexnet").set_index("corruption")["error"]
    assert alexnet.to_dict() == dict(ALEXNET_ERRORS)
    assert table3.loc["alexnet", "e_clean"] == ALEXNET_CLEAN_ERROR
    assert not rounds_to(alexnet.mean(), table3.loc["alexnet", "e_corr"], 2)
    assert rounds_to(alexnet.mean(), float(errata.loc[("3", "alexnet", "e_corr"), "correct"]), 2)


def test_errata_quote_what_is_printed(table2_mean, table3, errata):
    for (table, net, quantity), row in errata.iterrows():
        if quantity == "e_corr":
            value = table2_mean[net] if table == "2" else table3.loc[net, "e_corr"]
            assert float(row["printed"]) == value


def test_table_5_repeats_tables_2_and_3(table2, table3):
    table5 = read("table5")
    for row in table5[~table5["train_alpha"]].itertuples():
        assert row.e_clean == table3.loc[row.net, "e_clean"]
        assert rounds_to(table2[row.net].mean(), row.e_corr, 2)


def test_erratum_of_table_4(errata):
    table4 = read("table4")
    best = table4.loc[table4[table4["variance"] == 0.0001]["error"].idxmin()]
    assert (best["scale"], best["alpha"]) == (2, 0.5)
    row = errata.loc[("4", "resnet14-pp", "best at variance 0.0001")]
    assert best["error"] == float(row["correct"]) < float(row["printed"])


def test_errata_of_the_text(table2, errata):
    rows = errata.reset_index().set_index("quantity")
    correct, printed = rows["correct"], rows["printed"]
    assert int(correct["test sets"]) == len(CORRUPTIONS) * len(SEVERITIES)
    blurs = list(CORRUPTION_GROUPS["blur"])
    assert int(correct["blurs listed"]) == len(blurs)
    lower = sum(table2.loc[c, f"{base}-pp"] < table2.loc[c, base] for c in blurs for base in BASES)
    assert int(correct["blur errors that push-pull lowers"]) == lower
    assert int(printed["blur errors that push-pull lowers"]) == len(blurs) * len(BASES)
