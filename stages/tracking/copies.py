"""Copy runs from the local database to the MLflow server of MLFLOW_TRACKING_URI.

Stages write only to the database. Runs are copied from a thread while a net trains, and after the last stage. Every
copy names its original in a tag and keeps the timestamps of its values, so that an interrupted copy resumes where it
stopped and a repeated one changes nothing.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlparse

import requests
from tqdm import tqdm

from stages.files import workspace
from stages.tracking import address, failures, runs

ORIGIN = "copied.from"  # tag of a copy: id of the original
STATE = "copied.state"  # tag of an original: digest of the server's address and of the copied content
SECONDS_BETWEEN_COPIES = 5
SECONDS_TO_CONNECT = 10


class ServerError(Exception):
    """The server does not respond or refuses a request; the message is one line for the user."""


class Uploaded(NamedTuple):
    """How many runs the server lacked in whole or in part, and the total number of runs."""

    uploaded: int
    runs: int


def connect(server: str | None = None):
    """An MlflowClient of a server, by default that of MLFLOW_TRACKING_URI.

    Raises:
        ServerError: the server does not respond.
    """
    # No automatic retries: if a response was lost, the server must be checked before the request is repeated.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    server = server or address.server_uri()
    with _server_errors(server):
        requests.get(f"{server}/health", timeout=SECONDS_TO_CONNECT)
    return MlflowClient(tracking_uri=server, registry_uri=server)


def upload(local) -> Uploaded:
    """Copy every run, or part of a run, that the server lacks.

    Raises:
        ServerError: the server failed; the next call copies only what is still missing.
    """
    remote = connect()
    runs = [
        run for experiment in local.search_experiments() for run in _runs(local, experiment.experiment_id)
    ]
    runs = [run for run in runs if "role" in run.data.tags]
    runs.sort(key=lambda run: run.data.tags["role"] != "experiment")  # parents first
    with _server_errors(remote.tracking_uri):
        copies, deleted = _copies(remote)
        missing = []
        for run in runs:
            copied = run.data.tags.get(STATE) == _state(run, remote.tracking_uri)
            if run.info.run_id not in deleted and not (copied and run.info.run_id in copies):
                missing.append(run)
        for run in tqdm(missing, desc="uploading to MLflow", unit="run", disable=len(missing) < 2):
            copy_run(local, remote, run.info.run_id, copies)
    return Uploaded(len(missing), len(runs))


@contextlib.contextmanager
def following(local, run: str) -> Iterator[None]:
    """Copy a run to the server, if there is one, while its net trains and once more at the end.

    A failing server is reported once and tried again later; it neither delays nor ends the training.
    """
    server = address.server_uri()  # read now, since logging a model changes MLFLOW_TRACKING_URI temporarily
    if server is None:
        yield
        return
    local = local.impatient()
    stop = threading.Event()
    copies: dict[str, str] = {}
    sent: Sent = defaultdict(set)
    failed = False

    def copy() -> None:
        nonlocal failed
        try:
            remote = connect(server)
            with _server_errors(server):
                parent = local.get_run(run).data.tags["mlflow.parentRunId"]
                if parent not in copies:
                    copy_run(local, remote, parent, copies)
                copy_run(local, remote, run, copies, sent)
            failed = False
        except (ServerError, failures.StoreError) as error:
            if not failed:
                tqdm.write(
                    f"{error}; the run is kept here, `python -m stages.tracking sync` uploads it later"
                )
            failed = True

    def follow() -> None:
        while not stop.wait(SECONDS_BETWEEN_COPIES):
            copy()

    thread = threading.Thread(target=follow, name="copies to MLflow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        copy()


Sent = dict[str, set[tuple[int, int, str]]]  # metric -> time, step and value of each point on the server


def copy_run(local, remote, run_id: str, copies: dict[str, str], sent: Sent | None = None) -> None:
    """Update the copy of a run; its parent must have been copied before.

    Args:
        local: client of the store with the original.
        remote: client of the server.
        run_id: id of the original.
        copies: id of an original -> id of its copy; this run is added.
        sent: the points of every metric known to be on the server from earlier copies; updated.
    """
    with workspace.lock("copy"):  # otherwise two stages could copy the same parent twice
        run = local.get_run(run_id)
        copy = _copy_of(local, remote, run, copies)
        copies[run_id] = copy.info.run_id
        _copy_values(remote, run, copy, copies)
        _copy_metrics(local, remote, run, copy, defaultdict(set) if sent is None else sent)
        _copy_dataset(remote, run, copy)
        if run.info.status == "RUNNING":
            if copy.info.status != "RUNNING":  # a resumed training
                remote.update_run(copy.info.run_id, status="RUNNING")
            return
        if files := _artifacts(run):
            remote.log_artifacts(copy.info.run_id, str(files[0]))
        _copy_models(local, remote, run, copy)
        remote.set_terminated(copy.info.run_id, run.info.status, run.info.end_time)
        local.set_tag(run_id, STATE, _state(run, remote.tracking_uri))


def find_copy(remote, experiment: str, run_id: str):
    """The copy of a run on the server, or None."""
    found = remote.search_runs([experiment], f"tags.`{ORIGIN}` = '{run_id}'", max_results=1)
    return found[0] if found else None


def remote_experiment(local, remote, experiment: str) -> str:
    """Id on the server of the experiment with the same name as a local one; created if there is none."""
    original = local.get_experiment(experiment)
    found = find_experiment(remote, original.name)
    return found or remote.create_experiment(original.name, tags=original.tags)


def find_experiment(remote, name: str) -> str | None:
    """Id on the server of the experiment with a name, or None.

    Raises:
        ServerError: it was deleted there.
    """
    with _server_errors(remote.tracking_uri):
        found = remote.get_experiment_by_name(name)
    if found is None:
        return None
    if found.lifecycle_stage == "deleted":  # by somebody else, perhaps on purpose: do not restore it
        server = address.shown(remote.tracking_uri)
        raise ServerError(
            f"the experiment {name} was deleted on the MLflow server {server}; "
            f"`MLFLOW_TRACKING_URI={server} mlflow experiments restore -x {found.experiment_id}` restores it"
        )
    return found.experiment_id


def _copy_of(local, remote, run, copies: dict[str, str]):
    if run.info.run_id in copies:
        return remote.get_run(copies[run.info.run_id])
    experiment = remote_experiment(local, remote, run.info.experiment_id)
    return find_copy(remote, experiment, run.info.run_id) or remote.create_run(
        experiment, run.info.start_time, {ORIGIN: run.info.run_id}, run.info.run_name
    )


def _copy_values(remote, run, copy, copies: dict[str, str]) -> None:
    """Copy the parameters and tags that the copy lacks."""
    from mlflow.entities import RunTag

    tags = {key: value for key, value in run.data.tags.items() if key != STATE}
    if parent := tags.get("mlflow.parentRunId"):
        tags["mlflow.parentRunId"] = copies[parent]
    new_tags = [RunTag(key, value) for key, value in tags.items() if copy.data.tags.get(key) != value]
    if new_tags:
        remote.log_batch(copy.info.run_id, tags=new_tags)
    new = {key: value for key, value in run.data.params.items() if key not in copy.data.params}
    runs.log_params(remote, copy.info.run_id, new)


def _copy_metrics(local, remote, run, copy, sent: Sent) -> None:
    from mlflow.entities import Metric

    new = []
    for key in run.data.metrics:
        if key not in sent and key in copy.data.metrics:
            sent[key] = {_value(metric) for metric in remote.get_metric_history(copy.info.run_id, key)}
        for metric in local.get_metric_history(run.info.run_id, key):
            if _value(metric) not in sent[key]:
                new.append(Metric(key, metric.value, metric.timestamp, metric.step))
    for start in range(0, len(new), runs.MOST_METRICS):
        batch = new[start : start + runs.MOST_METRICS]
        remote.log_batch(copy.info.run_id, metrics=batch)
        for metric in batch:
            sent[metric.key].add(_value(metric))


def _value(metric) -> tuple[int, int, str]:
    return metric.timestamp, metric.step, repr(metric.value)  # as text, since nan is not equal to nan


def _copy_dataset(remote, run, copy) -> None:
    known = {(one.dataset.name, one.dataset.digest) for one in copy.inputs.dataset_inputs}
    new = [one for one in run.inputs.dataset_inputs if (one.dataset.name, one.dataset.digest) not in known]
    if new:
        remote.log_inputs(copy.info.run_id, datasets=new)


def _copy_models(local, remote, run, copy) -> None:
    """Copy the models that a run logged, with the ids that they and the run have on the server."""
    from mlflow.artifacts import download_artifacts
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model

    linked = {one.model_id for one in copy.outputs.model_outputs} if copy.outputs else set()
    for model in local.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"):
        if model.status != LoggedModelStatus.READY:
            continue
        found = remote.search_logged_models(
            [copy.info.experiment_id], f"tags.`{ORIGIN}` = '{model.model_id}'"
        )
        target = found[0] if found else remote.create_logged_model(
            copy.info.experiment_id, model.name, copy.info.run_id, {**model.tags, ORIGIN: model.model_id},
            model.params, model.model_type,
        )  # fmt: skip
        if target.status == LoggedModelStatus.READY:
            continue
        with tempfile.TemporaryDirectory() as folder:
            download_artifacts(
                artifact_uri=model.artifact_location, dst_path=folder, tracking_uri=address.store_uri()
            )
            (path,) = Path(folder).rglob("MLmodel")
            description = Model.load(str(path))
            description.run_id, description.model_id = copy.info.run_id, target.model_id
            description.model_uuid, description.artifact_path = target.model_id, target.artifact_location
            description.save(str(path))
            remote.log_model_artifacts(target.model_id, str(path.parent))
        if target.model_id not in linked:
            remote.log_outputs(copy.info.run_id, [LoggedModelOutput(target.model_id, step=0)])
        remote.finalize_logged_model(target.model_id, LoggedModelStatus.READY)


def _copies(remote) -> tuple[dict[str, str], set[str]]:
    """Id of each original -> id of its copy on the server, and the originals whose copy was deleted there."""
    from mlflow.entities import ViewType

    copies = {
        run.data.tags[ORIGIN]: run.info
        for experiment in remote.search_experiments()
        for run in _runs(remote, experiment.experiment_id, ViewType.ALL)
        if ORIGIN in run.data.tags
    }
    deleted = {origin for origin, info in copies.items() if info.lifecycle_stage == "deleted"}
    return {origin: info.run_id for origin, info in copies.items()}, deleted


def _runs(client, experiment: str, view: int = 1) -> Iterator:
    """All runs of an experiment; view 1 (ACTIVE_ONLY) leaves out the deleted ones."""
    token = None
    while True:
        page = client.search_runs([experiment], run_view_type=view, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _artifacts(run) -> list[Path]:
    """Local folder of a run's artifacts, followed by every file in it; empty if there are no files."""
    folder = Path(unquote(urlparse(run.info.artifact_uri).path))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [folder, *files] if files else []


def _state(run, server: str) -> str:
    """Digest of the server's address and of everything in a run that changes when there is more to copy."""
    data = run.data.to_dictionary()
    data["tags"].pop(STATE, None)
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in _artifacts(run)[1:]]
    text = json.dumps([server, dict(run.info), data, files], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextlib.contextmanager
def _server_errors(server: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except requests.RequestException:
        raise ServerError(f"the MLflow server {address.shown(server)} does not answer") from None
    except MlflowException as error:
        reason = " ".join(str(error).replace(server, address.shown(server)).split())[:200]
        raise ServerError(f"the MLflow server {address.shown(server)} failed: {reason}") from None
