"""What a GPU machine runs imports on one that has neither the pipeline's packages nor its rooms' dependencies."""

import os
import subprocess
import sys

import pytest

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
absent = set()
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
"""
EACH = f"""
for module in {MODULES}:
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(module, error)
"""
ROOMS = ["stages", "archives", "benchmarks", "examples", "tests"]
COLLECT = "import pytest; sys.exit(pytest.main(['-q', '--collect-only', 'tests/cuda']))"

# What -> the packages that are missing, and the code to run without them.
CASES = {
    "finder": (ABSENT, "import stages.tracking.runs"),
    "modules": (ABSENT + MORE, EACH),
    "collection": (ABSENT, COLLECT),
    "cluster": (ABSENT + MORE + ROOMS, "import nets, training.remote"),
}
# Each case is a fork of a process that has torch alone, without any of the packages: torch takes seconds to import.
FORKS = """
import os, traceback
absent |= {name for names, _ in cases.values() for name in names}
import torch
for case, (names, code) in cases.items():
    if not (child := os.fork()):
        absent.clear()
        absent.update(names)
        for stream, kind in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}/{case}.{kind}", os.O_WRONLY | os.O_CREAT), stream)
        status = 1
        try:
            exec(code)
            status = 0
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    _, status = os.waitpid(child, 0)
    print(case, os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """Exit status, output and errors of each case."""
    folder = tmp_path_factory.mktemp("imported")
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-c", f"{REFUSING}\nfolder, cases = {str(folder)!r}, {CASES!r}\n{FORKS}"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    statuses = dict(line.split() for line in done.stdout.splitlines())
    return {
        case: (
            int(status),
            *((folder / f"{case}.{kind}").read_text(encoding="utf-8") for kind in ("out", "err")),
        )
        for case, status in statuses.items()
    }


def test_what_measures_and_trains_imports_without_the_pipeline(imported):
    status, out, err = imported["modules"]
    assert status == 0, err[-2000:]
    assert out == "", out


def test_the_tests_of_a_gpu_are_collected_without_the_pipeline(imported):
    status, out, err = imported["collection"]
    assert status == 0, out[-2000:] + err[-2000:]
    assert "tests/cuda/test_training.py::test_an_epoch_never_waits_for_the_gpu" in out


def test_a_training_on_a_cluster_needs_none_of_the_stages(imported):
    status, _, err = imported["cluster"]
    assert status == 0, err[-2000:]


def test_the_finder_refuses(imported):
    _, _, err = imported["finder"]
    assert "No module named 'pydantic'" in err or "No module named 'mlflow'" in err
