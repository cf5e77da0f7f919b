"""The address of MLflow's store: the local database, or the one that MLFLOW_TRACKING_URI names."""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

import click

from stages.files.workspace import root

SETTING = "MLFLOW_TRACKING_URI"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # that MLflow writes to


def server_uri() -> str | None:
    """MLFLOW_TRACKING_URI if it names an HTTP server, which gets a copy of every run; otherwise None."""
    scheme, mark, rest = os.environ.get(SETTING, "").strip().partition("://")
    return f"{scheme.lower()}://{rest.rstrip('/')}" if mark and scheme.lower() in ("http", "https") else None


def own_store() -> str:
    """The local database, at the root of the repository."""
    return sqlite_uri(root() / "mlflow.db")


def store_uri() -> str:
    """The store that every stage writes to; a file in MLFLOW_TRACKING_URI is relative to the repository.

    Raises:
        click.ClickException: MLFLOW_TRACKING_URI is neither a database nor a server.
    """
    uri = os.environ.get(SETTING, "").strip()
    if not uri or server_uri():
        return own_store()
    scheme, _, rest = uri.partition("://")
    if scheme.lower().partition("+")[0] not in DATABASES or "://" not in uri:
        raise click.ClickException(
            f"{SETTING} is {shown(uri)}, but must be a database (sqlite:///mlflow.db, postgresql://...) "
            "or a server (http://localhost:5000)"
        )
    if not scheme.lower().startswith("sqlite"):
        return uri
    file, mark, options = rest.removeprefix("/").partition("?")
    if not file or file.startswith((":memory:", "file:")):
        raise click.ClickException(f"{SETTING} is {uri}, but must name a file: sqlite:///mlflow.db")
    return sqlite_uri(root() / unquote(file)) + mark + options


def sqlite_uri(path: Path) -> str:
    """The address of a database file; SQLAlchemy expects it percent-encoded like a URL."""
    quoted = quote(str(path))
    # For `sqlite:` MLflow creates the folder in the address without decoding it.
    return f"sqlite:///{path}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"


def file_of(uri: str) -> Path | None:
    """The file of an SQLite database; None for a database on a server."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    return Path(unquote(found[1])) if found else None


def shown(uri: str) -> str:
    """An address with its password masked."""
    return re.sub(r"(://[^/@:]*:)[^/]*@", r"\1***@", uri)


def without_user(uri: str) -> str:
    """The address of a server without user name and password, which a browser asks for itself."""
    return re.sub(r"://[^/]*@", "://", uri)
