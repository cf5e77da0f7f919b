"""Where MLflow keeps the runs, and what is done while it cannot: MLflow is a mirror, no training ends by it.

The store is the database at `stages.tracking.address.store_uri`. A server over http is never written to from here;
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

PATIENCE = 300.0  # seconds that a locked database, or a disk without room, is waited for
LOCKED = 5.0  # seconds, longer than MLflow ever holds a lock
POLL = 1.0  # seconds between two attempts meanwhile

T = TypeVar("T")


def connect() -> Any:
    """An MlflowClient of the store, whose calls wait where waiting helps; the first one creates the database.

    Raises:
        click.ClickException: MLFLOW_TRACKING_URI names no store.
        StoreError: the store cannot be used.
    """
    uri = store_uri()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    # What these say of a new database is no news here, and a failure is said in one line.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def construct() -> MlflowClient:
        probe(uri)  # MLflow itself would try for minutes, without a word
        # The client makes the database already as it is constructed, and two processes that make it at once break it.
        with lock("mlflow"):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
        return client

    return PatientClient(patiently(construct), PATIENCE)


class PatientClient:
    """An MlflowClient whose calls are repeated while the database is locked or its disk has no room.

    Each raises a StoreError where the store cannot be used, or that lasts longer than `patience` seconds.
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
                probe(store_uri())  # SQLite itself waits for 20 seconds
            return patiently(lambda: value(*args, **kwargs), self._patience)

        return call

    def impatient(self) -> "PatientClient":
        """The same client, which does not wait."""
        return PatientClient(self._client, 0)


@contextlib.contextmanager
def global_store() -> Iterator[None]:
    """What of MLflow names no store, on the store of the pipeline.

    MLflow notes that in MLFLOW_TRACKING_URI, which for us may name the server that gets the copies: it is set back.
    """
    import mlflow

    setting = os.environ.get(SETTING)
    mlflow.set_tracking_uri(store_uri())
    try:
        yield
    finally:
        mlflow.set_tracking_uri(setting)  # None removes the variable


def patiently(step: Callable[[], T], patience: float | None = None) -> T:
    """Do a step with the store or the disk; while that fails by something that passes, say so once and repeat it.

    Args:
        step: what to do, which may be done twice; its result is returned.
        patience: for how many seconds, by default PATIENCE.

    Raises:
        StoreError: the store cannot be used, or not in that time.
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
    """Do a step with MLflow that the work can do without: where it fails, say so, each reason once, and go on.

    Returns:
        What `step(*args)` returns; None where it failed.
    """
    from mlflow.exceptions import MlflowException

    try:
        with failures():
            return step(*args)
    except (StoreError, MlflowException) as error:
        _say_once(
            f"{in_one_line(error)}; the work goes on, and `make repro` gives MLflow the results at its end"
        )
    return None


@functools.cache
def _say_once(message: str) -> None:
    tqdm.write(message)


def probe(uri: str) -> None:
    """Return if a store answers and can be written now.

    Raises:
        click.ClickException: the Python package for this kind of database is not installed.
        StoreError: it does not answer, or another process holds a lock; at once.
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
