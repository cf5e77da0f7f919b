"""Part `smoke`: the tests of tests/cuda on this device, with those that fail and why."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.reports import FILE
from benchmarks.gpu.setting import Setting

ROOT = Path(__file__).parents[2]
FILES = ("training", "evaluation", "layer")  # the most valuable first, in case there is no time for all
PROCESSES = 8  # each needs a context on the GPU, and compiles kernels
FEW = "test_crops or test_ranks or (test_what_every_device and plain)"  # of a dry run


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    options = [f"tests/cuda/test_{name}.py" for name in FILES]
    if torch.cuda.is_available():
        options += ["-m", "cuda"]  # what the CPU runs too has run where this was written
        if find_spec("xdist"):
            options += ["-n", str(PROCESSES)]
    if setting.dry_run:
        options += ["-k", FEW]
    yield from run_tests(options, setting.work / "smoke.jsonl")


def run_tests(options: Sequence[str], reports: Path) -> Iterator[dict[str, Any]]:
    """What the tests have found so far, whenever one has ended; at last with the exit status of pytest."""
    plugins = (
        "benchmarks.gpu.reports",
        "no:cacheprovider",
        "no:hypothesispytest",
    )  # which imports hypothesis to end with
    command = [sys.executable, "-m", "pytest", "-q", *(part for name in plugins for part in ("-p", name))]
    # Where these are started by a test, they are not the tests of that run.
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**outer, "OMP_NUM_THREADS": "2", FILE: str(reports)}
    reports.write_bytes(b"")
    with subprocess.Popen([*command, *options], cwd=ROOT, env=environment) as tests:
        seen = 0
        while tests.poll() is None:
            time.sleep(0.3)
            if (size := reports.stat().st_size) != seen:
                seen = size
                yield outcome(reports)
    yield {"exit": tests.returncode, **outcome(reports)}


def outcome(reports: Path) -> dict[str, Any]:
    """Numbers of tests by outcome, and the first lines of what went wrong by test."""
    text = reports.read_text(encoding="utf-8")
    ended = [
        json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()
    ]  # the last one may not be whole
    failed = {one["test"]: one["message"] for one in ended if one["outcome"] == "failed"}
    counts = Counter(one["outcome"] for one in ended)
    return {"tests": len(ended), "passed": counts["passed"], "skipped": counts["skipped"], "failed": failed}
