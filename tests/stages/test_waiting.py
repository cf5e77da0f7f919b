"""What no command waits for, and how its threads wait."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

LIGHT = [
    "common_corruptions",
    "nets",
    "stages.corrupt",
    "stages.experiments.choose",
    "stages.experiments.listing",
    "stages.files.dependencies",
    "stages.fetch",
    "stages.files.params",
    "stages.page.dvc_plots",
]


def python(code: str, **environment: str) -> str:
    """What a process of its own prints, with the variables of OpenMP as given and no others."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=own | environment, stdout=subprocess.PIPE, encoding="utf-8",
        check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture(scope="module")
def loaded() -> dict[str, str]:
    """What of the slow packages each module brings into one process: whatever is there, one of those so far needs."""
    code = (
        f"import importlib, sys\nfor module in {LIGHT}:\n    importlib.import_module(module)\n"
        "    print(module, *sorted({'torch', 'mlflow', 'sklearn'} & sys.modules.keys()))"
    )
    return dict(f"{line} ".split(" ", 1) for line in python(code).splitlines())


@pytest.mark.parametrize("module", LIGHT)
def test_what_needs_no_net_loads_neither_torch_nor_mlflow(module, loaded):
    assert loaded[module].strip() == ""


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, "passive None"),
        ({"OMP_WAIT_POLICY": "active"}, "active None"),
        ({"GOMP_SPINCOUNT": "7"}, "None 7"),
    ],
)
def test_threads_sleep_at_barriers_unless_the_user_says_otherwise(own, expected):
    code = "import os, stages; print(*map(os.environ.get, ['OMP_WAIT_POLICY', 'GOMP_SPINCOUNT']))"
    assert python(code, **own) == expected
