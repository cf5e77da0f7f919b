"""Push-pull minus baseline: from the tables that `aggregate` writes to the series of a figure."""

from collections.abc import Container, Mapping
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

    With one seed, `low` and `high` are NaN. Rows without intervals are left out; without the table, there are no rows.
    """
    columns = [
        "pushpull", "baseline", "condition", "difference", "low", "high", "low_images", "high_images"
    ]  # fmt: skip
    return _errors(path, columns).dropna(subset="low_images")


def read_agreement(path: Path) -> pd.DataFrame:
    """The errors of the pairs of authors' weights in the table `agreement`; empty if there is no such table."""
    columns = [
        "pushpull", "baseline", "condition", "measured", "published", "low_images", "high_images", "images"
    ]  # fmt: skip
    return _errors(path, columns).dropna(subset="pushpull")


def _errors(path: Path, columns: list[str]) -> pd.DataFrame:
    """The rows of a table whose measure is the error; empty if there is no such table."""
    if not path.exists():
        return pd.DataFrame(columns=columns)
    table = read_table(path, ["measure", *columns])
    return table[table.measure == "error"][columns]


def panels(
    study: Study, differences: pd.DataFrame, agreement: pd.DataFrame
) -> dict[str, list[figures.Differences]]:
    """Panels for `figures.differences`: for each pair of nets, all series of push-pull minus baseline.

    If the paper has the pair, its panel is named after the paper's baseline and also shows the authors' weights and the
    published differences.

    Args:
        study: with our nets, if any.
        differences: as `read_differences` returns it, for our nets and the authors' weights.
        agreement: as `read_agreement` returns it.
    """
    found: dict[str, list[figures.Differences]] = {}
    rows = dict(list(differences.groupby(["baseline", "pushpull"], sort=False)))
    twins = paper.counterparts(study.params)
    for couple in pairs(study.params):
        if couple in rows:
            own = rows[couple]
            over_seeds = own.low.notna().any()
            bounds = ("low", "high") if over_seeds else ("low_images", "high_images")
            label = f"trained here, 95 % over {'seeds and images' if over_seeds else 'images'}"
            found[panel_of(couple, twins, found)] = [series(own, label, "difference", *bounds)]
    for (plain, _), own in agreement.groupby(["baseline", "pushpull"], sort=False):
        label = f"authors' weights, on {own.images.max():.0f} images, 95 % over images"
        found.setdefault(study.authors[plain], []).append(
            series(own, label, "measured", "low_images", "high_images")
        )
    published = paper.comparable(paper.released_errors(), study.params)
    by_net = dict(list(published.set_index("condition").groupby("net").value))
    for name, panel in found.items():
        if name in by_net and f"{name}-pp" in by_net:
            known = [one for one in panel[0].conditions if one in by_net[name].index]
            values = (by_net[f"{name}-pp"] - by_net[name])[known]
            panel.append(figures.Differences("published, 10,000 images", known, values.tolist()))
    return found


def panel_of(couple: tuple[str, str], twins: Mapping[str, str], taken: Container[str]) -> str:
    """Name of the panel for a pair of our nets: for the first pair that the paper has too, the paper's baseline."""
    plain, pushpull = couple
    if plain in twins and pushpull in twins and twins[plain] not in taken:
        return twins[plain]
    return f"{pushpull} − {plain}"


def series(rows: pd.DataFrame, label: str, value: str, low: str, high: str) -> figures.Differences:
    """Make a series of the figure from the rows of a table and the names of its columns."""
    return figures.Differences(label, *(rows[column].tolist() for column in ("condition", value, low, high)))
