"""What the aggregate stage makes of whole measurements, and what it says of those at fault."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from common_corruptions.evaluation.answers import perturbation_metrics
from common_corruptions.metrics import classification_error, ordinal_ranks
from stages import aggregate
from stages.files.predictions import Logits, save_frames, save_logits
from stages.files.writing import write_csv
from stages.files.yaml_file import read_yaml
from stages.tables.differences import needed
from tests.stages.aggregated import display, plain, run, write_official, write_params
from tests.stages.yaml_files import write_yaml

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

    def __init__(self, root):
        self.warnings = run(root).splitlines()
        self.folder = root / "metrics" / "tiny"
        (self.table2,) = display(self.folder / "tables" / "table2.md").values()
        self.table2 = self.table2.set_index("corruption").map(plain)
        self.table3 = display(self.folder / "tables" / "table3.md")["Nets"].set_index("net").map(plain)
        self.difference = display(self.folder / "tables" / "difference.md")
        self.summary = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture
def broken(whole, tmp_path):
    """Run the stage after a change to one table of resnet20-pp, or without the file if the change returns None."""

    def invoke(change):
        root = tmp_path / "broken"
        shutil.copytree(whole, root)
        path = root / "metrics" / "tiny" / "corruption" / "resnet20-pp.csv"
        table = change(pd.read_csv(path))
        path.unlink()
        if table is not None:
            write_csv(path, table)
        return Outcome(root)

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
    overview = sound.difference["Overview"].set_index("measure")
    assert overview.loc["error", "nets"] == "resnet20-pp - resnet20"
    rows = tidy.loc["error"].loc[["gaussian_noise", "fog"]]
    assert overview.loc["error", "lower over seeds and images"] == f"{(rows.high < 0).sum()} of 2" == "2 of 2"
    assert overview.loc["error", "higher over images"] == "0 of 2"
    assert overview.loc["error", "mean"] == f"**{row.difference:+.2f}**"
    summary = pd.read_csv(sound.folder / "summary.csv").pivot(index="seed", columns="net", values="E_corr")
    assert row.spread == pytest.approx((summary["resnet20-pp"] - summary["resnet20"]).std(), abs=1e-4)
    assert overview.loc["error", "seeds for 1 point"] == needed(row.spread, row.seeds)
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
    found = broken(lambda table: None)
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
    found = broken(lambda table: table[table.corruption != "fog"])
    assert any("seed 0, missing: corruption fog" in line for line in found.warnings)
    assert found.table2.loc["fog", "resnet20-pp"] == "missing"
    assert found.table2.loc["mean of 2", "resnet20-pp"] == "incomplete"
    assert (
        found.table2.loc["gaussian_noise", "resnet20-pp"] == sound.table2.loc["gaussian_noise", "resnet20-pp"]
    )
    assert found.table3.loc["resnet20-pp", ["E", "mCE"]].tolist() == ["incomplete"] * 2
    assert found.table3.loc["resnet20-pp", "E clean"] == sound.table3.loc["resnet20-pp", "E clean"]
    others_are_as_before(found, sound)


@pytest.mark.parametrize(
    ("values", "faults"),
    [
        (
            {1: "", 2: "inf", 4: "400"},
            ["not a number: corruption fog 1, 2", "out of range: corruption fog 4"],
        ),
        ({3: "forty"}, ["not a number: corruption fog 3"]),
    ],
    ids=["numbers", "word"],
)
def test_a_value_that_is_none(broken, sound, values, faults):
    """By severity; a column of numbers alone is read otherwise than one with a word in it."""

    def change(table):
        table["error"] = table.error.astype(object)
        for severity, value in values.items():
            one = (table.seed == 1) & (table.corruption == "fog") & (table.severity == severity)
            table.loc[one, "error"] = value
        return table

    found = broken(change)
    path = "metrics/tiny/corruption/resnet20-pp.csv"
    of_table = [line for line in found.warnings if path in line]
    assert of_table == [f"Warning: {path}: resnet20-pp: seed 1, {fault}" for fault in faults]
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
    assert "measurements of alexnet, which should normalise them, are at fault" in (
        found.folder / "tables.md"
    ).read_text(encoding="utf-8")


def test_a_baseline_without_any_error_on_a_corruption_normalises_nothing(whole, tmp_path):
    folder = tmp_path / "faultless"
    shutil.copytree(whole, folder)
    path = folder / "metrics" / "tiny" / "corruption" / "alexnet.csv"
    table = pd.read_csv(path)
    table.loc[table.corruption == "fog", "error"] = 0.0
    write_csv(path, table)
    run(folder)
    text = (folder / "metrics" / "tiny" / "tables.md").read_text(encoding="utf-8")
    assert "No mCE and rCE: alexnet, which should normalise them, makes no error on fog." in text
    assert "mCE" not in pd.read_csv(folder / "metrics" / "tiny" / "summary.csv")


def test_a_flip_probability_missing_and_a_history_with_a_gap(whole, tmp_path, sound):
    """Neither is in table 2; of the history there is no best epoch."""
    root = tmp_path / "broken"
    shutil.copytree(whole, root)
    path = root / "metrics" / "tiny" / "perturbation" / "resnet20-pp.csv"
    write_csv(path, pd.read_csv(path).query("metric != 'flip_probability' or seed == 0"))
    path = root / "metrics" / "tiny" / "history" / "resnet20-pp.csv"
    write_csv(path, pd.read_csv(path).query("epoch != 1"))
    found = Outcome(root)
    assert found.table3.loc["resnet20-pp", "mFP"].endswith("(1 of 2 seeds)")
    cells = display(found.folder / "tables" / "perturbations.md")["Flip probability, percent"]
    assert cells["resnet20-pp"].str.endswith("(1 of 2 seeds)").all()
    pd.testing.assert_frame_equal(found.table2, sound.table2)
    assert found.table3.loc["resnet20-pp", "E clean, best epoch (paper protocol)"] == "incomplete"


def test_answers_of_another_run_or_that_cannot_be_read_are_left_out(whole, tmp_path):
    root = tmp_path / "broken"
    shutil.copytree(whole, root)
    folder = root / "predictions" / "tiny" / "corruption"
    shutil.copy(folder / "alexnet.npz", folder / "resnet20-pp.npz")
    path = folder / "alexnet.npz"
    path.write_bytes(path.read_bytes()[:1000])
    found = Outcome(root)
    damaged, another = found.warnings
    assert damaged.startswith("Warning: predictions/tiny/corruption/alexnet.npz: cannot be read, left out (")
    assert another == (
        "Warning: predictions/tiny/corruption/resnet20-pp.npz: not the answers behind the measurements, left out"
    )
    assert set(found.difference["Error, resnet20-pp - resnet20"].difference) == {"missing"}
    assert "missing" not in set(found.difference["Flip probability, resnet20-pp - resnet20"].difference)
    assert not (found.folder / "tables" / "confusion" / "resnet20-pp.csv").exists()


@pytest.mark.parametrize("content", ["", "net,seed\nresnet20-pp,0\n"])
def test_a_file_that_is_no_table_stops_the_stage_in_one_line(whole, tmp_path, monkeypatch, content):
    root = tmp_path / "broken"
    shutil.copytree(whole, root)
    (root / "metrics" / "tiny" / "corruption" / "resnet20-pp.csv").write_text(content, encoding="utf-8")
    monkeypatch.chdir(root)
    done = CliRunner().invoke(aggregate.main)
    assert done.exit_code == 1 and done.stderr.startswith("Error: metrics/tiny/corruption/resnet20-pp.csv ")
    assert len(done.stderr.splitlines()) == 1


def test_the_authors_weights_stand_beside_ours(whole, tmp_path):
    """Here theirs are the first seed of ours, so every cell is known."""
    root = tmp_path / "authors"
    shutil.copytree(whole, root)
    metrics, predictions = root / "metrics" / "tiny", root / "predictions" / "tiny"
    rows = {"corruption": [], "perturbation": []}
    for ours, theirs in (("resnet20", "resnet-20"), ("resnet20-pp", "resnet-20-pp"), ("alexnet", "mine")):
        for kind in rows:
            table = pd.read_csv(metrics / kind / f"{ours}.csv").query("seed == 0")
            rows[kind].append(table.assign(net=f"{theirs} (authors' weights)"))
            (predictions / "official" / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(predictions / kind / f"{ours}.npz", predictions / "official" / kind / f"{theirs}.npz")
    write_official(metrics, *(pd.concat(tables) for tables in rows.values()))
    assert run(root) == ""
    tables = metrics / "tables"
    parts = display(tables / "table2.md")
    assert "mine (authors' weights)" in parts["All nets"]  # a net that the paper does not have
    assert list(parts["resnet20"].columns[2:]) == [
        "resnet20", "resnet20, authors' weights", "resnet20-pp", "resnet20-pp, authors' weights"
    ]  # fmt: skip
    first = pd.read_csv(metrics / "corruption" / "resnet20.csv").query("seed == 0 and corruption == 'fog'")
    cells = parts["resnet20"].set_index("corruption")
    assert cells.loc["fog", "resnet20, authors' weights"] == f"{first.error.mean():.2f}"
    table3 = display(tables / "table3.md")["Nets"].set_index(["net", "source"])
    assert list(table3.index[:3]) == [
        ("alexnet", "ours"),
        ("resnet20", "ours"),
        ("resnet20", "authors' weights"),
    ]
    assert table3.loc[("resnet20", "authors' weights"), "E clean, best epoch (paper protocol)"] == "–"
    tidy = pd.read_csv(tables / "difference.csv").query("condition == 'fog'").set_index("pushpull")
    theirs = tidy.loc["resnet-20-pp (authors' weights)"]
    assert theirs.seeds == theirs.of == 1
    second = pd.read_csv(metrics / "corruption" / "resnet20-pp.csv").query(
        "seed == 0 and corruption == 'fog'"
    )
    assert theirs.difference == pytest.approx(second.error.mean() - first.error.mean(), abs=1e-4)
    calibration = pd.read_csv(tables / "calibration.csv").set_index(["net", "set", "source"])
    assert calibration.loc[("resnet20-pp", "fog", "authors' weights"), "seeds"] == 1


def test_without_any_measurement_the_stage_stops_in_one_line(whole, tmp_path, monkeypatch):
    root = tmp_path / "broken"
    shutil.copytree(whole, root)
    shutil.rmtree(root / "metrics" / "tiny" / "corruption")
    monkeypatch.chdir(root)
    done = CliRunner().invoke(aggregate.main)
    assert done.exit_code == 1
    assert done.stderr == "Error: no measurements in metrics/tiny/corruption; `dvc repro` makes them\n"


def test_without_perturbations_the_rest_is_there(whole, tmp_path, sound):
    root = tmp_path / "broken"
    shutil.copytree(whole, root)
    shutil.rmtree(root / "metrics" / "tiny" / "perturbation")
    shutil.rmtree(root / "predictions" / "tiny" / "perturbation")
    found = Outcome(root)
    assert sum("/perturbation/" in line for line in found.warnings) == len(found.warnings) == 6
    assert "mFP" not in found.table3
    parts = display(found.folder / "tables" / "perturbations.md")
    assert set(parts["Flip probability, percent"][list(NETS)].to_numpy().ravel()) == {"missing"}
    pd.testing.assert_frame_equal(found.table2, sound.table2)


def test_the_best_epoch_is_of_all_test_images(whole, tmp_path, sound):
    """So are the curves; where the first ones alone are corrupted, the rest of the table is of those."""
    root = tmp_path / "part"
    shutil.copytree(whole, root)
    params = read_yaml(root / "params.yaml")
    params["data"]["corrupted_images"] = 60
    write_yaml(root / "params.yaml", params)
    found = Outcome(root)
    heading = "E clean, best epoch (paper protocol)"
    assert f"{heading}, of all test images" in found.table3 and heading in sound.table3
    paired = display(found.folder / "tables" / "table3.md")["Push-pull minus baseline, paired by seed"]
    assert f"{heading}, of all test images" in paired
    note = (found.folder / "tables" / "table3.md").read_text(encoding="utf-8").split("\n\n")[1]
    assert "Data set: tiny, the first 60 test images." in note
