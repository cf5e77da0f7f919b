"""Where MLflow keeps the runs, and what is done while it cannot: MLflow is a mirror, no training ends by it.

The store is the database beside the pipeline, or the one that MLFLOW_TRACKING_URI names. A server over http is never
written to from here; `stages.tracking.copies` copies the runs to it.
"""

import contextlib
import errno
import functools
import logging
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import click
from tqdm import tqdm

from stages.files.workspace import lock, root

PATIENCE = 300.0  # seconds that a locked database, or a disk without room, is waited for
LOCKED = 5.0  # seconds, longer than MLflow ever holds a lock
POLL = 1.0  # seconds between two attempts meanwhile
SETTING = "MLFLOW_TRACKING_URI"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # that MLflow writes to

T = TypeVar("T")


class StoreError(click.ClickException):
    """The store cannot be read or written; the message is one line for the user.

    Attributes:
        passes: whether waiting can help, as while another process holds a lock.
    """

    def __init__(self, message: str, *, passes: bool = False) -> None:
        super().__init__(message)
        self.passes = passes


def server_uri() -> str | None:
    """MLFLOW_TRACKING_URI where it is a server over http, which gets a copy of every run; otherwise None."""
    scheme, mark, rest = os.environ.get(SETTING, "").strip().partition("://")
    return f"{scheme.lower()}://{rest.rstrip('/')}" if mark and scheme.lower() in ("http", "https") else None


def own_store() -> str:
    """The database beside the pipeline."""
    return sqlite_uri(root() / "mlflow.db")


def store_uri() -> str:
    """The store that every stage writes to; a file that MLFLOW_TRACKING_URI names lies relative to the repository.

    Raises:
        click.ClickException: MLFLOW_TRACKING_URI is neither a database nor a server.
    """
    uri = os.environ.get(SETTING, "").strip()
    if not uri or server_uri():
        return own_store()
    scheme, _, rest = uri.partition("://")
    if scheme.lower().partition("+")[0] not in DATABASES or "://" not in uri:
        raise click.ClickException(
            f"{SETTING} is {shown(uri)}, and runs are kept in a database (sqlite:///mlflow.db, postgresql://...) "
            "or copied to a server (http://localhost:5000)"
        )
    if not scheme.lower().startswith("sqlite"):
        return uri
    file, mark, options = rest.removeprefix("/").partition("?")
    if not file or file.startswith((":memory:", "file:")):
        raise click.ClickException(f"{SETTING} is {uri}, and must name a file: sqlite:///mlflow.db")
    return sqlite_uri(root() / unquote(file)) + mark + options


def sqlite_uri(path: Path) -> str:
    """The address of a database in a file, which SQLAlchemy takes to be quoted like that of a page."""
    quoted = quote(str(path))
    # For `sqlite:` MLflow makes the folder that the address names, without undoing the quotes.
    return f"sqlite:///{path}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"


def _file(uri: str) -> Path | None:
    """The file of an SQLite database; None for a database on a server."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(unquote(found[1])) if found else None


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
        _say_once(f"{_line(error)}; the work goes on, and `make repro` gives MLflow the results at its end")
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
        file = _file(uri)
        if file is None:
            import sqlalchemy.exc

            try:
                sqlalchemy.create_engine(uri).connect().close()
            except (ImportError, sqlalchemy.exc.ArgumentError) as error:
                raise click.ClickException(f"{SETTING} is {shown(uri)}: {_line(error)}") from None
        elif file.exists():
            with contextlib.closing(sqlite3.connect(file, timeout=LOCKED, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turn what comes of a store that cannot be used into a StoreError; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = error.filename or root()
            raise StoreError(f"no space is left on the disk of {place}", passes=True) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreError(f"{error.filename or root()} cannot be written: {error.strerror}") from None
        raise
    except Exception as error:
        cause = _of_database(error)
        if cause is None:
            raise
        raise _explained(cause) from None


def _of_database(error: BaseException) -> BaseException | None:
    """The error of the database that MLflow and SQLAlchemy report, if it is one."""
    import sqlalchemy.exc

    unusable = (
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.InterfaceError,
        sqlalchemy.exc.InternalError,
    )
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, unusable) or type(seen) is sqlalchemy.exc.DatabaseError:  # that: a damaged file
            return seen.orig
        if isinstance(seen, sqlite3.Error):
            return seen
        seen = seen.__cause__
    return error if _schema_of(error) else None


def _schema_of(error: BaseException) -> str | None:
    """The version of the schema of a database that MLflow, or Alembic for it, refuses because it is not its own."""
    found = re.search(
        r"(?:database schema \(found version |locate revision identified by ')(\w+)", str(error)
    )
    return found[1] if found else None


def _migration(schema: str, uri: str) -> str:
    """What is the matter with a database of another schema, and what to do."""
    import mlflow.store.db_migrations

    (migrations,) = mlflow.store.db_migrations.__path__
    if any(Path(migrations, "versions").glob(f"{schema}_*.py")):  # the way from there is known
        return f"is of an earlier MLflow; copy it, then run `mlflow db upgrade {shlex.quote(shown(uri))}`"
    return f"is of a later MLflow than {mlflow.__version__}, which is installed here; install that, or move it away"


def _explained(error: BaseException) -> StoreError:
    uri = store_uri()
    name = f"MLflow's database {_file(uri) or shown(uri)}"
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{name} is locked by another process", passes=True)
    if schema := _schema_of(error):
        return StoreError(f"{name} {_migration(schema, uri)}")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"{name} cannot grow, its disk is full", passes=True)
    return StoreError(f"{name} cannot be used: {_line(error)}")


def shown(uri: str) -> str:
    """An address without the password in it."""
    return re.sub(r"(://[^/@:]*:)[^/]*@", r"\1***@", uri)


def without_user(uri: str) -> str:
    """The address of a server as a browser opens it, which asks for the name and the password itself."""
    return re.sub(r"://[^/]*@", "://", uri)


def _line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:300]
