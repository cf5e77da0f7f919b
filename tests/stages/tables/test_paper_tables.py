"""The aggregate stage fed with the authors' released results: the paper's tables."""

import pandas as pd
import pytest

from common_corruptions.recipes.names import CORRUPTIONS, NOISE_PERTURBATIONS
from stages.files.writing import write_csv
from stages.tables import paper
from tests.stages.aggregated import PUBLISHED, display, plain, run, write_official, write_params


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The tables that the stage makes of the authors' released results in place of our measurements."""
    root = tmp_path_factory.mktemp("released")
    nets = {"alexnet": {"block": "conv", "arch": "alexnet"}}
    for net in paper.NETS:
        block = "pushpull" if net.endswith("-pp") else "conv"
        nets[net] = {"block": block, "arch": net.removesuffix("-pp")}
    write_params(
        root,
        data={"name": "cifar10", "corrupted": "download"},
        train={"epochs": 2, "milestones": [1], "seeds": [0]},
        nets=nets,
    )
    folder = root / "metrics" / "cifar10"
    errors = pd.read_csv(PUBLISHED / "released-c.csv")
    alexnet = pd.read_csv(PUBLISHED / "alexnet.csv").assign(net="alexnet")
    errors = pd.concat([errors, *(alexnet.assign(severity=s) for s in range(1, 6))])
    clean = pd.read_csv(PUBLISHED / "table3.csv").rename(columns={"e_clean": "error"})
    errors = pd.concat([errors, clean.assign(corruption="clean", severity=0)]).assign(seed=0)
    flips = pd.read_csv(PUBLISHED / "released-p.csv").assign(seed=0, protocol="official")
    ordered = flips[~flips.perturbation.isin(NOISE_PERTURBATIONS)].assign(protocol="hendrycks")
    flips = pd.concat([flips, ordered])
    for net in nets:
        columns = ["net", "seed", "corruption", "severity", "error"]
        write_csv(folder / "corruption" / f"{net}.csv", errors.loc[errors.net == net, columns])
        columns = ["net", "seed", "perturbation", "protocol", "metric", "value"]
        if net != "alexnet":
            write_csv(folder / "perturbation" / f"{net}.csv", flips.loc[flips.net == net, columns])
        error = clean.set_index("net").error[net]
        history = pd.DataFrame(
            {"net": net, "seed": 0, "epoch": [1, 2], "lr": 0.1, "test_error": [error, error + 1]}
        )
        write_csv(folder / "history" / f"{net}.csv", history)
    write_official(folder)
    return run(root), folder / "tables"


def test_released_results_give_the_tables_of_the_paper(released):
    """Tables 2 and 3 to the printed digit for the eight ResNets and DenseNet-100-12, errata excepted."""
    _, folder = released
    exact = [net for net in paper.NETS if net.startswith("resnet")] + ["densenet100_12"]
    assert len(exact) == 9
    errata = pd.read_csv(PUBLISHED / "errata.csv").set_index(["table", "net", "quantity"]).correct
    printed = pd.read_csv(PUBLISHED / "table2.csv").set_index(["net", "corruption"]).error
    table2 = display(folder / "table2.md")
    everyone = table2["All nets"].set_index("corruption")
    assert list(everyone.index) == ["clean", *CORRUPTIONS, "mean of 19"]
    assert list(everyone.columns) == ["group", "alexnet", *paper.NETS]
    means = pd.read_csv(PUBLISHED / "table2-mean.csv").set_index("net").e_corr
    for net in exact:
        part = table2[net.removesuffix("-pp")].set_index("corruption")
        expected = {c: f"{printed[net, c]:.2f}" for c in CORRUPTIONS}
        for corruption, value in expected.items():
            assert plain(everyone.loc[corruption, net]) == value, (net, corruption)
            assert plain(part.loc[corruption, net]) == value
            assert part.loc[corruption, f"{net}, published"] == value
            assert part.loc[corruption, f"{net}, ours - published"] == "+0.00"
        right = f"{float(errata.get(('2', net, 'e_corr'), means[net])):.2f}"
        dagger = "†" if ("2", net, "e_corr") in errata.index else ""
        assert plain(everyone.loc["mean of 19", net]) == right
        assert part.loc["mean of 19", f"{net}, published"] == right + dagger
    table3 = display(folder / "table3.md")["Nets"].set_index(["net", "source"])
    for net, row in pd.read_csv(PUBLISHED / "table3.csv").set_index("net").iterrows():
        if net not in exact and net != "alexnet":
            continue
        ours, theirs = table3.loc[(net, "ours")], table3.loc[(net, "published")]
        e_corr = errata.get(("3", net, "e_corr"))
        right = f"{float(e_corr or row.e_corr):.2f}"
        assert ours["E clean"] == theirs["E clean"] == f"{row.e_clean:.2f}"
        assert ours["E clean, best epoch (paper protocol)"] == f"{row.e_clean:.2f}"
        assert ours["E"] == right and theirs["E"] == right + ("†" if e_corr else ""), net
        for quantity in ("mce", "rce"):
            heading = quantity[0] + quantity[1:].upper()
            assert f"{float(ours[heading]):.0f}" == theirs[heading] == f"{row[quantity]:.0f}", (net, quantity)
            difference = float(table3.loc[(net, "ours - published")][heading])
            assert abs(difference) <= 0.505


