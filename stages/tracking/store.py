"""MLflow's store of runs, and what to do while it cannot be used: MLflow is a mirror and never ends a training.

The store is the database at `stages.tracking.address.store_uri`. This module never writes to an HTTP server;
`stages.tracking.copies` copies the runs to it.
"""

import contextlib
import functools
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click
from tqdm import tqdm

from stages.files.workspace import lock
from stages.tracking.address import SETTING, file_of, shown, store_uri
from stages.tracking.failures import StoreError, failures, in_one_line

PATIENCE = 300.0  # seconds to wait for a locked database or a full disk
LOCKED = 5.0  # seconds, longer than MLflow ever holds a lock
POLL = 1.0  # seconds between two attempts

T = TypeVar("T")


def connect() -> Any:
    """An MlflowClient of the store whose calls wait if waiting can help; the first connection creates the database.

    Raises:
        click.ClickException: MLFLOW_TRACKING_URI names no store.
        StoreError: the store cannot be used.
    """
    uri = store_uri()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    # Their messages about a new database are of no interest here, and failures are reported in one line.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def construct() -> MlflowClient:
        probe(uri)  # MLflow itself would retry silently for minutes
        # The constructor creates the database; two processes that do so at the same time would corrupt it.
        with lock("mlflow"):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
        return client

    return PatientClient(patiently(construct), PATIENCE)


class PatientClient:
    """An MlflowClient whose calls are repeated while the database is locked or its disk is full.

    Calls raise StoreError if the store cannot be used, or if that condition lasts longer than `patience` seconds.
    """

    def __init__(self, client: Any, patience: float) -> None:
        self._client = client
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not callable(value):
            return value

        @functools.wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self._patience:
                probe(store_uri())  # SQLite itself would wait for 20 seconds
            return patiently(lambda: value(*args, **kwargs), self._patience)

        return call

    def impatient(self) -> "PatientClient":
        """The same client, which does not wait."""
        return PatientClient(self._client, 0)


@contextlib.contextmanager
def global_store() -> Iterator[None]:
    """Direct the MLflow functions that take no store to the store of the pipeline.

    MLflow writes its address to MLFLOW_TRACKING_URI, which may name the server for the copies; it is restored.
    """
    import mlflow

    setting = os.environ.get(SETTING)
    mlflow.set_tracking_uri(store_uri())
    try:
        yield
    finally:
        mlflow.set_tracking_uri(setting)  # None removes the variable


def patiently(step: Callable[[], T], patience: float | None = None) -> T:
    """Call `step`, which uses the store or the disk; repeat it while it fails for a temporary reason, reported once.

    Args:
        step: must be safe to repeat; its result is returned.
        patience: how long to repeat, in seconds; by default PATIENCE.

    Raises:
        StoreError: the store cannot be used, or not within that time.
    """
    deadline = time.monotonic() + (PATIENCE if patience is None else patience)
    waiting = False
    while True:
        try:
            with failures():
                return step()
        except StoreError as error:
            if not error.passes or time.monotonic() >= deadline:
                raise
            if not waiting:
                tqdm.write(f"{error}; waiting")
            waiting = True
            time.sleep(POLL)


def spared(step: Callable[..., T], *args: Any) -> T | None:
    """Call an MLflow step that the work does not depend on; if it fails, report each reason once and continue.

    Returns:
        The result of `step(*args)`; None if it failed.
    """
    from mlflow.exceptions import MlflowException

    try:
        with failures():
            return step(*args)
    except (StoreError, MlflowException) as error:
        _say_once(
            f"{in_one_line(error)}; the work continues, and `make repro` logs the results to MLflow at its end"
        )
    return None


@functools.cache
def _say_once(message: str) -> None:
    tqdm.write(message)


def probe(uri: str) -> None:
    """Check that a store responds and can be written now.

    Raises:
        click.ClickException: the Python package for this kind of database is not installed.
        StoreError: the store does not respond, or another process keeps it locked for LOCKED seconds.
    """
    with failures():
        file = file_of(uri)
        if file is None:
            import sqlalchemy.exc

            try:
                sqlalchemy.create_engine(uri).connect().close()
            except (ImportError, sqlalchemy.exc.ArgumentError) as error:
                raise click.ClickException(f"{SETTING} is {shown(uri)}: {in_one_line(error)}") from None
        elif file.exists():
            with contextlib.closing(sqlite3.connect(file, timeout=LOCKED, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
