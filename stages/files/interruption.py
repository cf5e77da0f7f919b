"""Ctrl-C, which the terminal sends to a pipeline and to its running stage alike: the stage alone says what it means."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click

STATUS = 128 + signal.SIGINT


def stop(next_run: str) -> NoReturn:
    """End the process with one line: what the next run does, such as "starts anew"."""
    click.echo(f"Stopped; the next run {next_run}.", err=True)
    sys.exit(STATUS)


@contextmanager
def stopping(next_run: str) -> Iterator[None]:
    """Turn Ctrl-C into `stop(next_run)`."""
    try:
        yield
    except KeyboardInterrupt:
        stop(next_run)


def call(command: Sequence[str]) -> int:
    """Exit status of a command in this terminal; Ctrl-C is left to it, and it is waited for."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # SIG_IGN would be passed on to the command
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
