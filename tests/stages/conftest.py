"""Fixtures of the stages' tests: workspaces with few images, a store of their own, and an MLflow server."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from archives.form import save_clean
from common_corruptions import corruption
from common_corruptions.generate import whole_sets
from common_corruptions.recipes import registry
from stages.files import schema
from stages.files.datasets import DATASETS
from stages.files.dependencies import stages_of
from stages.files.yaml_file import read_yaml
from stages.tracking import store
from tests.conftest import ROOT
from tests.stages.tracking.mlflow_server import MlflowServer
from tests.stages.yaml_files import without_presets, write_yaml

TRAIN = {"epochs": 2, "batch_size": 16, "lr": 0.01, "milestones": [1], "seeds": [0], "device": "cpu"}


@pytest.fixture
def workspace(tmp_path, monkeypatch, empty_store) -> Path:
    """The current folder, with params.yaml for the nets `small` and `small-pp` and the set `tiny`, in one thread."""
    shutil.copy(empty_store, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    params = without_presets(read_yaml(ROOT / "params.yaml"))
    params["data"]["name"] = "tiny"
    params["train"] |= TRAIN
    params["nets"] = {
        "small": {"block": "conv", "arch": "resnet14"},
        "small-pp": {"block": "pushpull", "arch": "resnet14"},
    }
    write_params(params)
    rng = np.random.default_rng(0)
    # 33 images leave a last batch of one, which two processes cannot share.
    splits = {
        split: (rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8), rng.integers(0, 10, count))
        for split, count in (("train", 33), ("test", 15))
    }
    save_clean(DATASETS / "tiny" / "clean", splits)
    return tmp_path


def write_params(params: dict) -> None:
    write_yaml(Path("params.yaml"), params)


def read_params() -> dict:
    return read_yaml(Path("params.yaml"))


@pytest.fixture
def undeclared(monkeypatch):
    """A function of the module of a stage that is to run: the parameters that it reads but dvc.yaml does not name."""
    names = {
        schema.Data: "data",
        schema.Train: "train",
        schema.Evaluate: "evaluate",
        schema.Official: "official",
    }

    def follow(stage, pipeline: str = "dvc.yaml") -> set[str]:
        name = stage.__name__.rpartition(".")[2]
        declared = tuple(
            f"{one}." for one in stages_of(ROOT, pipeline)[name]["params"] if isinstance(one, str)
        )
        missing: set[str] = set()
        load = stage.load_params

        def read(section, field):
            if type(section) in names and field in type(section).model_fields:
                parameter = f"{names[type(section)]}.{field}"
                if not f"{parameter}.".startswith(declared):
                    missing.add(parameter)
            return object.__getattribute__(section, field)

        def load_and_forget(**options):
            params = load(**options)
            missing.clear()  # of what the check of the file itself looked at
            return params

        monkeypatch.setattr(stage, "load_params", load_and_forget)
        monkeypatch.setattr(schema.Section, "__getattribute__", read)
        return missing

    return follow


@pytest.fixture(scope="module")
def chromium():
    """Headless Chromium, driven by playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if not executable:
        pytest.skip("no chromium here to open the page with")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def posterize(monkeypatch) -> None:
    """A corruption of one's own, declared for one test and in its process alone: values keep their highest bits."""
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))
    monkeypatch.setattr(whole_sets, "available_cores", lambda: 1)

    @corruption("posterize", group="digital", constants=((6,), (5,), (4,), (3,), (2,)))
    def posterize(images, draws, bits):
        return images & np.uint8(256 - 2 ** (8 - bits))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_store):
    one = MlflowServer(tmp_path_factory.mktemp("server"))
    shutil.copy(empty_store, one.folder / "server.db")
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """A new database of MLflow, which takes seconds to make."""
    import mlflow

    if "PYTEST_XDIST_WORKER" in os.environ:  # the first process that needs one makes it for all
        folder = tmp_path_factory.getbasetemp().parent
    else:
        folder = tmp_path_factory.mktemp("store")
    path = folder / "mlflow.db"
    with FileLock(folder / "mlflow.lock"):
        if not path.exists():
            mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def local(tmp_path, monkeypatch, images, empty_store):
    """Client of the store in a repository with a small data set, where the working directory is."""
    (tmp_path / "params.yaml").write_text(
        (ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    shutil.copy(empty_store, tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_EXP_NAME", tmp_path.name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    labels = np.arange(12) % 10
    save_clean(DATASETS / "digits" / "clean", {"train": (images, labels), "test": (images, labels)})
    return store.connect()
