"""The code, versions and machine that a study was run with; MLflow stores them with the report page.

They are not part of the page or any other output, so that equal results give equal files on every machine.
"""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

from stages.files.schema import Params
from stages.tracking import runs
from stages.tracking.store import spared
from training.device import processor

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "scikit-learn",
    "dvc",
    "mlflow",
)


def code() -> str:
    """The commit, marked if the code differs from it."""
    return runs.described(runs.identity()["dvc.baseline"][:10]) or "not in Git"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    return {"Python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def machine() -> str:
    """Processor, cores and system of the machine that made the report, and its GPU if it has one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [processor(), f"{cores} cores", f"{platform.system()} {platform.machine()}"]
    if torch.cuda.is_available():
        parts.insert(0, torch.cuda.get_device_name())
    return ", ".join(parts)


def attach(params: Params, page: Path) -> None:
    """Log the page and its provenance to the MLflow run of this state of the workspace, if MLflow can be used."""
    spared(_attach, params, page)


def _attach(params: Params, page: Path) -> None:
    experiment = runs.open_experiment(params)
    client, parent = experiment.client, experiment.parent
    client.log_artifact(parent, str(page))
    facts = {"code": code(), "machine": machine(), **{f"version.{k}": v for k, v in versions().items()}}
    for key, value in facts.items():
        client.set_tag(parent, key, value)
    client.set_terminated(parent)
