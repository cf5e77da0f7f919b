"""params.yaml: what is in the repository is right, and a mistake is one line that names its key."""

from pathlib import Path

import click
import pytest
from dvc.utils.serialize import modify_yaml

from common_corruptions.recipes.names import CORRUPTIONS, MAIN_CORRUPTIONS
from stages.files.params import load_params
from stages.files.schema import Data, Params
from stages.files.yaml_file import read_yaml
from tests.stages.yaml_files import write_yaml

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def load(tmp_path: Path, text: str):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path)


def edited(tmp_path: Path, change) -> Params:
    raw = read_yaml(ROOT / "params.yaml")
    change(raw)
    write_yaml(tmp_path / "params.yaml", raw)
    return load_params(tmp_path / "params.yaml")


def test_the_file_of_the_repository_is_valid():
    params = load_params(ROOT / "params.yaml")
    assert {net.block for net in params.nets.values()} == {"conv", "pushpull"}
    assert params.options("resnet20-pp")["pushpull"] == "first"
    assert params.options("resnet20")["pushpull"] is None


def test_paper_block_holds_the_recipe_of_the_paper():
    paper = read_yaml(ROOT / "params.yaml")["paper"]
    assert len(paper["nets"]) == 15  # the grid of 14 and the AlexNet
    params = load_params(ROOT / "params.yaml")
    full = type(params)(**{**params.model_dump(), **paper})
    resnet, densenet = full.training("resnet20-pp"), full.training("densenet100_24-pp")
    assert (resnet.epochs, resnet.batch_size, resnet.lr, resnet.milestones) == (200, 128, 0.1, [80, 120, 160])
    assert (densenet.epochs, densenet.batch_size, densenet.milestones) == (350, 64, [150, 225, 300])
    assert resnet.momentum == densenet.momentum == 0.9
    assert resnet.weight_decay == densenet.weight_decay == 1e-4


def test_a_list_of_corruptions_may_hold_whole_sets_and_ones_own(posterize):
    def data(*names: str) -> Data:
        return Data(name="digits", corruptions=list(names))

    assert data("posterize", "all").averaged_corruptions() == CORRUPTIONS
    assert data("posterize", "all").added_corruptions() == ("posterize",)
    assert data("posterize", "saturate", "main").corruption_names() == (
        *MAIN_CORRUPTIONS,
        "saturate",
        "posterize",
    )
    assert data("fog", "shot_noise", "fog").corruption_names() == ("shot_noise", "fog")
    assert Data(name="digits").corruption_names() == CORRUPTIONS
    with pytest.raises(ValueError, match="none of the benchmark's corruptions"):
        data("posterize")


def test_net_overrides_training():
    params = load_params(ROOT / "params.yaml")
    assert params.training("alexnet").lr != params.training("resnet20").lr
    assert params.training("alexnet").batch_size == params.train.batch_size


def test_another_block_is_added_in_one_place(tmp_path):
    def add(raw):
        raw["learned"] = {"layers": "first", "train_alpha": True}
        raw["nets"]["resnet20-ppa"] = {"block": "learned", "arch": "resnet20"}

    assert edited(tmp_path, add).options("resnet20-ppa")["train_alpha"] is True


def test_checkpoints_can_be_measured_without_a_net_of_our_own(tmp_path):
    def change(raw):
        raw["nets"], raw["official"]["path"] = {}, "checkpoints"

    assert edited(tmp_path, change).nets == {}
    with pytest.raises(click.ClickException, match=r"nets is empty and official\.path is not set"):
        edited(tmp_path, lambda raw: raw.update(nets={}))


def with_options(raw: dict, net: str, **options) -> None:
    raw["nets"]["own"] = {**raw["nets"][net], "options": options}


def test_a_net_overrides_options_of_its_block(tmp_path):
    params = edited(tmp_path, lambda raw: with_options(raw, "resnet20-pp", alpha=0.5, lpf_size=3))
    shared = params.options("resnet20-pp")
    assert params.options("own") == {**shared, "alpha": 0.5, "lpf_size": 3} and shared["alpha"] == 1.0
    layer = edited(tmp_path, lambda raw: with_options(raw, "resnet20", layers="all", alpha=2.0))
    assert layer.options("own")["pushpull"] == "all" and layer.options("resnet20")["pushpull"] is None


