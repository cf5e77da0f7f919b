"""Push-pull minus baseline, from the tables that `aggregate` leaves to the series of a figure."""

from pathlib import Path

import pandas as pd

from stages.files.writing import read_table
from stages.page import figures
from stages.page.sections import Study
from stages.tables import paper
from stages.tables.summary import pairs


def read_differences(path: Path) -> pd.DataFrame:
    """Paired differences of the error: pushpull, baseline, condition, difference, and the bounds of two intervals.

    `low` and `high` are those over seeds and images, `low_images` and `high_images` those over images alone.

    Those over seeds are NaN with one seed. Empty where the table was not made; rows without intervals are left out.
    """
    columns = [
        "pushpull", "baseline", "condition", "difference", "low", "high", "low_images", "high_images"
    ]  # fmt: skip
    if not path.exists():
        return pd.DataFrame(columns=columns)
    table = read_table(path, ["measure", *columns])
    return table[table.measure == "error"][columns].dropna(subset="low_images")


def read_agreement(path: Path) -> pd.DataFrame:
    """The pairs of the authors' weights in the table `agreement`, their errors alone; empty where it was not made."""
    columns = [
        "pushpull", "baseline", "condition", "measured", "published", "low_images", "high_images", "images"
    ]  # fmt: skip
    if not path.exists():
        return pd.DataFrame(columns=columns)
    table = read_table(path, ["measure", *columns])
    return table[table.measure == "error"][columns].dropna(subset="pushpull")


def panels(
    study: Study, differences: pd.DataFrame, agreement: pd.DataFrame
) -> dict[str, list[figures.Differences]]:
    """For `figures.differences`: by architecture, what is known of push-pull minus baseline on each corruption.

    Args:
        study: with our nets, if any.
        differences: as `read_differences` returns it, of ours and of the authors' weights.
        agreement: as `read_agreement`.
    """
    found: dict[str, list[figures.Differences]] = {}
    rows = dict(list(differences.groupby(["baseline", "pushpull"], sort=False)))
    twins = paper.counterparts(study.params)
    for plain, pushpull in pairs(study.params):
        if (plain, pushpull) in rows:
            own = rows[plain, pushpull]
            over_seeds = own.low.notna().any()
            low, high = ("low", "high") if over_seeds else ("low_images", "high_images")
            label = f"trained here, 95 % over {'seeds and ' if over_seeds else ''}images"
            panel = found.setdefault(twins.get(plain, plain), [])
            panel.append(
                figures.Differences(label, *(own[c].tolist() for c in ("condition", "difference", low, high)))
            )
    for (plain, pushpull), own in agreement.groupby(["baseline", "pushpull"], sort=False):
        panel = found.setdefault(study.authors[plain], [])
        columns = ("condition", "measured", "low_images", "high_images")
        label = f"authors' weights, measured on {own.images.max()} images, 95 % over images"
        panel.append(figures.Differences(label, *(own[c].tolist() for c in columns)))
        panel.append(
            figures.Differences("published, 10,000 images", own.condition.tolist(), own.published.tolist())
        )
    return found
