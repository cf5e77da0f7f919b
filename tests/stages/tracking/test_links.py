"""The pages of MLflow whose addresses are printed, opened in headless Chromium."""

import re
from pathlib import Path

import pandas as pd
import pytest

from stages.files.params import load_params
from stages.files.yaml_file import read_yaml
from stages.tracking import copies, runs
from stages.tracking.mirror import mirror
from tests.conftest import ROOT
from tests.stages.yaml_files import write_yaml

NETS = ("alexnet", "resnet20", "resnet20-pp")
SUMMARY = {"E_clean": 8.0, "E_corr": 30.0, "mCE": 100.0, "rCE": 110.0, "mFP": 5.0}


@pytest.fixture(scope="module")
def page(chromium):
    """A page of headless Chromium; the test waits at most two minutes for what it looks for."""
    one = chromium.new_page(viewport={"width": 3600, "height": 1400})
    one.set_default_timeout(120_000)
    return one


def experiment(name: str, alpha: float, trained: tuple[str, ...], monkeypatch) -> None:
    """Log made-up results of an experiment, in which the push-pull net is better the higher alpha is."""
    monkeypatch.setenv("DVC_EXP_NAME", name)
    params = read_yaml(ROOT / "params.yaml")
    params["pushpull"]["alpha"] = alpha
    write_yaml(Path("params.yaml"), params)
    folder = Path("metrics/digits")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables.md").write_text("# digits\n", encoding="utf-8")
    Path("models").mkdir(exist_ok=True)
    client, checked = runs.connect(), load_params()
    digits = runs.experiment_id(client, "digits")
    parent = runs.parent_run(client, digits, checked)
    for place, net in enumerate(trained):
        Path("models", f"{net}.pt").write_text(f"{net} {alpha}", encoding="utf-8")
        for seed in (0, 1):
            run = runs.child_run(client, digits, parent, checked, net, seed, {"device": "cpu"})
            runs.log_metrics(client, run, {"train/seconds": 10.0 + place})
            client.set_terminated(run)
    summary, corruption, perturbation, history = [], [], [], []
    for place, net in enumerate(NETS):
        for seed in (0, 1):
            error = 30.0 - 5 * place - (alpha if net == "resnet20-pp" else 0) + seed / 10
            row = {"net": net, "seed": seed}
            summary.append(row | {key: value * error / 30 for key, value in SUMMARY.items()})
            for kind in ("clean", "contrast", "fog"):
                corruption.append(row | {"corruption": kind, "severity": 1, "error": error})
            perturbation.append(
                row | {"perturbation": "translate", "protocol": "hendrycks", "metric": "flip_probability"}
                | {"value": error / 1000}
            )  # fmt: skip
            for epoch in (1, 2):
                history.append(row | {"epoch": epoch, "train_loss": 1 / epoch, "test_error": error / epoch})
    tables = map(pd.DataFrame, (corruption, perturbation, history, summary))
    mirror(checked, folder, *tables)


def test_printed_addresses_show_which_net_is_better(local, server, page, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setattr(copies, "SECONDS_TO_CONNECT", 100)
    experiment("spiny-cat", 1.0, NETS, monkeypatch)
    capsys.readouterr()
    experiment("dense-moth", 2.0, ("resnet20-pp",), monkeypatch)
    printed = dict(re.findall(r"^MLflow, ([^:]+): +(\S+)$", capsys.readouterr().out, re.M))
    assert list(printed) == ["all nets", "charts", "all experiments", "the last two"]
    assert all(address.startswith(server.uri) for address in printed.values())

    page.goto(printed["all nets"])
    page.get_by_text("12 matching runs").wait_for()
    names = page.locator(".ag-center-cols-container .ag-row, .ag-pinned-left-cols-container .ag-row")
    names.filter(has_text="resnet20-pp (alpha=2)").first.wait_for()
    headings = page.locator(".ag-header-cell").all_inner_texts()
    expected = ["dvc.exp", "seed", "alpha", "scale", *(f"test/{key}" for key in SUMMARY)]
    shown = [heading for heading in map(str.strip, headings) if heading in expected]
    assert shown == expected
    others = {"train.epochs", "train/seconds", "device", "git.commit", "data.name", "Dataset"}
    assert others <= {heading.strip() for heading in headings}
    cells = page.locator(".ag-center-cols-container [col-id*='dvc.exp']").all_inner_texts()
    assert cells[:2] == ["dense-moth", "dense-moth"]  # the best net, both seeds
    alphas = page.locator(".ag-center-cols-container [col-id*='alpha']").all_inner_texts()
    assert alphas[:4] == ["2.0", "2.0", "1.0", "1.0"] and set(alphas[4:]) == {"-"}

    assert page.locator(".ag-center-cols-container [col-id*='device']").all_inner_texts() == ["cpu"] * 12

    page.goto(printed["charts"])
    for title in ("corruption/contrast", "corruption/fog", "perturbation/translate"):
        page.get_by_text(title, exact=True).first.wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    sections = page.locator("[data-testid='experiment-view-compare-runs-chart-area']").inner_text()
    assert re.search(r"corruption\s*\(2\)", sections) and re.search(r"perturbation\s*\(1\)", sections)

    page.goto(printed["the last two"])
    page.get_by_text("Comparing 12 Runs from 1 Experiment").first.wait_for()
    alpha = page.locator("tr", has=page.get_by_role("rowheader", name="alpha", exact=True))
    assert "diff-row" in alpha.get_attribute("class")
    assert alpha.locator("td").all_inner_texts() == ["", "", "1.0"] * 2 + ["", "", "2.0"] * 2
    same = page.locator("tr", has=page.get_by_role("rowheader", name="train.epochs", exact=True))
    assert "diff-row" not in (same.get_attribute("class") or "")
    names = page.locator("tr", has=page.get_by_role("rowheader", name="Run Name:")).locator("td")
    assert [text.strip() for text in names.all_inner_texts()] == [
        *("alexnet", "resnet20", "resnet20-pp (alpha=1)") * 2,
        *("alexnet", "resnet20", "resnet20-pp (alpha=2)") * 2,
    ]

    page.goto(printed["all experiments"])
    for name in ("spiny-cat", "dense-moth"):
        page.get_by_text(name, exact=True).first.wait_for()
