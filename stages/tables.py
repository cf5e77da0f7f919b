"""Tables as files: CSV that is the same for the same numbers, and Markdown."""

import os
from pathlib import Path

import pandas as pd


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table with eight significant digits, whole or not at all."""
    write_text(path, table.to_csv(index=False, float_format="%.8g"))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; the folder is made."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
