"""What a GPU machine runs imports on one that has neither the pipeline's packages nor its rooms' dependencies."""

import os
import subprocess
import sys

from tests.conftest import ROOT

ABSENT = ["mlflow", "dvc", "pydantic", "ray", "vl_convert", "moto", "playwright"]
MORE = [
    "torchvision",
    "sklearn",
    "yaml",
    "psutil",
    "filelock",
    "requests",
    "jinja2",
    "matplotlib",
    "tabulate",
    "onnx",
    "onnxruntime",
    "onnxscript",
]
MODULES = [
    "benchmarks.equivalence",
    *(
        f"benchmarks.gpu.{part}"
        for part in (
            "machine",
            "rates",
            "reports",
            "smoke",
            "determinism",
            "training",
            "layer",
            "recipe",
            "part",
        )
    ),
    "benchmarks.gpu.__main__",
    "benchmarks.gpu.evaluation",
    "benchmarks.gpu.sets",
    "benchmarks.evaluation",
    "benchmarks.layer",
    "benchmarks.report",
    "benchmarks.training",
    "examples.finetune",
    "training.engine",
]
REFUSING = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
"""
EACH = """
for module in {modules}:
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(module, error)
"""


def run_without(absent: list[str], code: str) -> subprocess.CompletedProcess:
    """The code in a process of its own, where importing one of the packages fails as if it were not installed."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-c", REFUSING.format(absent=set(absent)) + code]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False
    )


def test_what_measures_and_trains_imports_without_the_pipeline():
    done = run_without(ABSENT + MORE, EACH.format(modules=MODULES))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "", done.stdout


def test_the_tests_of_a_gpu_are_collected_without_the_pipeline():
    done = run_without(ABSENT, "import pytest; sys.exit(pytest.main(['-q', '--collect-only', 'tests/cuda']))")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "tests/cuda/test_training.py::test_an_epoch_never_waits_for_the_gpu" in done.stdout


def test_a_training_on_a_cluster_needs_none_of_the_stages():
    rooms = ["stages", "archives", "benchmarks", "examples", "tests"]
    done = run_without([*ABSENT, *MORE, *rooms], "import nets, training.remote")
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_finder_refuses():
    done = run_without(ABSENT, "import stages.tracking.runs")
    assert "No module named 'pydantic'" in done.stderr or "No module named 'mlflow'" in done.stderr
