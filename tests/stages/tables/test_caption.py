"""What every table says of its run, and which of our nets the paper has."""

from typing import get_args

import pytest

from common_corruptions.summary import Baseline
from stages.files.measurements import registry_name
from stages.files.schema import Train
from stages.files.yaml_file import read_yaml
from stages.tables.augmentation import AUGMENTATIONS
from stages.tables.caption import describe_run
from stages.tables.paper import NETS, comparable, counterparts, table3
from tests.conftest import ROOT
from training.augmentation import POLICIES, Augmentation


def test_a_lossy_copy_is_called_one(load):
    text = describe_run(load(data={"name": "cifar10-jpeg"}), "", None, 10000)
    assert text.startswith("Data set: cifar10-jpeg, 10000 test images. Its images are lossy JPEG copies")
    assert "lossy" not in describe_run(load(data={"name": "cifar10"}), "", None, 10000)


def test_where_the_corrupted_sets_are_from(load, monkeypatch):
    monkeypatch.chdir(ROOT)  # data/archives.yaml says what is published
    assert "generated from the test images" in describe_run(load(), "", None, None)
    downloaded = load(data={"name": "cifar10", "corrupted": "download", "corruptions": ["fog", "saturate"]})
    text = describe_run(downloaded, "", None, None)
    assert "published; 2 corruptions at 5 severities, 1 of them of the benchmark's main set; mFP" in text


def test_over_what_mfp_is(load):
    few = load(data={"perturbations": ["tilt", "gaussian_noise_2"], "perturbed_images": 7})
    assert "main set; mFP over 1 perturbation of the first 7 images." in describe_run(few, "", None, None)
    every = load(data={"perturbations": "all", "perturbed_images": None})
    assert "main set; mFP over 14 perturbations." in describe_run(every, "", None, None)


def test_of_which_images_the_corrupted_sets_are(load):
    text = describe_run(load(data={"corrupted_images": 2000}), "", None, 2000)
    assert "2000 test images." in text
    assert "19 corruptions at 5 severities of the first 2000 images, 15 of them" in text
    for name in ("digits", "cifar10-jpeg"):
        text = describe_run(load(data={"name": name, "corrupted_images": 2000}), "", None, 2000)
        assert f"Data set: {name}, the first 2000 test images." in text
    assert "Data set: digits, 360 test images." in describe_run(load(), "", None, 360)


def test_more_images_asked_for_than_there_are(load):
    text = describe_run(load(data={"corrupted_images": 2000, "perturbed_images": 500}), "", None, 360)
    assert "Data set: digits, 360 test images." in text
    assert "5 severities, 15 of them of the benchmark's main set; mFP over 14 perturbations." in text


def test_epochs_and_seeds_of_every_net(load):
    nets = {"long": {"block": "conv", "arch": "resnet14", "train": {"epochs": 9, "seeds": [7]}}}
    text = describe_run(load(nets=nets), "", None, None)
    assert "after the last epoch: 6 (alexnet, resnet20, resnet20-pp); 9 (long)." in text
    assert "over 2 seeds (0, 1); alexnet: 1 seed (0); long: 1 seed (7)." in text
    nets |= {"other": {"block": "conv", "arch": "resnet14", "train": {"seeds": [7]}}}
    nets |= {"usual": {"block": "conv", "arch": "resnet14"}}
    assert "over 1 seed (7); usual: 2 seeds (0, 1)." in describe_run(only(load, nets), "", None, None)
    text = describe_run(only(load, {"usual": nets["usual"]}), "", None, None)
    assert "Mean ± standard deviation over 2 seeds (0, 1). " in text


def test_the_names_of_augmentations_are_the_same_everywhere():
    assert get_args(Augmentation) == get_args(Train.model_fields["augment"].annotation) == ("none", *POLICIES)
    assert AUGMENTATIONS.keys() == POLICIES.keys()


def test_how_images_were_augmented(load):
    assert "augmented" not in describe_run(load(), "", None, None)
    assert "Trained here on images augmented by TrivialAugment." in describe_run(
        load(train={"augment": "trivial"}), "", None, None
    )
    nets = {"mixed": {"block": "conv", "arch": "resnet14", "train": {"augment": "augmix"}}}
    text = describe_run(load(nets=nets), "", None, None)
    assert "augmented by AugMix, without its consistency loss (mixed)." in text


