"""Training on a local Ray, taken up by the training stage."""

import functools

import pytest
import torch
from click.testing import CliRunner

from stages import train
from stages.experiments import launch
from stages.files import models
from stages.files.checkpoints import work_folder
from stages.files.params import load_params
from stages.files.workspace import MODELS
from stages.tracking import logged_model
from tests.stages.conftest import read_params, write_params

ray = pytest.importorskip("ray", reason="ray is not installed (extra `cluster`)")


def stage(net: str) -> dict:
    """The weights that the training stage writes for a net, by name; it says so when it does not start afresh."""
    done = CliRunner().invoke(train.main, [net], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return {"output": done.output, **models.load(MODELS / f"{net}.pt").weights[0]}


def test_a_net_trained_on_ray_is_taken_up_as_it_is(workspace, monkeypatch, one_thread):
    """One net comes back whole and one diverges: the first is the stage's result, bit by bit, the second is named."""
    monkeypatch.setattr(logged_model, "log_model", lambda *_: None)
    monkeypatch.setattr(launch, "to_train", lambda params, pipeline: list(params.nets))  # no DVC here
    # One process trains both nets, one after the other.
    monkeypatch.setattr(ray, "init", functools.partial(ray.init, num_cpus=1, include_dashboard=False))
    params = read_params()
    params["nets"]["small-pp"]["train"] = {"lr": 1e30}
    write_params(params)
    alone = stage("small")
    assert "resuming" not in alone.pop("output")

    done = CliRunner().invoke(launch.main, ["ray"])
    assert done.exit_code == 1
    assert "1 trainings failed" in done.output
    assert "small-pp seed 0: the loss is" in done.output
    folder = work_folder(load_params(), "small")
    assert torch.load(folder / "0.pt", weights_only=True)["state"]["epoch"] == 2

    taken = stage("small")
    assert "small seed 0: resuming after epoch 2" in taken.pop("output")
    assert all(torch.equal(value, taken[name]) for name, value in alone.items())


def test_an_unknown_launcher_is_one_line(workspace):
    done = CliRunner().invoke(launch.main, ["slurm"])
    assert done.exit_code == 2
    assert "launcher must be `ray` or ray://HOST:PORT, got 'slurm'" in done.output
