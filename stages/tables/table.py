"""Tables as files: CSV that is the same for the same numbers, Markdown and LaTeX."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pandas as pd

from stages.files.writing import write_csv, write_text

Display: TypeAlias = pd.DataFrame | Mapping[str, pd.DataFrame]
"""What a table shows: cells of text, `**bold**` where marked, one heading a column; or several parts by heading."""


class Table(NamedTuple):
    """A table yet to be written: the arguments of `write_table`, with a note of its own."""

    name: str
    title: str
    note: str
    display: Display
    tidy: pd.DataFrame


def write_table(
    folder: Path, name: str, display: Display, *, tidy: pd.DataFrame, title: str, note: str
) -> None:
    """Write one table three times: `<name>.csv` with the numbers, `<name>.md` and `<name>.tex` (booktabs) to read.

    Args:
        folder: where to; it is made.
        name: of the files, and `tab:<name>` in LaTeX.
        display: the cells as text; the index is not shown.
        tidy: the numbers behind them, one row each.
        title: one line, without a full stop.
        note: what a reader must know to read the numbers, in sentences; first lines in Markdown, caption in LaTeX.

    Raises:
        TypeError: a cell or heading of `display` is no text.
    """
    page = f"# {title}\n\n{note}\n\n{markdown(display, level=2)}\n"
    source = latex(name, display, title, note)
    write_csv(folder / f"{name}.csv", tidy)
    write_text(folder / f"{name}.md", page)
    write_text(folder / f"{name}.tex", source)


def markdown(display: Display, level: int) -> str:
    """The table, or every part below its heading of that level, in the dialect of GitHub."""
    if isinstance(display, Mapping):
        return "\n\n".join(
            f"{'#' * level} {heading}\n\n{markdown(part, level)}" for heading, part in display.items()
        )
    _check_text(display)
    table = display.map(lambda cell: cell.replace("|", r"\|")).rename(columns=lambda c: c.replace("|", r"\|"))
    return table.to_markdown(index=False, disable_numparse=True)


def latex(name: str, display: Display, title: str, note: str) -> str:
    r"""A `table` environment for each part, for a document with `\usepackage{booktabs}`."""
    parts = display if isinstance(display, Mapping) else {"": display}
    environments = []
    for i, (heading, part) in enumerate(parts.items()):
        _check_text(part)
        caption = f"{title}, {heading}." if heading else f"{title}."
        label = name if i == 0 else f"{name}-{i + 1}"
        rows = [
            " & ".join(map(escape_latex, row)) + r" \\"
            for row in [part.columns, *part.itertuples(index=False)]
        ]
        rows = ["{}" + row if row[0] in "[*" else row for row in rows]  # `[` after `\\` would be its option
        lines = [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{escape_latex(f'{caption} {note}' if i == 0 else caption)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{''.join(map(_alignment, (part[c] for c in part)))}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        environments.append("\n".join(lines))
    return "% \\usepackage{booktabs}\n" + "\n\n".join(environments) + "\n"


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
    """Text as LaTeX that prints it: special characters escaped, the sign of a number a minus, `**bold**` bold."""
    signed = re.sub(r"(?<![\w.)-])-(?=\d)", "−", text)
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", signed.translate(_LATEX))


def _alignment(column: pd.Series) -> str:
    """Numbers to the right, text to the left."""
    return "r" if column.str.match(r"(\*\*)?[+-]?\d").any() else "l"


def _check_text(display: pd.DataFrame) -> None:
    for what in (*display.columns, *display.to_numpy().ravel()):
        if not isinstance(what, str):
            raise TypeError(f"a table shows text alone, got {what!r}")
