"""The aggregate stage: the paper's tables from the authors' figures, and what it says of measurements at fault."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from robustness.benchmark import perturbation_metrics
from robustness.metrics import classification_error, ordinal_ranks
from robustness.names import CORRUPTIONS, NOISE_PERTURBATIONS
from stages import aggregate, paper
from stages.predictions import Logits, save_frames, save_logits
from stages.tables import write_csv
from tests.conftest import ROOT

PUBLISHED = ROOT / "data" / "published"


def run(folder, pictures=False):
    """Run the stage in a folder, without MLflow and, unless wanted, pictures; what it printed on stderr."""
    shutil.copytree(PUBLISHED, folder / "data" / "published", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(aggregate, "mirror", lambda *arguments: None)
        if not pictures:
            patch.setattr(aggregate, "error_bars", lambda *arguments: None)
        done = CliRunner().invoke(aggregate.main)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stderr


def write_params(folder, **sections):
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    del raw["paper"]
    for name, section in sections.items():
        raw[name] = section if name == "nets" else raw[name] | section
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def write_official(folder, corruption=(), perturbation=()):
    columns = ["net", "seed", "corruption", "severity", "error"]
    write_csv(folder / "official" / "corruption.csv", pd.DataFrame(corruption, columns=columns))
    columns = ["net", "seed", "perturbation", "protocol", "metric", "value"]
    write_csv(folder / "official" / "perturbation.csv", pd.DataFrame(perturbation, columns=columns))


def display(path):
    """Heading -> table of cells, of a Markdown file; the heading is empty before the first one of level 2."""
    parts, heading = {}, ""
    for line in path.read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("| "):
            parts.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return {heading: pd.DataFrame(rows, columns=head) for heading, (head, *rows) in parts.items()}


def plain(cell):
    return cell.replace("*", "")


# The paper


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
    assert set(display(folder / "difference.md")["Error"].iloc[:, 1]) <= {"missing", ""}


def test_every_table_says_what_it_shows(released):
    _, folder = released
    assert sorted(path.stem for path in folder.glob("*.md")) == [
        "calibration", "difference", "perturbations", "table2", "table3",
    ]  # fmt: skip
    for path in folder.glob("*.md"):
        note = path.read_text().split("\n\n")[1]
        assert "Data set: cifar10" in note and "1 seed (0)" in note
        assert "Measured after the last epoch, 2." in note
        assert "perturbed sets: the published ones" in note
        assert "normalised by the paper's AlexNet (appendix 2)" in note
        assert path.with_suffix(".csv").exists()
        tex = path.with_suffix(".tex").read_text()
        assert "Data set: cifar10" in tex and tex.count("{") == tex.count("}")
        for body in tex.split("\\toprule\n")[1:]:
            lines = [line for line in body.split("\\bottomrule")[0].splitlines() if line.endswith(r"\\")]
            assert len({line.replace(r"\&", "").count("&") for line in lines}) == 1


# Measurements at fault


NETS = ("alexnet", "resnet20", "resnet20-pp")
SETS = [("clean", 0), *((name, s) for name in ("gaussian_noise", "fog") for s in range(1, 6))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with results of three nets and two seeds as the evaluation stages leave them, on two corruptions."""
    root = tmp_path_factory.mktemp("whole")
    write_params(
        root,
        data={"name": "tiny", "corruptions": ["gaussian_noise", "fog"], "perturbations": ["translate"]},
        train={"epochs": 2, "milestones": [1], "seeds": [0, 1]},
        nets={
            net: {"block": "pushpull" if net.endswith("-pp") else "conv", "arch": net.removesuffix("-pp")}
            for net in NETS
        },
    )
    metrics, predictions = root / "metrics" / "tiny", root / "predictions" / "tiny"
    labels = np.arange(60, dtype=np.uint8) % 6
    random = np.random.default_rng(0)
    for skill, net in zip((1.0, 1.5, 2.5), NETS, strict=True):
        by_seed = {
            seed: (random.normal(size=(len(SETS), 60, 6)) + skill * np.eye(6)[labels]).astype(np.float32)
            for seed in (0, 1)
        }
        rows = [
            (net, seed, name, severity, classification_error(logits[i], labels))
            for seed, logits in by_seed.items()
            for i, (name, severity) in enumerate(SETS)
        ]
        columns = ["net", "seed", "corruption", "severity", "error"]
        write_csv(metrics / "corruption" / f"{net}.csv", pd.DataFrame(rows, columns=columns))
        save_logits(predictions / "corruption" / f"{net}.npz", Logits(labels, SETS, by_seed))
        ranks = {seed: ordinal_ranks(random.normal(size=(20, 16, 6))) for seed in (0, 1)}
        rows = [
            (net, seed, *row) for seed in (0, 1) for row in perturbation_metrics("translate", ranks[seed])
        ]
        columns = ["net", "seed", "perturbation", "protocol", "metric", "value"]
        write_csv(metrics / "perturbation" / f"{net}.csv", pd.DataFrame(rows, columns=columns))
        frames = {seed: {"translate": ranks[seed].argmin(2)} for seed in (0, 1)}
        save_frames(predictions / "perturbation" / f"{net}.npz", frames)
        rows = [(net, seed, epoch, 0.1, 30.0 / epoch) for seed in (0, 1) for epoch in (1, 2)]
        columns = ["net", "seed", "epoch", "lr", "test_error"]
        write_csv(metrics / "history" / f"{net}.csv", pd.DataFrame(rows, columns=columns))
    write_official(metrics)
    return root