def test_the_other_five_nets_differ_from_the_paper_as_listed(released):
    _, folder = released
    listed = pd.read_csv(PUBLISHED / "released-differences.csv", dtype={"table": str})
    listed = listed[(listed.table == "2") & (listed.quantity != "e_corr")]
    cells = pd.read_csv(folder / "table2.csv").set_index(["net", "corruption", "source"]).error
    for row in listed.itertuples():
        difference = cells[row.net, row.quantity, "ours - published"]
        assert difference == pytest.approx(row.released - row.printed, abs=0.0051), (row.net, row.quantity)
        assert abs(difference) > 0.005


def test_the_best_net_of_each_architecture_is_bold(released):
    _, folder = released
    table = display(folder / "table2.md")["All nets"].set_index("corruption")
    for arch in ("resnet20", "densenet100_24"):
        for corruption in CORRUPTIONS:
            cells = [table.loc[corruption, net] for net in (arch, f"{arch}-pp")]
            values = [float(plain(cell)) for cell in cells]
            assert [cell.startswith("**") for cell in cells] == [value == min(values) for value in values]
    assert not table.alexnet.str.contains("*", regex=False).any()


def test_released_flips_stand_beside_the_same_and_the_gaps_are_named(released):
    warnings, folder = released
    parts = display(folder / "perturbations.md")
    table = parts["Flip probability, percent, resnet20"].set_index(["perturbation", "frame compared with"])
    assert table.loc[("gaussian_noise", "first"), "resnet20"] == "missing"  # the authors released none
    assert table.loc[("mean of 14", "as above"), "resnet20"] == "incomplete"
    official = ("gaussian_noise", "previous (official protocol)")
    assert plain(table.loc[official, "resnet20"]) == table.loc[official, "resnet20, published"] == "8.23"
    assert (table["resnet20, ours - published"] != "–").sum() == 14 + 1  # perturbations and their mean
    assert set(table["resnet20, ours - published"]) == {"–", "+0.00"}
    assert "Warning: metrics/cifar10/perturbation/alexnet.csv: no measurements of alexnet" in warnings
    assert "resnet20-pp: seed 0, missing: perturbation gaussian_noise hendrycks" in warnings
    assert "predictions/cifar10/corruption/resnet20.npz: not there" in warnings
    parts = display(folder / "difference.md")
    assert set(parts["Error, resnet20-pp - resnet20"].difference) == {"missing"}
    assert set(parts["Overview"].filter(like="lower").to_numpy().ravel()) == {"missing"}


def test_every_table_says_what_it_shows(released):
    _, folder = released
    assert sorted(path.stem for path in folder.glob("*.md")) == [
        "calibration", "difference", "perturbations", "table2", "table3",
    ]  # fmt: skip
    for path in folder.glob("*.md"):
        note = path.read_text(encoding="utf-8").split("\n\n")[1]
        assert "Data set: CIFAR-10." in note and "1 seed (0)" in note
        assert "Measured after the last epoch, 2." in note
        assert "perturbed sets: published" in note
        assert "normalised by the paper's AlexNet (appendix 2)" in note
        assert path.with_suffix(".csv").exists()
        tex = path.with_suffix(".tex").read_text(encoding="utf-8")
        assert "Data set: CIFAR-10." in tex and tex.count("{") == tex.count("}")
        for body in tex.split("\\toprule\n")[1:]:
            lines = [line for line in body.split("\\bottomrule")[0].splitlines() if line.endswith(r"\\")]
            assert len({line.replace(r"\&", "").count("&") for line in lines}) == 1
