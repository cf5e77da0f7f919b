"""Files of results: written whole or not at all; equal numbers give byte-identical CSV."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd


def read_table(
    path: Path, needed: Sequence[str], remedy: str = "remove it and run `dvc repro`"
) -> pd.DataFrame:
    """Read a table that a stage wrote.

    Args:
        path: a CSV file.
        needed: the columns it must have; others are allowed.
        remedy: what the error message advises if the file is damaged.

    Raises:
        FileNotFoundError: no such file.
        click.ClickException: not a CSV file, or columns are missing.
    """
    try:
        table = pd.read_csv(path)
    except ValueError as error:
        raise click.ClickException(f"{path} is not a table ({str(error).strip()}); {remedy}") from None
    if absent := [column for column in needed if column not in table]:
        raise click.ClickException(f"{path} has no column {', '.join(absent)}; {remedy}")
    return table


def show(text: str) -> None:
    """Print text, with a question mark for each character that the output encoding lacks."""
    encoding = sys.stdout.encoding
    click.echo(text.encode(encoding, "replace").decode(encoding))


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table with eight significant digits, whole or not at all."""
    write_text(path, table.to_csv(index=False, float_format="%.8g"))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; the folder is made."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; the folder is made."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as npz, whole or not at all; equal arrays give equal bytes."""
    with replacing(path) as part, open(part, "wb") as file:
        np.savez(file, **arrays)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write to, which replaces `path` when it is complete; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
