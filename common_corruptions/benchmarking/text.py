"""Format what `benchmark` returns, for the terminal and as a CSV file."""

from pathlib import Path

import pandas as pd

from common_corruptions.replacing import replacing


def as_text(table: pd.DataFrame, summary: dict[str, float]) -> str:
    """Format errors by corruption and severity, flip probabilities by perturbation and the summary, in percent.

    Args:
        table, summary: as returned by `common_corruptions.benchmark`.
    """
    parts = [f"Measured on {table.attrs['data']}"] if "data" in table.attrs else []
    errors = table[(table["kind"] == "corruption") & (table["name"] != "clean")]
    if len(errors):
        by_severity = _pivot(errors, "severity")
        by_severity["mean"] = by_severity.mean(axis=1)
        parts.append(f"Error in percent, by severity\n{_aligned(by_severity)}")
    flips = table[table["metric"] == "flip_probability"]
    if len(flips):
        parts.append(f"Flip probability in percent, by protocol\n{_aligned(100 * _pivot(flips, 'protocol'))}")
    width = max(map(len, summary))
    lines = (
        f"{name:{width}}  {value:6}" if isinstance(value, int) else f"{name:{width}}  {value:6.2f}"
        for name, value in summary.items()
    )
    return "\n\n".join([*parts, "\n".join(lines)])


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, completely or not at all.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    with replacing(path) as part:
        table.to_csv(part, index=False)


def _pivot(rows: pd.DataFrame, columns: str) -> pd.DataFrame:
    """One row per name, in the order of the table."""
    return rows.pivot(index="name", columns=columns, values="value").loc[rows["name"].unique()]


def _aligned(numbers: pd.DataFrame) -> str:
    text: str = numbers.rename_axis(index=None, columns=None).to_string(float_format="{:.1f}".format)
    return text
