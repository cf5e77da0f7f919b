"""Where the unfinished files of a folder are made, by one run at a time.

Linux and macOS; the lock that keeps two runs apart is POSIX's.
"""

import contextlib
import fcntl
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"


@contextlib.contextmanager
def working_folder(folder: Path) -> Iterator[Path]:
    """An empty folder in `folder` for unfinished files, held by this run alone and removed at its end.

    Meanwhile SIGTERM raises SystemExit, so that it is removed then too.

    Raises:
        OSError: another run holds it; the file system's own errors.
    """
    partial = folder / PARTIAL
    with _sigterm_as_exit():
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


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
