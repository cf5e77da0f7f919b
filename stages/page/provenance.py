"""On what a study was run: code, versions and machine, which MLflow keeps with the report page.

They are no part of the page or of any other output: the same results give the same files wherever they come out.
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
    """The commit, marked where code differs from it."""
    return runs.described(runs.identity()["dvc.baseline"][:10]) or "not in Git"


def versions() -> dict[str, str]:
    """Python and the packages whose versions can decide a result."""
    return {"Python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def machine() -> str:
    """Processor, cores and system of the machine that made the report, and its GPU if it has one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [processor(), f"{cores} cores", f"{platform.system()} {platform.machine()}"]
    if torch.cuda.is_available():
        parts.insert(0, torch.cuda.get_device_name())
    return ", ".join(parts)


def attach(params: Params, page: Path) -> None:
    """Put the page, and what made it, beside the results of this state of the workspace, where MLflow can be used."""
    spared(_attach, params, page)


def _attach(params: Params, page: Path) -> None:
    experiment = runs.open_experiment(params)
    client, parent = experiment.client, experiment.parent
    client.log_artifact(parent, str(page))
    facts = {"code": code(), "machine": machine(), **{f"version.{k}": v for k, v in versions().items()}}
    for key, value in facts.items():
        client.set_tag(parent, key, value)
    client.set_terminated(parent)
