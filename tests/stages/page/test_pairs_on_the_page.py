"""What the page says of pairs of nets that differ in seeds, in training or in more than the layer."""

import copy
from pathlib import Path

import pandas as pd
import pytest

from stages import report
from stages.files.params import load_params
from stages.files.yaml_file import read_yaml
from stages.page import paired, sections
from stages.tables.augmentation import augmentation_beside_the_test
from tests.conftest import ROOT
from tests.stages.yaml_files import write_yaml

CONDITIONS = ("clean", "fog", "mean")
COLUMNS = ["pushpull", "baseline", "condition", "difference", "low", "high", "low_images", "high_images"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of these nets, with `summary` as net -> E by seed; errors on clean images are a tenth of it."""
    monkeypatch.chdir(ROOT)  # for the published figures

    def make(nets: dict, summary: dict[str, dict[int, float]], **sections_: dict) -> sections.Study:
        raw = read_yaml(ROOT / "params.yaml")
        raw["nets"] = copy.deepcopy(nets)
        for name, section in sections_.items():
            raw[name] |= section
        write_yaml(tmp_path / "params.yaml", raw)
        params = load_params(tmp_path / "params.yaml")
        rows = [(net, seed, e, e / 10) for net, by_seed in summary.items() for seed, e in by_seed.items()]
        table = pd.DataFrame(rows, columns=["net", "seed", "E_corr", "E_clean"])
        corruption = pd.DataFrame({"net": list(nets), "corruption": "fog"})
        empty = pd.DataFrame(columns=["perturbation"])
        return sections.Study(params, corruption, empty, empty, table, Path())

    return make


def resnet20(block="conv", options=None, **train):
    return {"block": block, "arch": "resnet20", "options": options or {}, "train": train}


def intervals(*couples: tuple[str, str], difference: float = -2.0) -> pd.DataFrame:
    rows = [
        (
            pushpull,
            plain,
            name,
            difference,
            difference - 1,
            difference + 1,
            difference - 0.5,
            difference + 0.5,
        )
        for plain, pushpull in couples
        for name in CONDITIONS
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_the_numbers_of_the_headline_are_of_the_seeds_of_the_pair(study):
    nets = {"resnet20": resnet20(seeds=[0, 1]), "resnet20-pp": resnet20("pushpull", seeds=[1, 2, 3])}
    summary = {"resnet20": {0: 10.0, 1: 20.0}, "resnet20-pp": {1: 18.0, 2: 50.0, 3: 50.0}}
    (row,) = report.headline(study(nets, summary), intervals(("resnet20", "resnet20-pp")))
    assert row["errors"] == [20.0, 18.0] and row["clean"] == [2.0, 1.8]
    assert row["difference"] == row["errors"][1] - row["errors"][0] and row["seeds"] == 1
    assert row["interval"] == (-3.0, -1.0)


def test_an_interval_of_other_seeds_is_left_out(study):
    nets = {"resnet20": resnet20(), "resnet20-pp": resnet20("pushpull")}
    summary = {"resnet20": {0: 10.0, 1: 20.0}, "resnet20-pp": {0: 9.0, 1: 18.0}}
    other = intervals(("resnet20", "resnet20-pp"), difference=-2.0)  # of seed 1 alone, here it is -1.5
    (row,) = report.headline(study(nets, summary), other)
    assert row["difference"] == -1.5 and row["interval"] is row["images"] is None


def test_pairs_with_one_baseline_have_names_of_their_own(study):
    nets = {"resnet20": resnet20(), "a": resnet20("pushpull"), "b": resnet20("pushpull2024")}
    nets |= {"m": resnet20(augment="augmix"), "m-pp": resnet20("pushpull", augment="augmix")}
    rows = report.headline(study(nets, {net: {0: 10.0} for net in nets}), intervals())
    assert [row["name"] for row in rows] == ["resnet20, a", "resnet20, b", "m"]


def test_front_ends_are_told_apart_by_training(study):
    nets = {
        "resnet20": resnet20(),
        "resnet20-pp": resnet20("pushpull"),
        "m": resnet20(augment="augmix"),
        "m-pp": resnet20("pushpull", {"alpha": 2.0}, augment="augmix"),
        "dense": {"block": "conv", "arch": "densenet40_12", "train": {"epochs": 9}},
    }
    of_nets = study(nets, {})
    assert [front for _, front in of_nets.members.values()] == [
        "conv", "pushpull", "conv (augment=augmix)", "pushpull (alpha=2.0, augment=augmix)", "conv"
    ]  # fmt: skip
    colours = sections.colours(of_nets)
    assert len({colours[net] for net in ("resnet20", "resnet20-pp", "m", "m-pp")}) == 4


@pytest.mark.parametrize("changed", ["options", "train"])
def test_published_differences_stand_beside_the_pair_they_are_of(study, changed):
    """Not beside a stronger layer, and not beside nets trained on augmented images."""
    own = {"options": {"alpha": 2.0}} if changed == "options" else {"augment": "augmix"}
    train = {} if changed == "options" else own
    nets = {"resnet20": resnet20(), "resnet20-pp": resnet20("pushpull")}
    nets["other"] = resnet20(**train)
    nets["other-pp"] = resnet20("pushpull", own.get("options"), **train)
    if changed == "options":
        del nets["other"]
    baseline = "resnet20" if changed == "options" else "other"
    of_nets = study(nets, {}, data={"name": "cifar10"})
    rows = intervals(("resnet20", "resnet20-pp"), (baseline, "other-pp"))
    agreement = paired.read_agreement(Path("absent.csv"))
    panels = paired.panels(of_nets, rows, agreement)
    assert list(panels) == ["resnet20", f"other-pp − {baseline}"]
    assert [one.label for one in panels["resnet20"]] == [
        "trained here, 95 % over seeds and images", "published, 10,000 images"
    ]  # fmt: skip
    assert len(panels[f"other-pp − {baseline}"]) == 1
    assert {net for net, _ in report.published_errors(of_nets)} == {"resnet20", "resnet20-pp"}


def test_a_name_alone_makes_no_net_of_the_paper(study):
    nets = {"resnet20": resnet20(), "resnet20-pp": resnet20("pushpull")}
    of_nets = study(nets, {}, data={"name": "cifar10"}, train={"augment": "trivial"})
    rows = intervals(("resnet20", "resnet20-pp"))
    (panel,) = paired.panels(of_nets, rows, paired.read_agreement(Path("absent.csv"))).values()
    assert len(panel) == 1 and report.published_errors(of_nets) == {}


def test_how_it_was_run_names_the_seeds_of_each_net_and_the_images(study):
    nets = {"alexnet": {"block": "conv", "arch": "alexnet", "train": {"seeds": [0]}}}
    nets |= {"resnet20": resnet20(), "resnet20-pp": resnet20("pushpull")}
    part = study(nets, {}, data={"corrupted_images": 20})
    told = report.how_it_was_run(part, 9, (30, 8, 8, 3), "")
    assert told["Seeds"] == "0, 1; alexnet: 0"
    assert "smallest test error of a training, on all 30 test images, as the paper" in told["Error"]
    whole = report.how_it_was_run(study(nets, {}), 9, (30, 8, 8, 3), "")
    assert "smallest test error of a training, as the paper" in whole["Error"]


def test_what_an_augmentation_has_in_common_with_the_test_is_said(study):
    assert augmentation_beside_the_test(study({"resnet20": resnet20()}, {}).params) == []
    nets = {"m": resnet20(augment="augmix"), "n": resnet20(augment="trivial")}
    of_m, of_n, *overlaps = augmentation_beside_the_test(study(nets, {}).params)
    assert of_m.endswith("without its consistency loss (m).") and of_n.endswith("by TrivialAugment (n).")
    assert [sentence.split()[0] for sentence in overlaps] == ["No", "Brightness,"]
    nets["resnet20"] = resnet20()
    told = augmentation_beside_the_test(study(nets, {}).params)
    assert told[2] == "The other nets were trained on clean images alone."


def test_figure_7_shows_every_net_beside_those_of_its_architecture(study):
    nets = {"alone": {"block": "conv", "arch": "alexnet"}, "plain": resnet20(), "pp": resnet20("pushpull")}
    couples = {
        f"densenet{depth}{suffix}": {"block": block, "arch": f"densenet{depth}"}
        for depth in ("40_12", "100_12", "100_24")
        for suffix, block in (("", "conv"), ("-pp", "pushpull"))
    }
    shown = sections.panels(study(nets | couples, {}))
    assert shown == [["plain", "pp"], *([net, f"{net}-pp"] for net in couples if "-pp" not in net), ["alone"]]
    sweep = {f"alpha{i}": resnet20("pushpull", {"alpha": float(i)}) for i in range(10)}
    assert sections.panels(study(sweep, {})) == [list(sweep)[:8], list(sweep)[8:]]
