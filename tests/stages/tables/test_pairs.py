"""Which nets are compared: with each other, with the paper's, and with the authors' weights."""

import pandas as pd
import pytest

from stages.aggregate import line_up
from stages.files.yaml_file import read_yaml
from stages.tables import paper
from stages.tables.cells import compare, measure
from stages.tables.summary import pairs
from tests.conftest import ROOT

PAIR = ("resnet20", "resnet20-pp")


def resnet20(block="conv", options=None, **train):
    return {"block": block, "arch": "resnet20", "options": options or {}, "train": train}


def test_nets_are_paired_with_those_of_the_same_augmentation(load):
    nets = {"augmix": resnet20(augment="augmix"), "augmix-pp": resnet20("pushpull", augment="augmix")}
    assert pairs(load(nets=nets)) == [PAIR, ("augmix", "augmix-pp")]


@pytest.mark.parametrize(
    "other",
    [
        resnet20("lowpass"),
        resnet20(epochs=1, milestones=[]),
        resnet20(augment="augmix"),
        resnet20(options={"lpf_size": 3}),
        resnet20(precision="bf16"),
    ],
)
def test_a_net_that_differs_in_more_than_the_layer_is_no_baseline(load, other):
    assert pairs(load(nets={"other": other})) == [PAIR]
    without = load(nets={"resnet20": other})
    assert pairs(without) == []  # and a net without one is in no pair


def test_what_belongs_to_the_layer_and_to_chance_may_differ(load):
    nets = {
        "strong": resnet20("pushpull", {"alpha": 2.0, "scale": 1.0, "layers": "all"}, seeds=[4]),
        "later": resnet20("pushpull2024"),
        "smooth-pp": resnet20("pushpull", {"lpf_size": 3}),
        "smooth": resnet20("lowpass"),
    }
    expected = [PAIR, ("resnet20", "strong"), ("resnet20", "later"), ("smooth", "smooth-pp")]
    assert pairs(load(nets=nets)) == expected


def test_every_architecture_of_the_paper_is_a_pair(load):
    """The DenseNets too, whose training is not that of the section."""
    preset = read_yaml(ROOT / "params.yaml")["paper"]
    params = load(nets=preset["nets"], train=preset["train"])
    assert pairs(params) == [(net, f"{net}-pp") for net in paper.NETS if not net.endswith("-pp")]


def test_the_first_of_equal_nets_is_the_baseline(load):
    assert pairs(load(nets={"again": resnet20(), "again-pp": resnet20("pushpull")})) == [
        PAIR,
        ("resnet20", "again-pp"),
    ]


def test_the_authors_weights_stand_beside_the_net_that_repeats_them(load):
    """Not under the name of a net of the same architecture that was trained on augmented images."""
    params = load(data={"name": "cifar10"}, nets={"resnet20-augmix": resnet20(augment="augmix")})
    authors = "resnet-20 (authors' weights)"
    values = pd.DataFrame(
        [(authors, 0, "clean", 8.0), ("resnet20", 0, "clean", 9.0), ("resnet20-augmix", 0, "clean", 5.0)],
        columns=["net", "seed", "condition", "value"],
    )
    lineup = line_up(params, values)
    printed = paper.comparable(paper.table3().replace({"condition": {"E_clean": "clean"}}), params)
    rows = compare(measure(values, lineup, ["clean"], {}), printed, lineup).dropna(subset="value")
    found = {(row.net, row.source): row.value for row in rows.itertuples()}
    assert found["resnet20", "authors' weights"] == 8.0
    assert found["resnet20", "ours - published"] == pytest.approx(9.0 - 7.56)  # table 3
    assert [source for net, source in found if net == "resnet20-augmix"] == ["ours"]

    alone = params.model_copy(update={"nets": {"resnet20-augmix": params.nets["resnet20-augmix"]}})
    lineup = line_up(alone, values)
    rows = compare(measure(values, lineup, ["clean"], {}), printed, lineup).dropna(subset="value")
    found = {(row.net, row.source): row.value for row in rows.itertuples()}
    assert found[authors, "authors' weights"] == 8.0 and found[authors, "published"] == 7.56


def test_of_equal_nets_the_first_has_the_authors_weights_beside_it(load):
    params = load(nets={"again": resnet20()})
    authors = "resnet-20 (authors' weights)"
    values = pd.DataFrame([(authors, 0, "clean", 8.0)], columns=["net", "seed", "condition", "value"])
    rows = measure(values, line_up(params, values), ["clean"], {})
    assert rows[rows.source == "authors' weights"].net.tolist() == ["resnet20"]
