"""Stages load what they need: torch where nets run, MLflow where runs are written, a compiler nowhere."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

NO_NETS = (
    "fetch",
    "corrupt",
    "official",
    "aggregate",
    "tracking.__main__",
    "tracking.mirror",
    "experiments.repro",
)
NETS = (
    "train",
    "evaluate_corruption",
    "evaluate_perturbation",
    "evaluate_noise",
    "experiments.study",
    "report",
)
ARCHITECTURES = ("alexnet", "densenet40_12", "lenet_a", "resnet20")

# One process, which loads more with every step: what it has after each is what a process of that step alone has.
STEPS = f"""
import importlib, sys

def load(*modules):
    for module in modules:
        importlib.import_module(f"stages.{{module}}")
    print(*sorted({{"torch", "mlflow", "torch._dynamo"}} & {{*sys.modules}}))

load(*{NO_NETS})
load(*{NETS})
import torch, nets
for arch in {ARCHITECTURES}:
    with torch.device("meta"):
        net = nets.create_net(arch)
    assert all(value.is_meta for value in net.parameters())
    load()
"""


@pytest.fixture(scope="module")
def loaded() -> list[list[str]]:
    """Which of torch, its compiler and MLflow the process has after each step."""
    command = [sys.executable, "-c", STEPS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_a_start_loads_what_the_stage_needs(loaded):
    assert loaded[:2] == [[], ["torch"]]


def test_a_net_of_shapes_alone_loads_no_compiler(loaded):
    """As an evaluation makes one, to compare a file with."""
    assert loaded[2:] == [["torch"] for _ in ARCHITECTURES]
