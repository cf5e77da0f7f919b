"""Stages load what they need: torch where nets run, MLflow where runs are written."""

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


def loaded(*modules: str) -> list[str]:
    """Which of torch and mlflow a process has that imports the modules of stages/."""
    imports = ", ".join(f"stages.{module}" for module in modules)
    code = f"import sys, {imports}; print(*{{'torch', 'mlflow'}} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(("modules", "expected"), [(NO_NETS, []), (NETS, ["torch"])])
def test_a_start_loads_what_the_stage_needs(modules, expected):
    assert loaded(*modules) == expected


@pytest.mark.parametrize("arch", ["alexnet", "densenet40_12", "lenet_a", "resnet20"])
def test_a_net_of_shapes_alone_loads_no_compiler(arch):
    """As an evaluation makes one, to compare a file with."""
    code = (
        "import sys, torch, nets\n"
        f"with torch.device('meta'): net = nets.create_net({arch!r})\n"
        "assert all(value.is_meta for value in net.parameters())\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.split() == ["False"]