class Outcome:
    """What the stage made of a folder: warnings, and cells by table."""

    def __init__(self, root, pictures=False):
        self.warnings = run(root, pictures).splitlines()
        self.folder = root / "metrics" / "tiny"
        (self.table2,) = display(self.folder / "tables" / "table2.md").values()
        self.table2 = self.table2.set_index("corruption").map(plain)
        self.table3 = display(self.folder / "tables" / "table3.md")["Nets"].set_index("net").map(plain)
        self.difference = display(self.folder / "tables" / "difference.md")["Error"].set_index("corruption")
        self.summary = json.loads((self.folder / "summary.json").read_text())


@pytest.fixture
def broken(whole, tmp_path):
    """Run the stage after a change to one table of resnet20-pp, or without the file if the change returns None."""

    def invoke(change, kind="corruption", pictures=False):
        root = tmp_path / "broken"
        shutil.copytree(whole, root)
        path = root / "metrics" / "tiny" / kind / "resnet20-pp.csv"
        table = change(pd.read_csv(path))
        path.unlink()
        if table is not None:
            write_csv(path, table)
        return Outcome(root, pictures)

    return invoke


@pytest.fixture(scope="module")
def sound(whole, tmp_path_factory):
    root = tmp_path_factory.mktemp("sound") / "copy"
    shutil.copytree(whole, root)
    return Outcome(root)


def others_are_as_before(found, sound):
    """Everything of the nets and corruptions that are not at fault."""
    for net in ("alexnet", "resnet20"):
        pd.testing.assert_series_equal(found.table2[net], sound.table2[net])
        pd.testing.assert_series_equal(found.table3.loc[net], sound.table3.loc[net])
        assert found.summary[net] == sound.summary[net]


