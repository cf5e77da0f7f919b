"""Where the unfinished files of a folder are made, by one run at a time.

Linux and macOS; the lock that keeps two runs apart is POSIX's.
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

    Meanwhile SIGTERM raises SystemExit, so that it is removed then too.

    Raises:
        OSError: another run holds it; the file system's own errors.
    """
    partial = folder / PARTIAL
    with on_sigterm(lambda number: sys.exit(128 + number)):
        partial.mkdir(parents=True, exist_ok=True)
        with open(partial / "lock", "w", encoding="utf-8") as lock:
            try:
                # The system lets go of it if the run is killed.
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
