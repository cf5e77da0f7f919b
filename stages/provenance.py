"""How a study was run: code, versions and machine of this moment, and what MLflow recorded of each training.

The report alone uses this. Its page is the last file of the pipeline and nothing depends on it, so facts of a machine
do not spread to the measurements, which are the same wherever they come out the same.
"""

import os
import platform
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch

from stages import tracking
from stages.params import Params

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "opencv-python-headless",
    "scikit-learn",
    "dvc",
    "mlflow",
)

COLUMNS = ["net", "seed", "device", "epochs", "seconds", "images_per_second"]


def code() -> str:
    """The commit, and whether files other than results differ from it."""
    commit = tracking.identity()["dvc.baseline"]
    if not commit:
        return "not in Git"
    changed = tracking.git("status", "--porcelain", "--", ".", ":!metrics", ":!dvc.lock")
    return commit[:10] + (", with changes that are not committed" if changed else "")


def versions() -> dict[str, str]:
    """Python and the packages whose versions can decide a result."""
    return {"Python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def processor() -> str:
    """Name of the processor; its architecture where the system does not say more."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = (line.partition(":") for line in lines)
    other = platform.processor() or platform.machine()
    return next((value.strip() for key, _, value in named if key.strip() == "model name"), other)


def machine() -> str:
    """Processor, cores and system of the machine that made the report, and its GPU if it has one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [processor(), f"{cores} cores", f"{platform.system()} {platform.machine()}"]
    if torch.cuda.is_available():
        parts.insert(0, torch.cuda.get_device_name())
    return ", ".join(parts)


def trainings(params: Params, images: int) -> pd.DataFrame:
    """What MLflow holds of the newest whole training of each net and seed with these parameters.

    A net that came from DVC's cache or from another machine has no training here and no row.

    Args:
        params: params.yaml.
        images: how many the nets are trained on.

    Returns:
        net, seed, device ("cpu" or the name of a GPU), epochs, seconds (training, with the test after each epoch, and
        without pauses), images_per_second (mean over the epochs).
    """
    client = tracking.connect()
    experiment = tracking.experiment_id(client, params.data.name)
    rows = []
    for net in params.nets:
        epochs = params.training(net).epochs
        for seed in params.training(net).seeds:
            wanted = {key: str(value) for key, value in tracking.net_params(params, net, seed).items()}
            found = client.search_runs(
                [experiment],
                f"tags.role = 'net' and tags.net = '{net}' and tags.seed = '{seed}'",
                order_by=["attributes.start_time DESC"],
            )
            for run in found:
                if run.data.params != wanted or "train/images_per_second" not in run.data.metrics:
                    continue
                history = client.get_metric_history(run.info.run_id, "train/images_per_second")
                speeds = {metric.step: metric.value for metric in history}
                if len(speeds) < epochs:
                    continue
                seconds = sum(images / speed for speed in speeds.values())
                speed = images * epochs / seconds
                rows.append((net, seed, run.data.tags.get("device", ""), epochs, seconds, speed))
                break
    return pd.DataFrame(rows, columns=COLUMNS)


def attach(params: Params, page: Path) -> None:
    """Put the page beside the results of this state of the workspace in MLflow."""
    client = tracking.connect()
    experiment = tracking.experiment_id(client, params.data.name)
    parent = tracking.parent_run(client, experiment, params)
    client.log_artifact(parent, str(page))
    client.set_terminated(parent)