def test_of_whole_measurements_nothing_is_said(sound):
    assert sound.warnings == []
    assert not sound.table2.isin(["missing", "incomplete"]).any(axis=None)
    rows = pd.read_csv(sound.folder / "corruption.csv").query("net == 'resnet20-pp' and corruption == 'fog'")
    by_seed = rows.groupby("seed").error.mean()
    assert sound.table2.loc["fog", "resnet20-pp"] == f"{by_seed.mean():.2f} ± {by_seed.std():.2f}"
    tidy = pd.read_csv(sound.folder / "tables" / "difference.csv").set_index(["measure", "condition"])
    paired = pd.read_csv(sound.folder / "summary.csv").groupby("net").E_corr.mean()
    row = tidy.loc[("error", "mean")]
    assert row.difference == pytest.approx(paired["resnet20-pp"] - paired["resnet20"], abs=1e-4)
    assert row.low < row.low_images < row.difference < row.high_images < row.high
    flips = pd.read_csv(sound.folder / "summary.csv").groupby("net").mFP.mean()
    expected = flips["resnet20-pp"] - flips["resnet20"]
    assert tidy.loc[("flip_probability", "mean")].difference == pytest.approx(expected, abs=1e-4)


def test_confusion_adds_up_to_the_error(sound):
    for net in NETS:
        counts = pd.read_csv(sound.folder / "tables" / "confusion" / f"{net}.csv")
        wrong = counts[counts.label != counts.predicted].groupby("set")["count"].sum()
        share = 100 * wrong / counts.groupby("set")["count"].sum()
        assert share["clean"] == pytest.approx(sound.summary[net]["E_clean"], abs=1e-3)
        assert share["corrupted"] == pytest.approx(sound.summary[net]["E_corr"], abs=1e-3)


def test_a_net_missing(broken, sound):
    found = broken(lambda table: None, pictures=True)
    assert [line for line in found.warnings if "/corruption/" in line] == [
        "Warning: metrics/tiny/corruption/resnet20-pp.csv: no measurements of resnet20-pp; `dvc repro` makes them"
    ]
    assert set(found.table2["resnet20-pp"]) == {"missing"}
    row = found.table3.loc["resnet20-pp"]
    assert row["E clean"] == row["E"] == row["mCE"] == "missing"
    assert row["mFP"] == sound.table3.loc["resnet20-pp", "mFP"]
    assert set(found.summary["resnet20-pp"]) == {"mFP", "mFP_official", "E_best"}
    others_are_as_before(found, sound)


def test_a_seed_missing(broken, sound):
    found = broken(lambda table: table[table.seed == 0])
    assert (
        "Warning: metrics/tiny/corruption/resnet20-pp.csv: resnet20-pp: seed 1 is missing" in found.warnings
    )
    assert found.table2["resnet20-pp"].str.endswith("(1 of 2 seeds)").iloc[:-1].all()
    assert found.table3.loc["resnet20-pp", "E"].endswith("(1 of 2 seeds)")
    assert "E_corr" not in found.summary["resnet20-pp"]
    others_are_as_before(found, sound)


def test_a_corruption_missing(broken, sound):
    found = broken(lambda table: table[table.corruption != "fog"], pictures=True)
    assert any("seed 0, missing: corruption fog" in line for line in found.warnings)
    assert found.table2.loc["fog", "resnet20-pp"] == "missing"
    assert found.table2.loc["mean of 2", "resnet20-pp"] == "incomplete"
    assert (
        found.table2.loc["gaussian_noise", "resnet20-pp"] == sound.table2.loc["gaussian_noise", "resnet20-pp"]
    )
    assert found.table3.loc["resnet20-pp", ["E", "mCE", "mCE, main 15"]].tolist() == ["incomplete"] * 3
    assert found.table3.loc["resnet20-pp", "E clean"] == sound.table3.loc["resnet20-pp", "E clean"]
    others_are_as_before(found, sound)


@pytest.mark.parametrize(
    ("value", "fault"),
    [("", "not a number"), ("inf", "not a number"), ("forty", "not a number"), ("400", "out of range")],
)
def test_a_value_that_is_none(broken, sound, value, fault):
    def change(table):
        table["error"] = table.error.astype(object)
        table.loc[(table.seed == 1) & (table.corruption == "fog") & (table.severity == 3), "error"] = value
        return table

    found = broken(change)
    assert any(f"seed 1, {fault}: corruption fog 3" in line for line in found.warnings), found.warnings
    assert found.table2.loc["fog", "resnet20-pp"].endswith("(1 of 2 seeds)")
    assert "± " not in found.table2.loc["fog", "resnet20-pp"]
    left = pd.read_csv(found.folder / "corruption.csv").query("net == 'resnet20-pp' and corruption == 'fog'")
    assert set(left.seed) == {0}  # no mean over four severities can be made of the file
    others_are_as_before(found, sound)


