"""`make repro` where nothing has changed: MLflow is opened when it may lack something, and not otherwise."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from stages.experiments import repro


@pytest.fixture
def opened(workspace, monkeypatch) -> list[str]:
    """The data sets whose experiment was opened, in a workspace that DVC finds up to date."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr(repro, "DVC", [sys.executable, "-c", "print('Data and pipelines are up to date.')"])
    names = []

    def open_experiment(params):
        names.append(params.data.name)
        info = SimpleNamespace(end_time=float("inf"))
        run = SimpleNamespace(data=SimpleNamespace(metrics={"mCE/small": 90.0}), info=info)
        return SimpleNamespace(client=SimpleNamespace(get_run=lambda _: run), parent="1")

    monkeypatch.setattr(repro.runs, "open_experiment", open_experiment)
    Path("dvc.lock").write_text("schema: '2.0'\n", encoding="utf-8")
    Path("mlflow.db").touch()
    return names


def make_repro() -> None:
    done = CliRunner().invoke(repro.main)
    assert done.exit_code == 0, done.output
    assert "up to date" in done.output


def other_results():
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n", encoding="utf-8")


def another_store():
    Path("mlflow.db").rename("old.db")
    Path("mlflow.db").touch()


def other_parameters():
    with open("params.yaml", "a", encoding="utf-8") as file:
        file.write("# another state of the workspace\n")


def test_mlflow_is_opened_once(opened):
    make_repro()
    make_repro()
    assert opened == ["tiny"]


@pytest.mark.parametrize("change", [other_results, another_store, other_parameters])
def test_mlflow_is_opened_again_after_a_change(opened, change):
    make_repro()
    change()
    make_repro()
    make_repro()
    assert opened == ["tiny", "tiny"]


def test_a_server_is_asked_every_time(opened, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    make_repro()
    make_repro()
    assert opened == ["tiny", "tiny"]
