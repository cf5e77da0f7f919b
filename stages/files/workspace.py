"""The repository that a stage runs for: its root, its state in Git, and the locks that its processes share."""

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from filelock import FileLock

MODELS = Path("models")  # trained nets, relative to the folder of a pipeline


def root() -> Path:
    """The root of the DVC repository; for an experiment in a temporary folder, of the one it was started from."""
    if named := os.environ.get("DVC_ROOT"):
        return Path(named).resolve()
    here = Path.cwd()
    # Not Git's root: a copy of this repository may lie inside another one.
    marked = (
        folder
        for marker in (".dvc", "dvc.yaml")
        for folder in (here, *here.parents)
        if (folder / marker).exists()
    )
    return next(marked, here)


def below_root(path: str) -> Path:
    """Resolve a path of params.yaml: relative paths are relative to the repository, `~` is the home folder.

    Raises:
        click.ClickException: the path names the home folder of an unknown user.
    """
    try:
        return root() / Path(path).expanduser()
    except RuntimeError:
        raise click.ClickException(f"{path}: there is no such user; write the path of the folder") from None


def scratch() -> Path:
    """Folder for locks and unfinished work; Git ignores it and all experiments share it."""
    folder = root() / ".dvc" / "tmp" / "pushpull"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lock(name: str) -> "FileLock":
    """A lock between processes, released by the system when its holder dies."""
    from filelock import FileLock  # here, for a GPU machine without it, where nothing is locked

    return FileLock(scratch() / f"{name}.lock")


def git(*arguments: str) -> str:
    """Output of a Git command in this folder; empty outside a repository, or if Git fails without a message.

    Raises:
        click.ClickException: Git fails with a message, as in a clone that another user owns, or is not installed.
    """
    here = Path.cwd()
    if not any((folder / ".git").exists() for folder in (here, *here.parents)):
        return ""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except FileNotFoundError:
        raise click.ClickException("git is not installed, but every run records its commit") from None
    if done.returncode and done.stderr:
        raise click.ClickException(f"git {arguments[0]} failed: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def marked(short: str, *places: str) -> str:
    """A commit as in `git describe --dirty`: marked `-dirty` if what Git knows at these places differs from it.

    Raises:
        click.ClickException: as `git`.
    """
    changed = short and git("--no-optional-locks", "status", "--porcelain", "--", *places)
    return short + ("-dirty" if changed else "")


def commit() -> str:
    """The commit that is checked out; empty if there is none, or in a copy that Git does not track."""
    return git("rev-parse", "--verify", "--quiet", "HEAD") if git("ls-files", "params.yaml") else ""
