"""SIGTERM while something runs that must not be left half done."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def on_sigterm(handle: Callable[[int], object]) -> Iterator[None]:
    """Meanwhile SIGTERM calls `handle` with its number and does not end the process.

    Off the main thread, which alone may set handlers, SIGTERM does what it does otherwise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: handle(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