def test_a_measurement_twice_with_other_values(broken, sound):
    def change(table):
        again = table[(table.corruption == "fog") & (table.severity == 2)]
        return pd.concat([table, again.assign(error=again.error / 2)])

    found = broken(change)
    assert any("seed 0, twice: corruption fog 2" in line for line in found.warnings)
    assert found.table2.loc["fog", "resnet20-pp"] == "twice"
    others_are_as_before(found, sound)


def test_a_measurement_twice_with_the_same_value_counts_once(broken, sound):
    found = broken(lambda table: pd.concat([table, table.iloc[:3]]))
    assert found.warnings == [
        "Warning: metrics/tiny/corruption/resnet20-pp.csv: resnet20-pp: 3 rows twice with the same value, counted once"
    ]
    pd.testing.assert_frame_equal(found.table2, sound.table2)


def test_a_baseline_at_fault_normalises_nothing(whole, tmp_path):
    root = tmp_path / "broken"
    shutil.copytree(whole, root)
    path = root / "metrics" / "tiny" / "corruption" / "alexnet.csv"
    write_csv(path, pd.read_csv(path).query("corruption != 'fog'"))
    found = Outcome(root)
    assert "mCE" not in found.table3
    assert (
        "measurements of alexnet, which should normalise them, are at fault"
        in (found.folder / "tables.md").read_text()
    )


def test_a_flip_probability_missing(broken, sound):
    found = broken(
        lambda table: table[(table.metric != "flip_probability") | (table.seed == 0)], "perturbation"
    )
    assert found.table3.loc["resnet20-pp", "mFP"].endswith("(1 of 2 seeds)")
    cells = display(found.folder / "tables" / "perturbations.md")["Flip probability, percent"]
    assert cells["resnet20-pp"].str.endswith("(1 of 2 seeds)").all()
    pd.testing.assert_frame_equal(found.table2, sound.table2)


def test_a_history_with_a_gap_has_no_best_epoch(broken):
    found = broken(lambda table: table[table.epoch != 1], "history")
    assert found.table3.loc["resnet20-pp", "E clean, best epoch (paper protocol)"] == "incomplete"


def test_answers_of_another_run_are_left_out(whole, tmp_path):
    root = tmp_path / "broken"
    shutil.copytree(whole, root)
    folder = root / "predictions" / "tiny" / "corruption"
    shutil.copy(folder / "alexnet.npz", folder / "resnet20-pp.npz")
    found = Outcome(root)
    assert found.warnings == [
        "Warning: predictions/tiny/corruption/resnet20-pp.npz: not the answers behind the measurements, left out"
    ]
    assert set(found.difference["resnet20-pp - resnet20"]) <= {"missing", ""}
    assert not (found.folder / "tables" / "confusion" / "resnet20-pp.csv").exists()


@pytest.mark.parametrize("content", ["", "net,seed\nresnet20-pp,0\n"])
def test_a_file_that_is_no_table_stops_the_stage_in_one_line(whole, tmp_path, monkeypatch, content):
    root = tmp_path / "broken"
    shutil.copytree(whole, root)
    (root / "metrics" / "tiny" / "corruption" / "resnet20-pp.csv").write_text(content)
    monkeypatch.chdir(root)
    done = CliRunner().invoke(aggregate.main)
    assert done.exit_code == 1 and done.stderr.startswith("Error: metrics/tiny/corruption/resnet20-pp.csv ")
    assert len(done.stderr.splitlines()) == 1
