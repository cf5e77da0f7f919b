"""Logging a trained net to MLflow as a model that predicts classes of uint8 images."""

import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stages.files.dependencies import ROOT
from stages.files.trained import Trained
from stages.tracking.store import global_store

PACKAGES = ("nets", "pushpull", "common_corruptions")  # imported by classifier.py
REQUIREMENTS = ("torch", "numpy", "scipy", "opencv-python-headless", "pillow", "tqdm")


def log_model(run: str, trained: Trained, seed: int, examples: np.ndarray) -> None:
    """Log one seed of a trained net to an MLflow run, with signature and input example.

    Args:
        run: id of the run.
        trained: the net.
        seed: the seed whose weights to log.
        examples: a few images uint8 (n, H, W, C).
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("uint8"), (-1, *examples.shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype("int64"), (-1,))]),
    )
    one = Trained(trained.arch, trained.options, trained.mean, trained.std, {seed: trained.weights[seed]})
    with global_store(), tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_id=run):
        path = Path(folder) / "net.pt"
        one.save(path)
        mlflow.pyfunc.log_model(
            name="net",
            python_model=str(Path(__file__).with_name("classifier.py")),
            artifacts={"net": str(path)},
            code_paths=[str(ROOT / name) for name in PACKAGES],
            signature=signature,
            input_example=examples,
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        )
