"""A plugin of pytest: a line of JSON for each test as it ends, so that tests that are cut off leave those before.

The file is named by the variable FILE. Where pytest-xdist runs the tests, the process that it was started as writes.
"""

import json
import os

import pytest

FILE = "PUSHPULL_REPORTS"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or not report.passed:
        write(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        write(report)


def write(report: pytest.TestReport | pytest.CollectReport) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash else str(report.longrepr)
    line = {"test": report.nodeid, "outcome": report.outcome, "message": said[:300] if report.failed else ""}
    with open(os.environ[FILE], "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
