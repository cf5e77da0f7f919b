"""A front end of one's own, as docs/pipeline.md says: a module in nets/ with fixed Gabor filters, a section, a net."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from stages import train
from stages.files.yaml_file import read_yaml
from tests.archives.miniatures import few_digits
from tests.stages.clones import clone, run
from tests.stages.conftest import read_params, write_params
from tests.stages.yaml_files import write_yaml

MODULE = '''"""ResNet-14 behind fixed Gabor filters."""

import math

import torch
from torch import nn

from nets.registry import register
from nets.resnet import resnet14


class Gabor(nn.Module):
    """Gabor filters of the mean over channels, 7 x 7 pixels, of equally spaced orientations; nothing is learned."""

    def __init__(self, count, wavelength):
        super().__init__()
        y, x = torch.meshgrid(*[torch.arange(-3.0, 4.0)] * 2, indexing="ij")
        angle = torch.arange(count).view(-1, 1, 1) * math.pi / count
        across = x * angle.cos() + y * angle.sin()
        bank = torch.exp(-(x**2 + y**2) / 8) * torch.cos(2 * math.pi * across / wavelength)
        self.register_buffer("bank", (bank - bank.mean((1, 2), keepdim=True))[:, None])

    def forward(self, images):
        return torch.conv2d(images.mean(1, keepdim=True), self.bank, padding=3)


@register("resnet14_gabor", block1="layer1")
def resnet14_gabor(*, num_classes=10, in_channels=3, wavelength=4.0):
    net = resnet14(num_classes=num_classes, in_channels=in_channels)
    net.conv1 = Gabor(net.conv1.out_channels, wavelength)
    return net
'''


def ran(output: str) -> set[str]:
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


@pytest.mark.slow
def test_gabor_filters_through_the_pipeline(tmp_path, empty_store):
    """Nothing that was trained before is trained again, and its option reaches the net and runs it alone."""
    (tmp_path / "few").mkdir()
    few_digits(tmp_path / "few", train=32, test=36)

    def change(params: dict) -> None:
        sets = {"corruptions": ["contrast"], "perturbations": ["translate"], "perturbed_images": 2}
        params["data"] |= {"path": str(tmp_path / "few"), **sets}
        params["train"] |= {"epochs": 1, "milestones": [1], "seeds": [0], "lr": 0.02}
        params["nets"] = {"lenet": {"block": "conv", "arch": "lenet_b", "family": "lenet"}}

    folder = clone(tmp_path / "clone", change, empty_store)
    run(folder, "dvc", "repro", "evaluate_corruption@lenet", "evaluate_perturbation@lenet")

    (folder / "nets" / "gabor.py").write_text(MODULE, encoding="utf-8")
    params = read_yaml(folder / "params.yaml")
    params["gabor"] = {"own": {"wavelength": 6.0}}
    params["nets"]["resnet14-gabor"] = {"block": "gabor", "arch": "resnet14_gabor", "family": "gabor"}
    write_yaml(folder / "params.yaml", params)
    stages = ("train", "evaluate_corruption", "evaluate_perturbation")
    own = {f"{stage}@resnet14-gabor" for stage in stages}
    assert ran(run(folder, "dvc", "repro", "aggregate").stdout) == {*own, "folders", "official", "aggregate"}
    weights = torch.load(folder / "models" / "resnet14-gabor.pt", weights_only=True)["weights"][0]
    upright = weights["conv1.bank"][0, 0].numpy()
    x = np.arange(-3, 4)
    expected = np.exp(-(x**2 + x[:, None] ** 2) / 8) * np.cos(2 * np.pi * x / 6)
    np.testing.assert_allclose(upright, expected - expected.mean(), atol=1e-6)  # after training too
    summary = json.loads((folder / "metrics" / "digits" / "summary.json").read_text(encoding="utf-8"))
    assert set(summary) == {"lenet", "resnet14-gabor"}
    errors = pd.read_csv(folder / "metrics" / "digits" / "corruption" / "resnet14-gabor.csv")
    assert len(errors) == 1 + 5 and errors.error.between(0, 100).all()

    params["gabor"]["own"]["wavelength"] = 8.0
    write_yaml(folder / "params.yaml", params)
    trainings = ("train@lenet", "train@resnet14-gabor")
    assert ran(run(folder, "dvc", "repro", "--dry", *trainings).stdout) == {"train@resnet14-gabor"}


def test_an_option_that_the_architecture_has_not_is_one_line(workspace):
    params = read_params()
    params["gabor"] = {"own": {"wavelength": 4.0}}
    params["nets"]["small"]["block"] = "gabor"
    write_params(params)
    done = CliRunner().invoke(train.main, ["small"])
    assert done.exit_code == 1
    assert "Error: nets.small: resnet14 has no option 'wavelength'; it takes num_classes" in done.output


def test_an_option_that_every_net_has_is_not_the_architectures_own(workspace):
    params = read_params()
    params["gabor"] = {"own": {"alpha": 4.0}}
    params["nets"]["small"]["block"] = "gabor"
    write_params(params)
    done = CliRunner().invoke(train.main, ["small"])
    assert "`gabor`: `own.alpha` is not an option of an architecture's own" in done.output
