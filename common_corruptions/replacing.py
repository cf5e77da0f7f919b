"""Write a file completely or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def check_writable(folder: Path) -> None:
    """Try to write to a folder, or, if it does not exist, to its nearest existing parent; leaves nothing there.

    Raises:
        OSError: nothing can be written there.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise type(error)(f"cannot write to {place}: {error.strerror}") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden file to write to, beside `path`, which replaces `path` when it is complete.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
