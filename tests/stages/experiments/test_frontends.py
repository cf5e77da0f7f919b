"""Front ends side by side: the study's nets, what they cost, the table, and the whole of it in a clone."""

from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from nets.registry import create_net
from pushpull import PushPull2d
from stages.experiments import frontends as comparison
from stages.experiments.cost import kept_for_backward, measure
from stages.files.yaml_file import read_yaml
from stages.page.study_figures import front_end_bars
from stages.tables.answers import Answers, Scores
from stages.tables.frontends import COSTS, frontends, labels, quantities
from tests.archives.miniatures import few_digits
from tests.stages.clones import clone, run, runs
from tests.stages.experiments.test_side_by_side import choose, ran
from tests.stages.experiments.test_study import choose as chosen
from tests.stages.yaml_files import write_yaml

SEEDS = [0, 1, 2]
NAMES = ("gaussian_noise", "fog", "frost")


def test_each_net_has_another_front_end_and_is_measured_in_every_way(tmp_path):
    for full in (False, True):
        params = chosen(tmp_path, "frontends", full=full)
        assert params.study.comparisons == {"frontends": "resnet20"}
        assert list(params.study.corruption) == list(params.study.perturbation) == list(params.nets)
        assert not params.study.tables and not params.study.noise
        assert {params.training(net).seeds == SEEDS for net in params.nets} == {True}
    nets = {name: create_net("resnet20", **params.options(name)) for name in params.nets}
    first = {name: net.conv1 for name, net in nets.items()}
    assert [type(layer) for layer in first.values()] == [nn.Conv2d, PushPull2d, PushPull2d, nn.Conv2d]
    assert (first["resnet20-pp"].pull, first["resnet20-pp"].scale) == ("upsampled", 2.0)
    assert (first["resnet20-pp2024"].pull, first["resnet20-pp2024"].average_size) == ("complementary", 3)
    assert nets["resnet20-lowpass"].layer2[0].conv1[0].size == 3


class TestCost:
    def test_memory_that_waits_for_the_backward_pass(self):
        """A batch of 5: the input of each layer, the logarithm of the classes' shares, and the labels."""
        net = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 4))
        values = torch.ones(5, 7).numel() + 5 * 6 + 5 * 4
        found = kept_for_backward(net, torch.ones(5, 7), torch.zeros(5, dtype=torch.long))
        scalar = found - 4 * values - 8 * 5
        assert 0 <= scalar <= 8  # the weight of the classes, where there is none

    def test_every_net_is_timed(self, one_thread):
        nets = {
            "plain": create_net("resnet14"),
            "pp": create_net("resnet14", pushpull="first", train_alpha=True),
        }
        cost = measure(nets, torch.randn(2, 3, 32, 32), rounds=3).set_index("net")
        assert cost.parameters.tolist() == [175_258, 175_258 + 16]
        # 7 x 7 more products for each of 3 x 16 kernels and 32 x 32 places
        assert cost.multiply_adds.diff()["pp"] >= 49 * 3 * 16 * 32 * 32
        assert (cost[["training_ms", "evaluation_ms"]] > 0).all(axis=None)
        assert cost.kept_mib["pp"] > cost.kept_mib["plain"]


def answers(params) -> Answers:
    """Errors of 400 images that follow from the net, the seed and the corruption; flips of 10 sequences."""
    random = np.random.default_rng(0)
    errors, flips = {}, {}
    for i, net in enumerate(params.nets):
        values = {
            name: 100.0
            * (np.random.default_rng(place).random((3, 400)) < 0.3 + 0.1 * place - 0.25 * (i == 2))
            for place, name in enumerate(("clean", *NAMES))
        }
        values["mean"] = np.mean([values[name] for name in NAMES], axis=0)
        errors[net] = Scores(SEEDS, values)
        flips[net] = Scores(SEEDS, {"mean": random.uniform(0, 3 + i, (3, 10))})
    return Answers(errors, flips, {}, pd.DataFrame(), {}, 400, [])


@pytest.fixture
def written(tmp_path):
    """The parameters, the answers and the table of four nets."""
    raw = chosen(tmp_path, "frontends")
    params = raw.model_copy(update={"data": raw.data.model_copy(update={"corruptions": list(NAMES)})})
    cost = pd.DataFrame({"net": list(params.nets)}).assign(
        parameters=272474, multiply_adds=40e6, training_ms=[100.0, 110.0, 125.0, 130.0], evaluation_ms=30.0
    )
    cost = cost.assign(kept_mib=50.0, batch=32, device="cpu")
    found = answers(params)
    return params, found, frontends(params, found, cost, "resnet20")


def test_the_table_holds_means_of_groups_and_paired_differences(written):
    params, found, table = written
    assert list(labels(params)) == ["clean", "noise", "weather", "mean", "mFP"]
    tidy = table.tidy.set_index(["net", "quantity"])
    for net in params.nets:
        weather = np.mean([found.errors[net].by_condition[name] for name in ("fog", "frost")])
        assert tidy.loc[(net, "weather"), "value"] == pytest.approx(weather)
        flips = found.flips[net].by_condition["mean"].mean(1)
        assert tidy.loc[(net, "mFP"), "value"] == pytest.approx(flips.mean())
        assert tidy.loc[(net, "mFP"), "spread"] == pytest.approx(flips.std(ddof=1))
    row = tidy.loc["resnet20-pp2024", "mean"]
    difference = tidy.value["resnet20-pp2024", "mean"] - tidy.value["resnet20", "mean"]
    assert row.difference == pytest.approx(difference) and row.low < row.difference < row.high < 0
    assert tidy.loc[("resnet20", "mean"), ["difference", "low"]].isna().all()
    measured, differences, cost = table.display.values()
    assert list(table.display) == ["error and flips", "minus resnet20", "cost"]
    assert measured["front end"].tolist() == ["conv", "pushpull", "pushpull2024", "lowpass"]
    assert differences.net.tolist() == list(params.nets)[1:]
    assert differences.E[1].startswith(f"**{difference:+.2f}** [-")
    assert cost["training step, ms"].tolist() == [
        "100.0 (1.00)",
        "110.0 (1.10)",
        "125.0 (1.25)",
        "130.0 (1.30)",
    ]
    assert tidy.loc[("resnet20-pp", "training_ms"), "value"] == 110.0
    assert "E that over all 3" in table.note and "a batch of 32 images, in float32 on this CPU" in table.note


