"""Part `smoke`: the tests of tests/cuda on this device, with those that fail and why."""

import contextlib
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.setting import Setting

ROOT = Path(__file__).parents[2]
FILES = ("training", "evaluation", "layer")  # the most valuable first, in case there is no time for all
PROCESSES = 8  # each needs a context on the GPU, and compiles kernels
FEW = "test_crops or test_ranks or (test_what_every_device and plain)"  # of a dry run
REPORTING = 8  # seconds that pytest has to write its report once it is interrupted


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    report = setting.work / "smoke.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}"]
    command += ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]  # which imports hypothesis to end with
    command += [f"tests/cuda/test_{name}.py" for name in FILES]
    if torch.cuda.is_available():
        command += ["-m", "cuda"]  # what the CPU runs too has run where this was written
        if find_spec("xdist"):
            command += ["-n", str(PROCESSES)]
    if setting.dry_run:
        command += ["-k", FEW]
    yield run_tests(command, report, setting.left - REPORTING)


def run_tests(command: list[str], report: Path, seconds: float) -> dict[str, Any]:
    """Run pytest; interrupted after so many seconds, it reports the tests that had ended by then."""
    found: dict[str, Any] = {}
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "2"}) as tests:
        try:
            tests.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            found["interrupted"] = f"after {seconds:.0f} s"
            tests.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                tests.wait(REPORTING - 2)
            tests.kill()
    return {"exit": tests.returncode, **found, **outcome(report)}


def outcome(report: Path) -> dict[str, Any]:
    """Numbers of tests, and the first lines of what went wrong by test; nothing if pytest wrote no report."""
    if not report.exists():
        return {}
    suite = next(xml.parse(report).iter("testsuite"))
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    failed = {}
    for case in suite.iter("testcase"):
        for kind in ("failure", "error"):
            for found in case.iter(kind):
                failed[f"{case.get('classname')}::{case.get('name')}"] = (found.get("message") or "")[:300]
    return {**counts, "failed": failed}
