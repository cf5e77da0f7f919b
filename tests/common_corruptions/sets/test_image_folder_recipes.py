"""Folders of image files on the command line, and the documentation's recipes for them, run as they stand there."""

import re
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torchvision.datasets import ImageFolder

from common_corruptions import benchmark
from common_corruptions.recipes.names import PERTURBATIONS
from tests.common_corruptions.benchmarking.test_benchmark_command import run
from tests.common_corruptions.sets.test_image_folders import CLASSES, LABELS, SIZE, read, write
from tests.conftest import ROOT

NETS = f"""
import torch
from torch import nn

def resnet20():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * {SIZE} * {SIZE}, {len(CLASSES)}))
"""


def resnet50(*, weights=None):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, len(CLASSES)))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with clean images, ImageNet-C's folders of two corruptions, and a module of nets."""
    write(tmp_path / "my-images", 3)
    for number, (group, name) in enumerate((("weather", "fog"), ("noise", "gaussian_noise"))):
        for severity in range(1, 6):
            write(tmp_path / "ImageNet-C" / group / name / str(severity), 10 * number + severity)
    (tmp_path / "my_nets.py").write_text(NETS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    return tmp_path


def recipe(title):
    text = (ROOT / "docs" / "common_corruptions.md").read_text(encoding="utf-8").split(f"## {title}\n")[1]
    text = text.split("\n## ")[0]
    commands = re.findall(r"^    python -m common_corruptions benchmark (.*)$", text, re.M)
    return re.findall(r"```python\n(.*?)```", text, re.S), commands


def quietly(code, names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, names)
    return names


def test_the_recipe_for_imagenet_c(here, monkeypatch):
    models = pytest.importorskip("torchvision.models")
    monkeypatch.setattr(models, "resnet50", resnet50)
    (measure, compare), (command,) = recipe("ImageNet-C")
    names = quietly(measure, {})
    assert names["summary"]["corruptions"] == 2 and names["summary"]["images"] == len(LABELS)
    assert 0 < names["summary"]["mCE"] < 200 and "mCE_15" not in names["summary"]
    (here / "resnet50-answers").rename(here / "ours-answers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        benchmark(resnet50(), "ImageNet-C", answers="theirs-answers", progress=False)
    interval = quietly(compare, {})["interval"]
    theirs = quietly(measure.replace("mean=", "#").replace("std=", "#"), {})["summary"]
    assert interval.mean[0] == pytest.approx(names["summary"]["E_corr"] - theirs["E_corr"])

    monkeypatch.setitem(sys.modules["torchvision.models._api"].BUILTIN_MODELS, "resnet50", resnet50)
    done = run(*command.split())
    assert done.exit_code == 0, done.output
    table = pd.read_csv(here / "resnet50.csv")
    np.testing.assert_allclose(table.value, names["table"].value)
    assert "Measured on ImageNet-C: folders as ImageNet-C has them, 12 images of 3 classes" in done.stdout
    assert len(list((here / "resnet50.answers" / "c").glob("*.npz"))) == 10


def test_the_recipe_for_images_of_ones_own(here):
    (code,), (command,) = recipe("Images of your own")
    images = read(here / "my-images")
    dataset = ImageFolder("my-images")
    names = quietly(code, {"net": resnet50(), "images": images, "labels": LABELS, "dataset": dataset})
    assert names["summary"]["corruptions"] == 19 and names["summary"]["perturbations"] == 0
    assert names["figures"]["corruptions"] == 2 and names["figures"]["perturbations"] == 1
    fog = [table[table.name == "fog"].value for table in (names["table"], names["few"], names["again"])]
    np.testing.assert_allclose(fog[0], fog[1])
    np.testing.assert_allclose(fog[0], fog[2])
    done = run(*command.split(), "--output", "table.csv")
    assert done.exit_code == 0, done.output
    assert "12 clean images of 32 x 32, corrupted here at the scale cifar, seed 0" in done.stdout
    table = pd.read_csv(here / "table.csv")
    assert list(table[table.name == "fog"].severity) == [1, 3, 5] and "tilt" in set(table.name)
    np.testing.assert_allclose(table[table.name == "fog"].value, fog[0].iloc[[0, 2, 4]])


def test_a_name_of_both_kinds_is_a_corruption_and_with_perturb_both(here):
    for options, kinds in (([], {"corruption"}), (["--perturb"], {"corruption", "perturbation"})):
        chosen = ["--only", "gaussian_noise", "--severities", "2", "--output", "table.csv"]
        done = run("my-images", "--net", "my_nets:resnet20", *chosen, *options)
        assert done.exit_code == 0, done.output
        table = pd.read_csv(here / "table.csv")
        assert set(table[table.name == "gaussian_noise"].kind) == kinds
    done = run("my-images", "--net", "my_nets:resnet20", "--perturb", "--severities", "2", "--seed", "3")
    assert done.exit_code == 0 and all(name in done.stdout for name in PERTURBATIONS)
    assert re.search("^perturbations +14$", done.stdout, re.M) and "seed 3" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ImageNet-C", "--perturb"], "ImageNet-C has ready-made sets; perturbations can only be made from cl"),
        (["ImageNet-C", "--seed", "1"], "ImageNet-C has ready-made sets; a seed is only for clean images"),
        (["ImageNet-C", "--only", "tilt"], "unknown corruption 'tilt'"),
        (["ImageNet-C", "--only", "snow"], "ImageNet-C has no folder snow"),
        (["my-images", "--only", "fogg"], "unknown corruption 'fogg'; did you mean 'fog'?"),
        (["my-images", "--severities", "6"], "severity must be a whole number from 1 to 5, not 6"),
        (["my-images", "--severities", "low"], "'low' is not severities from 1 to 5, separated by commas"),
        ([".", "--only", "fog"], "nothing to measure in .: no <corruption>.npy or"),
    ],
)  # fmt: skip
def test_mistakes_are_a_line(here, arguments, message):
    done = run(*arguments, "--net", "my_nets:resnet20")
    assert done.exit_code in (1, 2) and isinstance(done.exception, SystemExit)
    assert message in done.stderr and done.stdout == ""
