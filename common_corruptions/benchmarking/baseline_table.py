"""The baseline that normalises corruption errors: a published one by its name, or your own table."""

import math
from collections.abc import Mapping
from pathlib import Path

from common_corruptions.recipes.names import SEVERITIES
from common_corruptions.summary import IMAGENET_ALEXNET, PUBLISHED_ALEXNET, Baseline

PUBLISHED = {"alexnet-cifar10": PUBLISHED_ALEXNET, "alexnet-imagenet": IMAGENET_ALEXNET}


def as_baseline(baseline: Baseline | Mapping[str, float] | str | Path | None) -> Baseline | None:
    """Convert any form of baseline to a `Baseline`; None stays None.

    Args:
        baseline: "alexnet-cifar10", the paper's, or "alexnet-imagenet", over the main 15 of ImageNet-C; a table
            {corruption: error in percent, "clean": error}, where "clean" is needed for rCE only and becomes NaN if it
            is missing, which leaves out rCE; or the path of a CSV file with such a table, columns `name` and `error`,
            or with a table from `benchmark`, whose severities are averaged. A column `severity` must hold each of the
            five once for every corruption.

    Raises:
        OSError: the file does not exist or cannot be read.
        TypeError: another type, or an error that is not a number.
        ValueError: neither a known name nor a CSV file, a file without these columns, an error that is missing or
            outside 0..100, errors that are all at most 1 and so fractions, a name that is missing or repeated, or
            missing severities.
    """
    if baseline is None or isinstance(baseline, Baseline):
        return baseline
    if isinstance(baseline, Mapping):
        return _from_table(baseline, "the baseline given")
    if not isinstance(baseline, str | Path):
        raise TypeError(
            f"baseline must be a name, a dict or the path of a CSV file, not a {type(baseline).__name__}"
        )
    if str(baseline) in PUBLISHED:
        return PUBLISHED[str(baseline)]
    path = Path(baseline)
    if path.suffix.lower() != ".csv":
        raise ValueError(
            f"unknown baseline {str(baseline)!r}; choose {', '.join(PUBLISHED)}, or a .csv file with name and error"
        )
    return _from_table(_read(path), str(path))


def _from_table(table: Mapping[str, float], source: str) -> Baseline:
    errors = {}
    for name, error in table.items():
        try:
            errors[name] = float(error)
        except (TypeError, ValueError):
            raise TypeError(f"{source} has an error for {name} that is not a number: {error!r}") from None
    unfit = [name for name, error in errors.items() if not 0 <= error <= 100]  # NaN, too
    if unfit:
        raise ValueError(f"{source} has no error in percent, 0 to 100, for {', '.join(unfit)}")
    if errors and 0 < max(errors.values()) <= 1:
        raise ValueError(f"{source} has no error above 1: give percent, 26.4 instead of 0.264")
    clean = errors.pop("clean", math.nan)
    return Baseline(errors, clean, source)


def _read(path: Path) -> dict[str, float]:
    """Mean error of each name."""
    import pandas as pd  # imported here, as in `benchmark`

    try:
        table = pd.read_csv(path)
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not a CSV table: {error}") from None
    column = "error"
    if {"name", "metric", "value"} <= {*table}:
        table, column = table[table["metric"] == "error"].rename(columns={"value": "error"}), "value"
    if not {"name", "error"} <= {*table}:
        raise ValueError(f"{path} has the columns {', '.join(map(str, table))}; expected name and error")
    numbers = pd.to_numeric(table["error"], errors="coerce")
    others = table["error"][numbers.isna() & table["error"].notna()]
    if len(others):
        raise TypeError(
            f"a value in column {column} of {path} is not a number: {others.iloc[0]!r}; errors are in percent, such "
            f"as 26.4"
        )
    table = table.assign(error=numbers)
    if table["name"].isna().any():
        raise ValueError(f"{path} has an error without a name")
    unfit = table["name"][~table["error"].between(0, 100)].unique()  # NaN, too
    if len(unfit):
        raise ValueError(
            f"{path} has a row without an error in percent, 0 to 100, for {', '.join(map(str, unfit))}"
        )
    for name, rows in table.groupby("name", sort=False):
        if name == "clean" or "severity" not in table:
            if len(rows) > 1:
                raise ValueError(f"{path} has {len(rows)} errors for {name}; there must be one")
            continue
        severities = sorted(pd.to_numeric(rows["severity"], errors="coerce"))
        if severities != list(SEVERITIES):
            found = ", ".join(f"{severity:g}" for severity in severities)
            raise ValueError(
                f"{path} has the severities {found} for {name}; a baseline needs each of 1 to 5 once: measure all, "
                f"or give a table of means with name and error"
            )
    errors: dict[str, float] = table.groupby("name")["error"].mean().to_dict()
    return errors
