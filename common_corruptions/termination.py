"""Handle SIGTERM during work that must not be left half done."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def on_sigterm(handle: Callable[[int], object]) -> Iterator[None]:
    """Let SIGTERM call `handle` with its number meanwhile, instead of ending the process.

    Outside the main thread, which alone may set handlers, SIGTERM keeps its usual effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: handle(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
