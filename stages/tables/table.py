"""Write tables to files: CSV (byte-identical for equal numbers), Markdown, LaTeX, and JSON for the report page."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pandas as pd

from stages.files.writing import write_csv, write_text

Display: TypeAlias = pd.DataFrame | Mapping[str, pd.DataFrame]
"""What a table shows: cells of text, `**bold**` where marked, one heading a column; or several parts by heading."""


class Table(NamedTuple):
    """A table to be written: the arguments of `write_table`; `note` is specific to the table."""

    name: str
    title: str
    note: str
    display: Display
    tidy: pd.DataFrame


def write_table(
    folder: Path, name: str, display: Display, *, tidy: pd.DataFrame, title: str, note: str
) -> None:
    """Write one table: `<name>.csv` with the numbers, `<name>.md` and `<name>.tex` (booktabs), `<name>.json` as shown.

    Args:
        folder: folder to write to; it is created.
        name: name of the files, and `tab:<name>` in LaTeX.
        display: the cells as text; the index is not shown.
        tidy: the numbers behind them, one row each.
        title: one line, without a full stop.
        note: sentences that explain the numbers; first lines in Markdown, caption in LaTeX.

    Raises:
        TypeError: a cell or heading of `display` is not text.
    """
    page = f"# {title}\n\n{note}\n\n{markdown(display, level=2)}\n"
    source = latex(name, display, title, note)
    shown = json.dumps(data(display, title, note), indent=1, ensure_ascii=False)
    write_csv(folder / f"{name}.csv", tidy)
    write_text(folder / f"{name}.md", page)
    write_text(folder / f"{name}.tex", source)
    write_text(folder / f"{name}.json", f"{shown}\n")


def markdown(display: Display, level: int) -> str:
    """The table, or every part below its heading of that level, in GitHub-flavoured Markdown."""
    shown = []
    for heading, part in parts_of(display).items():
        table = part.map(lambda cell: cell.replace("|", r"\|")).rename(
            columns=lambda c: c.replace("|", r"\|")
        )
        text = table.to_markdown(index=False, disable_numparse=True)
        shown.append(f"{'#' * level} {heading}\n\n{text}" if heading else text)
    return "\n\n".join(shown)


def latex(name: str, display: Display, title: str, note: str) -> str:
    r"""A `table` environment for each part, for a document with `\usepackage{booktabs}`."""
    environments = []
    for i, (heading, part) in enumerate(parts_of(display).items()):
        caption = f"{title}, {heading}." if heading else f"{title}."
        label = name if i == 0 else f"{name}-{i + 1}"
        style = part.style.hide(axis="index").format(_latex_cell).format_index(escape_latex, axis=1)
        environments.append(
            style.to_latex(
                hrules=True,
                position_float="centering",
                column_format="".join("r" if numeric(part[column]) else "l" for column in part),
                caption=escape_latex(f"{caption} {note}" if i == 0 else caption),
                label=f"tab:{label}",
            )
        )
    return "% \\usepackage{booktabs}\n" + "\n".join(environments)


def data(display: Display, title: str, note: str) -> dict[str, Any]:
    """The data that the report page shows: title, note and parts with heading, columns, which are numeric, and rows."""
    parts = [
        {
            "heading": heading,
            "columns": list(part.columns),
            "numeric": [numeric(part[column]) for column in part],
            "rows": part.to_numpy().tolist(),
        }
        for heading, part in parts_of(display).items()
    ]
    return {"title": title, "note": note, "parts": parts}


def parts_of(display: Display) -> Mapping[str, pd.DataFrame]:
    """The parts by heading; a table of one part has the heading "".

    Raises:
        TypeError: a cell or heading is not text.
    """
    parts = display if isinstance(display, Mapping) else {"": display}
    for part in parts.values():
        for text in (*part.columns, *part.to_numpy().ravel()):
            if not isinstance(text, str):
                raise TypeError(f"a table shows text alone, got {text!r}")
    return parts


def numeric(column: pd.Series) -> bool:
    """Whether a column holds numbers, such as `**-2.97 ± 0.92**` or `[-3.1, +0.4]`, and is aligned to the right."""
    return bool(column.str.match(r"(\*\*)?\[?[+-]?\d").any())


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "−": "$-$",
        "–": "--",
        "†": r"$\dagger$",
        "α": r"$\alpha$",
        "²": r"$^2$",
        "σ": r"$\sigma$",
    }
    | {character: f"\\{character}" for character in "&%$#_{}"}
)


def escape_latex(text: str) -> str:
    """Convert text to LaTeX: escape special characters, make signs of numbers a minus and `**bold**` bold."""
    signed = re.sub(r"(?<![\w.)-])-(?=\d)", "−", text)
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", signed.translate(_LATEX))


def _latex_cell(text: str) -> str:
    """Escape a cell; at the start of a row, LaTeX would read a bracket or star as an option of the previous row."""
    return ("{}" if text[:1] in ("[", "*") and not text.startswith("**") else "") + escape_latex(text)