def test_a_net_overrides_one_of_its_blocks_own_options(tmp_path):
    def change(raw):
        raw["gabor"] = {"own": {"wavelength": 4.0, "sigma": 3.0}}
        raw["nets"] = {"a": {"block": "gabor", "arch": "resnet20"}}
        raw["nets"]["b"] = raw["nets"]["a"] | {"options": {"lpf_size": 3, "own": {"wavelength": 6.0}}}

    params = edited(tmp_path, change)
    assert params.options("b") == params.options("a") | {"lpf_size": 3, "wavelength": 6.0}
    assert params.options("b")["sigma"] == 3.0
    assert params.nets["b"].own == "lpf_size=3, wavelength=6.0" and params.nets["a"].own == ""


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        ("resnet20-pp", {"own": 2.0}, r"`nets.own.options.own`.*dictionary, got 2.0"),
        ("resnet20-pp", {"alhpa": 2.0}, "unknown key `nets.own.options.alhpa`; did you mean 'alpha'"),
        ("resnet20-pp", {"scale": 0.0}, "`nets.own.options.scale`.*greater than 0, got 0.0"),
        ("resnet20-pp", {"alpha": "much"}, "`nets.own.options.alpha`.*valid number, got 'much'"),
        ("resnet20", {"alpha": 2.0}, "`nets.own.options.alpha`: the net has no push-pull layer.* `conv` "),
        (
            "resnet20-pp",
            {"alpha": "uniform"},
            "`nets.own.options`: `alpha: uniform` only initialises a learned alpha",
        ),
        ("resnet20-pp", {"average_size": 3}, "`average_size` must be 0 or odd, and 0 unless `pull: comp"),
        ("resnet20-pp", {"pull": "complementary", "average_size": 2}, "`average_size` must be 0 or odd"),
        ("resnet20-pp", {"pull": "complementary", "scale": 3.0}, "`scale` needs `pull: upsampled`"),
        ("resnet20", {"average_size": 3, "pull": "complementary"}, "`nets.own.options.pull`: the net has no"),
        (
            "resnet20-pp",
            {"layers": None, "train_alpha": True},
            "`nets.own.options.train_alpha`: the net has no",
        ),
    ],
)
def test_an_option_that_the_net_cannot_have_is_one_line(tmp_path, net, options, message):
    with pytest.raises(click.ClickException, match=message) as caught:
        edited(tmp_path, lambda raw: with_options(raw, net, **options))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("alpha: 1.0", "alhpa: 1.0", "unknown key `pushpull.alhpa`; did you mean 'alpha'"),
        ("epochs: 6", "epoch: 6", "unknown key `train.epoch`; did you mean 'epochs'"),
        ("epochs: 6", "epochs: eight", "`train.epochs`.*integer, got 'eight'"),
        ("epochs: 6", "epochs: 0", "`train.epochs`.*greater than or equal to 1"),
        ("name: digits", "nmae: digits", "unknown key `data.nmae`; did you mean 'name'"),
        ("\ntrain:\n", "\ntrian:\n", "unknown key `trian`; did you mean 'train'"),
        (
            "block: pushpull",
            "block: pushpul",
            "`nets.resnet20-pp.block` names a section `pushpul` that does not exist",
        ),
        (
            "arch: resnet20",
            "arch: resnett20",
            "`nets.resnet20.arch`: unknown net 'resnett20'; did you mean 'resnet20'",
        ),
        ("lr: 0.01", "lr: -1", "`nets.alexnet.train.lr`.*greater than 0"),
        ("lr: 0.01", "learning_rate: 0.01", "unknown key `nets.alexnet.train.learning_rate`"),
        (
            "lr: 0.01",
            "device: cuda",
            "`nets.alexnet.train`: `device` is shared by all nets; set `train.device`",
        ),
        ("corruptions: all", "corruptions: [gausian_noise]", "did you mean 'gaussian_noise'"),
        ("corruptions: all", "corruptions: []", "at least one"),
        ("corruptions: all", "corruptions: [all, posterize]", "unknown corruption 'posterize'.*@corruption"),
        ("layers: first", "layers: firts", "`pushpull.layers`.*'first', 'block1' or 'all'"),
        ("scale: 2.0", "scale: 0", "`pushpull.scale`.*greater than 0"),
        ("epochs: 200", "epochs: many", "`paper.train.epochs`"),
        ("data:", "data: [", "not YAML"),
        (
            "epochs: 6",
            "epochs: 6\n  epochs: 7",
            'not YAML: line [0-9]+, column [0-9]+: found duplicate key "epochs"',
        ),
        ("lr: 0.1", "lr: .inf", "`train.lr`.*finite"),
    ],
)
def test_a_mistake_is_one_line_naming_its_key(tmp_path, old, new, message):
    assert old in TEXT
    with pytest.raises(click.ClickException, match=message) as caught:
        load(tmp_path, TEXT.replace(old, new, 1))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["5e-4", "5E-4", "5e-04", "0.0005"])
def test_a_number_is_read_as_dvc_reads_it(tmp_path, text):
    assert "weight_decay: 0.0001" in TEXT
    params = load(tmp_path, TEXT.replace("weight_decay: 0.0001", f"weight_decay: {text}", 1))
    assert params.train.weight_decay == 5e-4


def test_what_dvc_writes_for_an_experiment_is_read(tmp_path):
    """`dvc exp run -S train.weight_decay=1e-5` leaves `1e-05` in the file."""
    path = tmp_path / "params.yaml"
    path.write_text(TEXT, encoding="utf-8")
    with modify_yaml(str(path)) as content:
        content["train"]["weight_decay"] = 1e-5
    assert "weight_decay: 1e-05" in path.read_text(encoding="utf-8")
    assert load_params(path).train.weight_decay == 1e-5


def test_seed_twice_and_unordered_milestones(tmp_path):
    with pytest.raises(click.ClickException, match="seeds has duplicates"):
        edited(tmp_path, lambda raw: raw["train"].update(seeds=[0, 0]))
    with pytest.raises(click.ClickException, match="milestones must rise"):
        edited(tmp_path, lambda raw: raw["train"].update(milestones=[6, 4]))


def test_missing_file(tmp_path):
    with pytest.raises(click.ClickException, match="top of the repository"):
        load_params(tmp_path / "params.yaml")


def test_published_sets_are_of_all_images(tmp_path):
    def change(raw):
        raw["data"] |= {"corrupted": "download", "corrupted_images": 100}

    with pytest.raises(click.ClickException, match="`corrupted_images` needs `corrupted: generate`"):
        edited(tmp_path, change)


def test_a_dot_in_the_name_of_a_net_is_refused(tmp_path):
    """DVC splits the names of parameters at their dots, and stops at the net's `params` in dvc.yaml."""

    def change(raw):
        raw["nets"]["resnet20-a0.5"] = raw["nets"]["resnet20-pp"]

    with pytest.raises(click.ClickException, match=r"`nets\.resnet20-a0\.5`: DVC.*call it resnet20-a0_5"):
        edited(tmp_path, change)
