"""`make exps` in a repository whose one stage copies the results that a parameter names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.stages.clones import run
from tests.stages.yaml_files import write_yaml

PLAIN = {"resnet20": {"E_clean": 8.0, "E_corr": 30.1, "mCE": 101.5, "rCE": 90.0, "mFP": 4.25}}
WEAKER = {"resnet20-pp": {"E_clean": 7.5, "E_corr": 28.123456, "mCE": 95.0, "mFP": 3.0}}
OWN = {"resnet20-pp": {"E_clean": 1.5, "E_corr": 2.25}}  # without an AlexNet, no mCE
NOISE = {"clean": {"0": 1.0}, "gaussian_noise": {"0.1": 20.0, "0.2": 30.0}}


def dvc(folder: Path, *arguments: str) -> None:
    run(folder, "dvc", *arguments)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> str:
    """What `make exps` prints in a terminal of 80 columns."""
    folder = tmp_path_factory.mktemp("exps")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "a")
    git(folder, "config", "user.email", "a@localhost")
    dvc(folder, "init", "-q")
    place = "metrics/${data.name}"
    write_yaml(folder / "dvc.yaml", {"stages": {
        "measure": {
            "cmd": f"mkdir -p {place} && cp ${{pushpull.alpha}}.json {place}/summary.json",
            "params": ["data.name", "pushpull.alpha"],
            "metrics": [{f"{place}/summary.json": {"cache": False}}],
        },
        "noise": {"cmd": "cp noise${seed}.json lenet.json", "metrics": [{"lenet.json": {"cache": False}}]},
    }})  # fmt: skip
    write_yaml(
        folder / "params.yaml",
        {"data": {"name": "digits"}, "pushpull": {"alpha": 1}, "seed": 0, "paper": {"epochs": 200}},
    )
    same = {"resnet20-pp": WEAKER["resnet20-pp"] | {"mCE": 99.0}}
    for name, content in {
        "1": PLAIN | same,
        "2": PLAIN | WEAKER,
        "3": OWN,
        "noise0": {},
        "noise1": NOISE,
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    dvc(folder, "repro", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "a")
    dvc(folder, "exp", "run", "-n", "weaker", "-S", "pushpull.alpha=2", "-S", "paper.epochs=5")
    changes = ("data.name=mine", "pushpull.alpha=3", "seed=1")
    dvc(folder, "exp", "run", "-n", "own", *(part for change in changes for part in ("-S", change)))
    git(folder, "checkout", "-q", ".")
    dvc(folder, "exp", "run", "--queue", "-n", "later", "-S", "pushpull.alpha=2", "-S", "seed=1")
    environment = os.environ | {"COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.experiments.listing"]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, encoding="utf-8"
    ).stdout


def test_results_and_what_differs_are_seen_at_80_columns(listed):
    heading, *parts = listed.rstrip("\n").split("\n\n")
    assert heading.split() == ["mCE", "E", "clean", "mFP", "net"]
    shown = {part.split(":")[0].splitlines()[0]: part for part in parts}
    assert [line.split() for line in shown["main"].splitlines()] == [
        ["main"],
        ["101.50", "30.10", "8.00", "4.25", "resnet20"],
        ["99.00", "28.12", "7.50", "3.00", "resnet20-pp"],
    ]
    assert [line.split() for line in shown["weaker"].splitlines()] == [
        ["weaker:", "pushpull.alpha=2"],  # and none of `paper`
        ["95.00", "28.12", "7.50", "3.00", "resnet20-pp"],  # resnet20 is as before
    ]
    assert max(map(len, listed.splitlines())) <= 80


def test_an_own_data_set_shows_its_results(listed):
    own = next(part for part in listed.split("\n\n") if part.startswith("own"))
    heading, *rows = own.splitlines()
    assert heading == "own: data.name=mine, pushpull.alpha=3, seed=1"
    assert ["-", "2.25", "1.50", "-", "resnet20-pp"] in [row.split() for row in rows]
    assert "  clean 1.00, gaussian_noise 25.00  lenet" in rows


def test_an_experiment_that_has_not_run_shows_no_results(listed):
    assert "later: pushpull.alpha=2, seed=1\n  queued" in listed


def test_before_the_first_commit(tmp_path):
    git(tmp_path, "init", "-q")
    dvc(tmp_path, "init", "-q")
    done = run(tmp_path, "python", "-m", "stages.experiments.listing", check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: nothing is committed yet, and every experiment starts from a commit\n"