def test_the_authors_weights_alone(load, monkeypatch):
    monkeypatch.chdir(ROOT)
    params = load(data={"name": "cifar10-authors"}, nets=None, official={"path": "somewhere"})
    text = describe_run(params, "", None, 509)
    assert text.startswith(
        "Data set: CIFAR-10, the first 509 test images. One trained net each, as the paper's authors"
    )
    assert "seed" not in text and "epoch" not in text


def test_options_that_are_a_nets_own(load):
    assert "of their own" not in describe_run(load(), "", None, None)
    nets = {"strong": {"block": "pushpull", "arch": "resnet20", "options": {"alpha": 2.0, "lpf_size": 3}}}
    text = describe_run(load(nets=nets), "", None, None)
    assert "Nets with options of their own: strong (alpha=2.0, lpf_size=3)." in text
    assert "strong" not in counterparts(load(nets=nets))


def test_what_rce_leaves_out(load):
    errors = {"fog": 20.0, "saturate": 5.0}
    params = load(data={"corruptions": ["fog", "saturate"]})
    text = describe_run(params, "Normalised.", Baseline(errors, 6.0, "a net"), None)
    assert "Normalised. rCE leaves out saturate:" in text and "fog" not in text


def test_nets_of_the_paper_are_told_by_what_they_are(load):
    nets = {
        "mine": {"block": "pushpull", "arch": "resnet32"},
        "smooth": {"block": "filtered", "arch": "resnet20"},
        "deeper": {"block": "blocks", "arch": "resnet20"},
        "learned": {"block": "learned", "arch": "resnet20"},
        "small": {"block": "pushpull", "arch": "resnet14"},
    }
    params = load(
        nets=nets,
        filtered={"lpf_size": 3},
        blocks={"layers": "block1"},
        learned={"layers": "first", "train_alpha": True},
    )
    expected = {
        "resnet20": "resnet20",
        "resnet20-pp": "resnet20-pp",
        "mine": "resnet32-pp",
    }
    assert counterparts(params) == expected
    assert "mine" not in counterparts(
        load(nets=nets, pushpull={"alpha": 2.0}, filtered={}, blocks={}, learned={})
    )


def test_nets_trained_in_a_way_of_their_own_are_not_the_papers(load):
    paper = read_yaml(ROOT / "params.yaml")["paper"]
    whole = only(load, paper["nets"], train=paper["train"])
    assert counterparts(whole) == {name: name for name in ("alexnet", *NETS)}  # their recipes are the paper's
    changes = {
        "augmix": {"augment": "augmix"},
        "short": {"epochs": 1, "milestones": []},
        "exact": {"precision": "bf16"},
        "later": {"seeds": [5]},  # which decide no recipe
    }
    nets = {name: {"block": "conv", "arch": "resnet20", "train": own} for name, own in changes.items()}
    nets["dense"] = {"block": "conv", "arch": "densenet40_12", "train": {"epochs": 1, "milestones": []}}
    assert counterparts(only(load, nets)) == {"later": "resnet20"}
    # A section of a tenth of the schedule is told by every table; an augmentation makes another training.
    assert counterparts(only(load, paper["nets"], train={"augment": "trivial"})) == {}
    tenth = read_yaml(ROOT / "params.yaml")["jpeg"]
    assert set(counterparts(only(load, tenth["nets"], train=tenth["train"]))) == set(tenth["nets"])


def only(load, nets, **sections):
    """Params with these nets and no others."""
    every = load(nets=nets, **sections)
    return every.model_copy(update={"nets": {name: every.nets[name] for name in nets}})


def test_published_figures_are_for_the_same_data_alone(load):
    assert comparable(table3(ROOT / "data" / "published"), load()).empty
    whole = comparable(table3(ROOT / "data" / "published"), load(data={"name": "cifar10"}))
    assert {"E_clean", "E_corr", "mCE", "rCE"} <= set(whole.condition)
    part = load(data={"name": "cifar10", "corruptions": "main"})
    assert set(comparable(table3(ROOT / "data" / "published"), part).condition) == {"E_clean", "E_best"}


@pytest.mark.parametrize(
    ("folder", "net"),
    [
        ("resnet-20-pp", "resnet20-pp"),
        ("densenet-100-12", "densenet100_12"),
        ("densenet-40-12-pp", "densenet40_12-pp"),
    ],
)
def test_folders_of_the_authors(folder, net):
    assert registry_name(folder) == net
