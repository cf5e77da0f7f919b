"""Part `smoke`: the tests of tests/cuda on this device, with those that fail and why."""

import os
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
PROCESSES = 4  # each needs a context on the GPU, and compiles kernels
FEW = "test_crops or test_ranks or (test_what_every_device and plain)"  # of a dry run


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    report = setting.work / "smoke.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/cuda",
        f"--junitxml={report}",
    ]
    if torch.cuda.is_available():
        command += ["-m", "cuda"]  # what the CPU runs too has run where this was written
        if find_spec("xdist"):
            command += ["-n", str(PROCESSES)]
    if setting.dry_run:
        command += ["-k", FEW]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "2"}, check=False)
    yield {"exit": done.returncode, **outcome(report)}


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
