"""Read files of `torch.save` without executing anything in them."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch


def read_checkpoint(source: str | os.PathLike | bytes) -> Any:
    """Return the tensors and plain values in a file, or in its bytes, on the CPU.

    Raises:
        OSError: the file does not exist or cannot be opened.
        ValueError: it is damaged, or holds anything but tensors and plain values; nothing in it was executed.
    """
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        damaged = _damaged_record(content)
        found = None if damaged else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling damaged or hostile bytes fails in any number of ways
        raise ValueError("it is damaged, or holds more than tensors and plain values") from error
    if damaged:
        raise ValueError(f"the checksum of {damaged} is wrong")
    return found


def _damaged_record(content: bytes) -> str | None:
    """Name of the first damaged file in a zip archive, as PyTorch ignores checksums; its older format has none."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return None
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.testzip()
