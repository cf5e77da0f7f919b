"""What stops a command in the middle, said in one line: Ctrl-C, and a disk that takes no more.

The terminal sends Ctrl-C to a pipeline and to its running stage alike: the stage alone says what it means.
"""

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

STATUS = 128 + signal.SIGINT
# Numbers of errors: a disk has no room, or a folder may not be written.
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def stop(next_run: str) -> NoReturn:
    """End the process with one line: what the next run does, such as "starts anew"."""
    click.echo(f"Stopped; the next run {next_run}.", err=True)
    sys.exit(STATUS)


@contextmanager
def stopping(next_run: str) -> Iterator[None]:
    """Turn Ctrl-C into `stop(next_run)`, and a file that cannot be written into one line too."""
    try:
        with naming_refused_files(next_run):
            yield
    except KeyboardInterrupt:
        stop(next_run)


@contextmanager
def naming_refused_files(next_run: str) -> Iterator[None]:
    """Turn a disk that is full or read-only, or a folder of somebody else, into one line.

    Raises:
        click.ClickException: such a thing; other errors of the file system pass.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL + FORBIDDEN:
            raise
        place = error.filename or Path.cwd()  # a write that finds no room does not say where
        raise click.ClickException(
            f"{place}: {error.strerror}; put that right, the next run {next_run}"
        ) from None


def call(command: Sequence[str]) -> int:
    """Exit status of a command in this terminal; Ctrl-C is left to it, and it is waited for."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # SIG_IGN would be passed on to the command
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
