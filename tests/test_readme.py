"""What the README says of results stands in the files it points to."""

import re

import pandas as pd
import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def rows(text: str) -> list[list[str]]:
    """Cells of every row of the Markdown tables in a text, without the lines under the headings."""
    lines = [
        line for line in text.splitlines() if line.startswith("|") and not re.fullmatch(r"[|:\- ]+", line)
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_results_are_those_of_the_pipeline():
    shown = rows(README.split("<!-- results -->")[1].split("<!-- /results -->")[0])
    measured = rows((ROOT / "metrics" / "digits" / "tables.md").read_text(encoding="utf-8"))
    heading, *results = shown
    assert len(results) >= 4
    for row in results:
        full = next(other for other in measured if other[0] == row[0])
        columns = next(
            other for other in measured if "mCE" in other and (other[0] == "net") == ("-pp -" not in row[0])
        )
        for name, cell in zip(heading[1:], row[1:], strict=True):
            assert cell == full[columns.index(name)], (row[0], name)


def test_differences_are_those_of_the_records():
    files = {
        "ResNet-20, the authors' weights": ("cifar10-authors", "resnet-20 (authors' weights)"),
        "ResNet-44, the authors' weights": ("cifar10-authors", "resnet-44 (authors' weights)"),
        "DenseNet-40-12, the authors' weights": ("cifar10-authors", "densenet-40-12 (authors' weights)"),
        "ResNet-20, three seeds each, 20 epochs": ("cifar10-jpeg", "resnet20"),
        "ResNet-56, one seed, 20 epochs": ("cifar10-jpeg", "resnet56"),
        "ResNet-20, one seed, 200 epochs": ("cifar10-jpeg-200", "resnet20"),
    }
    _, *shown = rows(README.split("<!-- records -->")[1].split("<!-- /records -->")[0])
    assert [row[0] for row in shown] == list(files)
    for net, _, difference, interval in shown:
        data, baseline = files[net]
        table = pd.read_csv(ROOT / "metrics" / data / "tables" / "difference.csv")
        (row,) = table[
            (table.measure == "error") & (table.condition == "mean") & (table.baseline == baseline)
        ].itertuples()
        bounds = (row.low, row.high) if "seeds" in interval else (row.low_images, row.high_images)
        assert difference == f"{row.difference:+.2f}"
        assert interval.startswith(f"{bounds[0]:+.2f} to {bounds[1]:+.2f}, over ")
        figures = [f"{abs(value):.2f}" for value in (row.difference, *bounds)]
        assert all(figure in README.split("![Push-pull minus baseline")[0] for figure in figures)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    links = re.findall(r"\]\(((?!https?:)[^)]+)\)", page.read_text(encoding="utf-8"))
    assert links
    for link in links:
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not heading or heading in anchors(target.read_text(encoding="utf-8")), link


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings of a page."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", outside, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_modules_and_targets_that_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"`make ([\w-]+)", text):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for module in re.findall(r"python3? -m ([\w.]+)", text):
        path = ROOT.joinpath(*module.split("."))
        theirs = ("train", "test_corruption", "test_perturbation", "pip")  # the authors', and pip
        assert path.with_suffix(".py").exists() or path.is_dir() or module in theirs, module
