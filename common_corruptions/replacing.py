"""A file that is written whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def check_writable(folder: Path) -> None:
    """Try to write to a folder, or, where it is not there, to the nearest one above it that is; nothing stays there.

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
        raise type(error)(f"nothing can be written to {place}: {error.strerror}") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The file to write to, which takes the place of `path` when it is whole; hidden, beside it.

    Raises:
        OSError: the folder is not there, or cannot be written to.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
