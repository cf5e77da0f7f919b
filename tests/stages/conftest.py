"""A workspace of the pipeline that trains within a second: few images, a small net, an MLflow store of its own."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from stages.datasets import DATASETS, save_clean
from tests.conftest import ROOT

TRAIN = {"epochs": 2, "batch_size": 16, "lr": 0.01, "milestones": [1], "seeds": [0], "device": "cpu"}


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """The current folder, with params.yaml for the nets `small` and `small-pp` and the set `tiny`, in one thread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    del params["paper"]
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
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def read_params() -> dict:
    return yaml.safe_load(Path("params.yaml").read_text())
