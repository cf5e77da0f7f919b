"""What the run of a training carries besides its numbers: data set, environment, use of the machine, duration.

The layout of a run in MLflow is that of `stages.tracking`; a copy on a server follows the run while it trains.
"""

import contextlib
import functools
import hashlib
import platform
from collections.abc import Iterator
from importlib.metadata import distributions, version
from pathlib import Path

from stages import datasets, sync, tracking

SECONDS = "train/seconds"  # metric: duration of the training
SECONDS_BETWEEN_SAMPLES = 5  # of CPU, memory and GPU; MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL changes it


@contextlib.contextmanager
def recording(client, run: str, data_name: str) -> Iterator[None]:
    """Around the training of one seed: its run ends as the training ends, with everything that it should carry."""
    log_environment(client, run)
    log_dataset(client, run, data_name)
    with sync.following(client, run), tracking.finishing(client, run), system_metrics(run):
        yield
        images = len(datasets.load_split(data_name, "train").labels)
        tracking.log_metrics(client, run, {SECONDS: round(training_seconds(client, run, images), 2)})


def training_seconds(client, run: str, images: int) -> float:
    """Time spent in epochs of `images` images, those before an interruption too."""
    return sum(images / speed.value for speed in client.get_metric_history(run, "train/images_per_second"))


def log_environment(client, run: str) -> None:
    """Versions: Python and torch as tags, to filter by, and every installed package as an artifact."""
    for key, value in {"python": platform.python_version(), "torch": version("torch")}.items():
        client.set_tag(run, key, value)
    installed = sorted({f"{one.name}=={one.version}" for one in distributions()}, key=str.lower)
    lines = [f"# Python {platform.python_version()}, {platform.platform()}", *installed]
    client.log_text(run, "\n".join(lines) + "\n", "environment.txt")


def log_dataset(client, run: str, name: str) -> None:
    """Give a run its data set as input: shapes, where it lies, and the digest of its clean images and labels."""
    import mlflow.data
    from mlflow.data.sources import LocalArtifactDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag

    train = datasets.load_split(name, "train")
    folder = datasets.DATASETS / name / "clean"
    source = LocalArtifactDatasetSource(str(folder))
    described = mlflow.data.from_numpy(
        train.images, source, train.labels, dataset_digest(folder), name
    ).to_dict()
    context = [InputTag("mlflow.data.context", "training")]
    client.log_inputs(run, datasets=[DatasetInput(Dataset(**described), context)])


@functools.cache
def dataset_digest(folder: Path) -> str:
    """32 hexadecimal digits (MLflow keeps 36) of the names and contents of the .npy files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.npy")):
        with open(path, "rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def system_metrics(run: str) -> Iterator[None]:
    """Sample the use of CPU, memory, disk, network and GPU (with pynvml) from a thread of MLflow's."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        run, SECONDS_BETWEEN_SAMPLES, resume_logging=True, tracking_uri=tracking.store_uri()
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
        # The thread drops the sample it was stopped in, the only one of a training shorter than the interval.
        monitor.collect_metrics()
        monitor.publish_metrics(monitor.aggregate_metrics())
        monitor.mlflow_logger.flush()
