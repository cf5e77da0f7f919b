"""`dvc plots diff` with the project's page and templates: everything is drawn, and without a network."""

import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT
from tests.stages.clones import run

pytest.importorskip("vl_convert", reason="vl-convert-python, which brings Vega, is not installed")

COLOURS = ["#945dd6", "#13adc7"]  # DVC's for the first two experiments


@pytest.fixture(scope="module")
def difference(tmp_path_factory) -> Path:
    """The page of `dvc plots diff` for a commit and changed results, with the plots of dvc.yaml."""
    folder = tmp_path_factory.mktemp("plots")
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    for template in (ROOT / ".dvc" / "plots").glob("*.json"):
        (folder / ".dvc" / "plots").mkdir(exist_ok=True)
        shutil.copy(template, folder / ".dvc" / "plots")
    for name in ("stages", "common_corruptions", "pushpull", "nets"):
        (folder / name).symlink_to(ROOT / name)
    plots = (ROOT / "dvc.yaml").read_text(encoding="utf-8").partition("\nplots:\n")[2]
    (folder / "dvc.yaml").write_text("plots:\n" + plots.replace("${data.name}", "digits"), encoding="utf-8")
    write_results(folder / "metrics" / "digits", 1.0)
    run(folder, "git", "add", "dvc.yaml", "metrics", ".dvc/config")
    run(folder, "git", "commit", "-qm", "one")
    write_results(folder / "metrics" / "digits", 0.5)
    run(folder, sys.executable, "-m", "stages.page.dvc_plots")
    assert "html_template" in (folder / ".dvc" / "config.local").read_text(encoding="utf-8")
    run(folder, "dvc", "plots", "diff", "HEAD")
    return folder / "dvc_plots" / "index.html"


def write_results(folder: Path, factor: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    nets = ("alexnet", "resnet20", "resnet20-pp")
    curves = [(net, epoch, factor * 80 / epoch) for net in nets for epoch in (1, 2, 3)]
    pd.DataFrame(curves, columns=["net", "epoch", "test_error"]).to_csv(folder / "curves.csv", index=False)
    bars = [(f"{name} {net}", net, name, factor * 40) for net in nets for name in ("clean", "fog")]
    columns = ["bar", "net", "corruption", "error"]
    pd.DataFrame(bars, columns=columns).to_csv(folder / "bars.csv", index=False)


def test_page_names_no_server(difference):
    text = difference.read_text(encoding="utf-8")
    assert not re.findall(r"<script[^>]+src=", text)
    assert not re.findall(r"<link|@import", text)


def test_browser_draws_all_plots_without_a_network(chromium, difference):
    tab = chromium.new_context(offline=True).new_page()
    errors, requests = [], []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(difference.as_uri())
    tab.wait_for_function("document.querySelectorAll('svg.marks').length === 2")
    drawn = tab.evaluate(
        """[...document.querySelectorAll('svg.marks')].map(picture =>
            [...picture.querySelectorAll('.mark-line path, .mark-rect path[aria-roledescription=bar]')].map(
                mark => [mark.getAttribute('stroke') ?? mark.getAttribute('fill'), mark.getBBox().width]))"""
    )
    assert errors == []
    assert requests == [difference.as_uri()]
    lines, bars = ([[colour for colour, _ in marks].count(wanted) for wanted in COLOURS] for marks in drawn)
    assert lines == [3, 3]  # of three nets, for both experiments
    assert bars == [6, 6]  # of two conditions
    widths = [{round(width, 3) for colour, width in drawn[1] if colour == wanted} for wanted in COLOURS]
    assert [len(values) for values in widths] == [1, 1]
    assert widths[1].pop() == pytest.approx(
        2 * widths[0].pop(), rel=1e-3
    )  # the committed errors are twice as large
