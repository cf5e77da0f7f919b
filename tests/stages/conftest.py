"""Fixtures of the tests of tracking: a repository with a small data set and a store, and an MLflow server."""

import shutil
import subprocess
from pathlib import Path

import mlflow
import numpy as np
import pytest

from stages import datasets, tracking
from tests.conftest import ROOT
from tests.stages.mlflow_server import MlflowServer


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = MlflowServer(tmp_path_factory.mktemp("server"))
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory) -> Path:
    """A new database of MLflow, which takes seconds to make."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def local(tmp_path, monkeypatch, images, empty_store):
    """Client of the store in a repository with a small data set, where the working directory is."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    shutil.copy(empty_store, tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in ("nets", "pushpull", "robustness", "stages"):  # the model takes the code along
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_EXP_NAME", tmp_path.name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    labels = np.arange(12) % 10
    datasets.save_clean(Path("datasets/digits/clean"), {"train": (images, labels), "test": (images, labels)})
    return tracking.connect()