def test_flips_are_of_the_seeds_of_the_errors(written):
    params, found, _ = written
    scores = found.flips["resnet20-pp"]
    for seeds in ([0, 1], [2, 1, 0]):
        few = Scores(seeds, {"mean": scores.by_condition["mean"][seeds]})
        other = found._replace(flips=found.flips | {"resnet20-pp": few})
        with pytest.raises(
            ValueError, match=r"resnet20-pp: answers on images of the seeds \[0, 1, 2\], on seq"
        ):
            quantities(params, other, "resnet20-pp")


@pytest.mark.parametrize("kind", ["errors", "flips"])
def test_answers_without_a_seed_are_refused(written, monkeypatch, kind):
    params, found, _ = written
    scores = getattr(found, kind)["resnet20-pp"]
    few = Scores([0, 2], {name: values[[0, 2]] for name, values in scores.by_condition.items()})
    other = found._replace(**{kind: getattr(found, kind) | {"resnet20-pp": few}})
    monkeypatch.setattr(comparison, "read_answers", lambda *arguments: found)
    assert comparison.all_answers(params, Path("answers"), None, None) is found
    monkeypatch.setattr(comparison, "read_answers", lambda *arguments: other)
    folder = {"errors": "corruption", "flips": "perturbation"}[kind]
    message = rf"answers/{folder}/resnet20-pp.npz must hold the predictions of seeds \[0, 1, 2\], has \[0, 2\]; remove"
    with pytest.raises(click.ClickException, match=message):
        comparison.all_answers(params, Path("answers"), None, None)


def test_the_figure_shows_values_and_differences(written, tmp_path):
    params, _, table = written
    pictures = []
    for change in (0.0, 2.0):
        tidy = table.tidy.assign(difference=table.tidy.difference + change)
        front_end_bars(
            tmp_path / "frontends.png", tidy, labels(params), baseline=tidy.net.iloc[0], title="digits"
        )
        pictures.append((tmp_path / "frontends.png").read_bytes())
    assert pictures[0].startswith(b"\x89PNG") and pictures[0] != pictures[1]


@pytest.mark.slow
def test_front_ends_in_a_clone(tmp_path, empty_store):
    (tmp_path / "few").mkdir()
    few_digits(tmp_path / "few", train=32, test=36)

    def change(params: dict) -> None:
        sets = {"corruptions": ["contrast", "fog"], "perturbations": ["translate"], "perturbed_images": 2}
        params["data"] |= {"path": str(tmp_path / "few"), **sets}
        params["train"] |= {"epochs": 1, "milestones": [1], "lr": 0.02, "batch_size": 8}

    folder = clone(tmp_path / "clone", change, empty_store)
    file = folder / "studies" / "params.yaml"
    raw = read_yaml(file)
    names = ("resnet20", "resnet20-pp2024")
    nets = {name: {**raw["frontends"]["nets"][name], "arch": "resnet14"} for name in names}
    section = {"nets": nets, "corruption": nets, "perturbation": nets, "train": {"seeds": [0, 1]}}
    write_yaml(file, {**raw, "frontends": raw["frontends"] | section})
    run(folder, "git", "commit", "-qam", "small nets")
    choose(folder, table="frontends")
    done = run(folder, "dvc", "repro", "studies/dvc.yaml")
    stages = ("train", "evaluate_corruption", "evaluate_perturbation")
    each = [f"studies/dvc.yaml:{stage}@{net}" for stage in stages for net in nets]
    once = [f"studies/dvc.yaml:{stage}@frontends" for stage in ("cost", "comparison")]
    assert sorted(ran(done.stdout)) == sorted(["fetch", "corrupt", *each, *once])
    results = folder / "metrics" / "digits" / "studies"
    table = pd.read_csv(results / "frontends.csv")
    assert set(table.net) == set(nets)
    assert set(table.quantity) == {"clean", "weather", "digital", "mean", "mFP", *COSTS}
    assert table.dropna(subset="difference").net.unique().tolist() == list(nets)[1:]
    errors = pd.read_csv(folder / "studies" / "metrics" / "digits" / "corruption" / "resnet20-pp2024.csv")
    of_fog = errors[errors.corruption == "fog"].error.mean()
    shown = table[(table.net == "resnet20-pp2024") & (table.quantity == "weather")]["value"].item()
    assert shown == pytest.approx(of_fog)
    assert (results / "frontends.png").exists() and Path(results / "frontends.md").exists()
    (results / "frontends.csv").write_text("of another study\n", encoding="utf-8")
    again = run(folder, "dvc", "repro", "studies/dvc.yaml")
    assert ran(again.stdout) == ["studies/dvc.yaml:comparison@frontends"]
    pd.testing.assert_frame_equal(pd.read_csv(results / "frontends.csv"), table)
    ((parent,), children) = runs(folder)
    assert parent.data.tags["dvc.exp"].startswith("frontends-digits-")
    metrics = {"corruption/fog/resnet20-pp2024", "perturbation/translate/resnet20-pp2024"}
    assert metrics <= set(parent.data.metrics)
    assert len(children[parent.info.run_id]) == 2 * len(nets)
