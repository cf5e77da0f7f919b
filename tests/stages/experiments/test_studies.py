"""What the studies run: the paper's grids, at the embedded and the full size, each experiment named for its result."""

import shutil
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner

from nets.registry import create_net
from pushpull import PushPull2d
from stages.experiments import study
from stages.experiments.studies import STUDIES, cells, experiments, resolve
from stages.files.yaml_file import read_yaml
from stages.tables.studies import CONFIGURATIONS, LENETS
from tests.stages.yaml_files import write_yaml

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "data" / "published"


@pytest.fixture
def top(monkeypatch):
    monkeypatch.chdir(ROOT)


def options(study_name: str, data: str | None = None) -> list[tuple]:
    return [
        (one.cell.net, one.params.options(one.cell.net), one.params.training(one.cell.net), one.params.data)
        for one in experiments(STUDIES[study_name], data)
    ]


def test_table4_is_the_published_grid(top):
    printed = pd.read_csv(PUBLISHED / "table4.csv")[["net", "scale", "alpha"]].drop_duplicates()
    found = [
        (net, chosen["scale"], chosen["alpha"]) if chosen["pushpull"] else (net, None, None)
        for net, chosen, _, _ in options("table4")
    ]
    assert found == list(
        printed.astype(object).where(printed.notna(), None).itertuples(index=False, name=None)
    )
    for _, chosen, _, _ in options("table4"):
        assert chosen["pushpull"] in (None, "first") and not chosen["train_alpha"]


def test_table5_learns_alpha_or_not(top):
    printed = pd.read_csv(PUBLISHED / "table5.csv")
    found = [
        (net, chosen["train_alpha"] and chosen["pushpull"] == "first")
        for net, chosen, _, _ in options("table5")
    ]
    assert found == list(printed[["net", "train_alpha"]].itertuples(index=False, name=None))
    assert {(c["alpha"], c["scale"]) for _, c, _, _ in options("table5") if c["pushpull"]} == {(1.0, 2.0)}


def test_the_lenets_are_those_of_table_1(top):
    assert (
        {net for net, _, _, _ in options("mnist")}
        == set(LENETS)
        == set(pd.read_csv(PUBLISHED / "lenet.csv").net)
    )
    for cell in cells(STUDIES["mnist"], "mnist"):
        model = LENETS[cell.net]
        net = create_net(cell.arch, pushpull=None if cell.pushpull is None else "first", in_channels=1)
        assert model.startswith("P") == isinstance(net.conv1, PushPull2d)
        linear = ", ".join(str(layer.out_features) for layer in (net.fc1, net.fc2, net.fc3))
        assert (net.conv1.out_channels, net.conv2.out_channels, linear) == CONFIGURATIONS[model[-1]]


def test_full_size_is_the_papers(top):
    for name in ("table4", "table5"):
        for _, _, train, data in options(name, "cifar10"):
            assert data.name == "cifar10"
            assert (train.epochs, train.batch_size, train.lr, train.weight_decay) == (200, 128, 0.1, 1e-4)
            assert (train.milestones, train.seeds) == ([80, 120, 160], [0, 1, 2])
    for _, _, train, data in options("mnist", "mnist"):
        assert data.name == "mnist"
        assert (train.epochs, train.lr, train.momentum, train.weight_decay) == (90, 0.1, 0.9, 5e-4)
        assert (train.milestones, train.seeds) == ([30, 60], [0, 1, 2])


def test_embedded_size_is_that_of_params(top):
    here = resolve([])
    for net, _, train, data in options("table4"):
        assert data == here.data
        assert train == here.train, net


def test_a_net_of_the_paper_is_the_one_of_make_paper(top):
    """The same parameters, so DVC takes from its cache what `make paper` trained."""
    sections = ["data", "train", "evaluate", "nets"]
    paper = resolve([f"{section}=${{paper.{section}}}" for section in sections])
    for one in experiments(STUDIES["table5"], "cifar10"):
        net = one.cell.net
        assert one.params.data == paper.data
        assert one.params.nets[net] == paper.nets[net]
        assert one.params.training(net) == paper.training(net)
        if not one.params.options(net)["train_alpha"]:
            assert one.params.options(net) == paper.options(net)


def test_names_say_what_decides_the_result(tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in (
        "studies",
        "archives",
        "data",
        "nets",
        "pushpull",
        "common_corruptions",
        "stages",
        "training",
    ):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)

    def names(*extra: str) -> list[str]:
        return [one.name for one in experiments(STUDIES["table4"], None, extra)]

    first = names()
    assert len(set(first)) == 10 and first == names()
    assert first[5].startswith("table4-digits-s1.5-a1-")
    assert not set(first) & set(names("train.epochs=7"))
    params = read_yaml(Path("params.yaml"))
    params["nets"]["another"] = {"block": "conv", "arch": "lenet_a", "family": "lenet"}
    write_yaml(Path("params.yaml"), params)
    assert names() == first
    params["pushpull"]["lpf_size"] = 3
    write_yaml(Path("params.yaml"), params)
    changed = names()
    assert changed[0] == first[0] and not set(changed[1:]) & set(first)
    with open("pushpull/functional.py", "a", encoding="utf-8") as file:
        file.write("# another layer\n")
    assert not set(names()) & {*first, *changed}


def test_mistakes_are_one_line(top):
    with pytest.raises(click.ClickException, match=r"table4 runs on cifar10 .* not on 'cifar100'"):
        experiments(STUDIES["table4"], "cifar100")
    with pytest.raises(click.ClickException, match="did you mean 'alpha'"):
        experiments(STUDIES["table4"], None, ["+pushpull.alhpa=2"])
    for arguments in (["table9"], ["table4", "-S", "train.epoch=2"], ["table4", "-j", "0"]):
        done = CliRunner().invoke(study.main, arguments)
        assert done.exit_code != 0 and isinstance(done.exception, SystemExit)
        assert "Error: " in done.output
