"""Record a training in MLflow: besides its curve the data set, environment, use of the machine and duration.

`runs.py` defines the layout of a run in MLflow; its copy on a server is updated during the training. What MLflow cannot
store while a net trains is logged later, or left out with a message: no training waits for it.
"""

import contextlib
import functools
import hashlib
import platform
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import distributions, version
from pathlib import Path

from stages.files import datasets
from stages.files.schema import Params
from stages.tracking import copies, runs
from stages.tracking.address import store_uri
from stages.tracking.store import patiently, spared

SECONDS = "train/seconds"  # metric: duration of the training
SECONDS_BETWEEN_SAMPLES = 5  # of CPU, memory and GPU; see also MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL

Log = Callable[[list[dict[str, float]]], object]  # takes the rows of a training curve so far


def begin(note: Path, params: Params, net: str, seed: int, device: str):
    """Start the run of a training, or resume that of an interrupted one; return the client and the id of the run.

    Args:
        note: file in the work folder with the id of the run. A run that was deleted since, or belongs to another
            experiment, is not resumed.
        params, net, seed: what is trained.
        device: hardware of the training.
    """
    experiment = runs.open_experiment(params)
    client = experiment.client
    if note.exists() and (found := runs.find_run(experiment, note.read_text(encoding="utf-8"))):
        if found.data.tags["mlflow.parentRunId"] == experiment.parent:
            client.update_run(found.info.run_id, status="RUNNING")
            return client, found.info.run_id
        if found.info.status == "RUNNING":  # killed in another experiment; nothing else would end it
            client.set_terminated(found.info.run_id, status="KILLED")
    run = runs.child_run(experiment, params, net, seed, {"device": device})
    patiently(lambda: note.write_text(run, encoding="utf-8"))
    return client, run


@contextlib.contextmanager
def recording(client, run: str, data_name: str) -> Iterator[Log]:
    """Context for the training of one seed: records everything about it and sets the final status of its run.

    Yields a function that logs the training curve.
    """
    spared(log_environment, client, run)
    spared(log_dataset, client, run, data_name)
    # The epochs before an interruption; if this fails, they are requested again later.
    logged = spared(runs.logged_epochs, client, run)
    rows: list[dict[str, float]] = []

    def log(curve: list[dict[str, float]]) -> None:
        rows[:] = curve
        spared(runs.log_curve, client.impatient(), run, rows, logged)

    with copies.following(client, run), runs.finishing(client, run), system_metrics(run):
        yield log
        spared(log_end, client, run, data_name, rows, logged)


def log_end(client, run: str, data_name: str, rows: list[dict[str, float]], logged: set[int] | None) -> None:
    """Log the missing part of the training curve, and the duration of the training."""
    runs.log_curve(client, run, rows, logged)
    images = len(datasets.load_split(data_name, "train").labels)
    runs.log_metrics(client, run, {SECONDS: round(training_seconds(rows, images), 2)})


def training_seconds(rows: list[dict[str, float]], images: int) -> float:
    """Time spent in all epochs of a training curve of `images` images each, also those before an interruption."""
    return sum(images / row["images_per_second"] for row in rows)


def log_environment(client, run: str) -> None:
    """Log versions: Python and torch as tags, to filter by, and every installed package as an artifact."""
    for key, value in {"python": platform.python_version(), "torch": version("torch")}.items():
        client.set_tag(run, key, value)
    lines = [f"# Python {platform.python_version()}, {platform.platform()}", *installed_packages()]
    client.log_text(run, "\n".join(lines) + "\n", "environment.txt")


@functools.cache
def installed_packages() -> tuple[str, ...]:
    """Every installed package as `name==version`, sorted by name; one file is read for each, once in a process."""
    metadata = [one.metadata for one in distributions()]
    return tuple(sorted({f"{one['Name']}=={one['Version']}" for one in metadata}, key=str.lower))


def log_dataset(client, run: str, name: str) -> None:
    """Log the data set as input of a run: shapes, location, and the digest of its clean images and labels."""
    import mlflow.data
    from mlflow.data.sources import LocalArtifactDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag

    train = datasets.load_split(name, "train")
    folder = datasets.DATASETS / name / "clean"
    source = LocalArtifactDatasetSource(str(folder))
    described = mlflow.data.from_numpy(
        train.images, source, train.labels, name=name, digest=dataset_digest(folder)
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
    """Sample the use of CPU, memory, disk, network and GPU (with pynvml) from a thread."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = spared(
        lambda: SystemMetricsMonitor(
            run, SECONDS_BETWEEN_SAMPLES, resume_logging=True, tracking_uri=store_uri()
        )
    )
    if monitor is None:
        yield
        return
    stop = threading.Event()

    def publish() -> None:
        monitor.publish_metrics(monitor.aggregate_metrics())

    def sample() -> None:  # replaces MLflow's own thread, which ends at the first failure
        while True:
            for _ in range(monitor.samples_before_logging):
                monitor.collect_metrics()
                if stop.wait(monitor.sampling_interval):
                    return
            spared(publish)

    thread = threading.Thread(target=sample, name="system metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        monitor.collect_metrics()
        spared(publish)
        spared(monitor.mlflow_logger.flush)
