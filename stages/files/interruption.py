"""One-line messages for what interrupts a command: Ctrl-C, and a file that cannot be written.

The terminal sends Ctrl-C both to the pipeline and to its running stage; only the stage prints a message.
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
# errno values: no space is left on the disk, or a folder is not writable.
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def stop(next_run: str) -> NoReturn:
    """End the process with one line that says what the next run does, such as "starts over"."""
    click.echo(f"Stopped; the next run {next_run}.", err=True)
    sys.exit(STATUS)


@contextmanager
def stopping(next_run: str) -> Iterator[None]:
    """Turn Ctrl-C into `stop(next_run)`, and a file that cannot be written into a one-line error."""
    try:
        with naming_refused_files(next_run):
            yield
    except KeyboardInterrupt:
        stop(next_run)


@contextmanager
def naming_refused_files(next_run: str) -> Iterator[None]:
    """Turn the error of a full disk or of a missing write permission into one line.

    Raises:
        click.ClickException: on such an error; other OSErrors pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL + FORBIDDEN:
            raise
        place = error.filename or Path.cwd()  # the error of a full disk names no file
        raise click.ClickException(
            f"{place}: {error.strerror}; fix this and the next run {next_run}"
        ) from None


def call(command: Sequence[str]) -> int:
    """Run a command in this terminal and return its exit status; the command alone handles Ctrl-C."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # the command would inherit SIG_IGN
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
