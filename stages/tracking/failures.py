"""One-line messages that say why MLflow's store cannot be used."""

import contextlib
import re
import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import click

from stages.files.interruption import FORBIDDEN, FULL
from stages.files.workspace import root
from stages.tracking.address import file_of, shown, store_uri


class StoreError(click.ClickException):
    """The store cannot be read or written; the message is one line for the user.

    Attributes:
        passes: whether waiting can help, for example while another process holds a lock.
    """

    def __init__(self, message: str, *, passes: bool = False) -> None:
        super().__init__(message)
        self.passes = passes


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turn the errors of a store that cannot be used into a StoreError; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            place = error.filename or root()
            raise StoreError(f"no space is left on the disk of {place}", passes=True) from None
        if error.errno in FORBIDDEN:
            raise StoreError(f"{error.filename or root()} cannot be written: {error.strerror}") from None
        raise
    except Exception as error:
        cause = _of_database(error)
        if cause is None:
            raise
        raise _explained(cause) from None


def _of_database(error: BaseException) -> BaseException | None:
    """The database error behind an error of MLflow or SQLAlchemy; None if there is none."""
    import sqlalchemy.exc

    unusable = (
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.InterfaceError,
        sqlalchemy.exc.InternalError,
    )
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, unusable) or type(seen) is sqlalchemy.exc.DatabaseError:  # itself: a damaged file
            return seen.orig
        if isinstance(seen, sqlite3.Error):
            return seen
        seen = seen.__cause__
    return error if _schema_of(error) else None


def _schema_of(error: BaseException) -> str | None:
    """The database's schema version if MLflow or Alembic refused it as not their own; otherwise None."""
    found = re.search(
        r"(?:database schema \(found version |locate revision identified by ')(\w+)", str(error)
    )
    return found[1] if found else None


def _migration(schema: str, uri: str) -> str:
    """Describe what is wrong with a database of another schema version, and what to do."""
    import mlflow.store.db_migrations

    (migrations,) = mlflow.store.db_migrations.__path__
    if any(Path(migrations, "versions").glob(f"{schema}_*.py")):  # there is a migration from it
        return f"is from an older MLflow; back it up, then run `mlflow db upgrade {shlex.quote(shown(uri))}`"
    return f"is from a newer MLflow than the installed {mlflow.__version__}; upgrade MLflow or move the database away"


def _explained(error: BaseException) -> StoreError:
    uri = store_uri()
    name = f"MLflow's database {file_of(uri) or shown(uri)}"
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{name} is locked by another process", passes=True)
    if schema := _schema_of(error):
        return StoreError(f"{name} {_migration(schema, uri)}")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"{name} cannot grow, its disk is full", passes=True)
    return StoreError(f"{name} cannot be used: {in_one_line(error)}")


def in_one_line(error: BaseException) -> str:
    """The message of an error, in one line."""
    return " ".join(str(error).split())[:300]
