"""A folder for unfinished files, used by one run at a time.

Linux and macOS only: the lock that excludes other runs is POSIX's.
"""

import contextlib
import fcntl
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from common_corruptions.termination import on_sigterm

PARTIAL = ".partial"


@contextlib.contextmanager
def working_folder(folder: Path) -> Iterator[Path]:
    """An empty folder in `folder` for unfinished files, held by this run alone and removed at its end.

    Meanwhile SIGTERM raises SystemExit, so that the folder is removed in that case too.

    Raises:
        OSError: another run holds it; errors of the file system.
    """
    partial = folder / PARTIAL
    with on_sigterm(lambda number: sys.exit(128 + number)):
        partial.mkdir(parents=True, exist_ok=True)
        with open(partial / "lock", "w", encoding="utf-8") as lock:
            try:
                # The system releases the lock if the run is killed.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(f"another run is writing to {folder}; wait for it, or stop it") from None
            for leftover in partial.iterdir():  # of a run that was killed
                if leftover.name != "lock":
                    leftover.unlink()
            try:
                yield partial
            finally:
                shutil.rmtree(partial)
