"""The pages of MLflow whose addresses are printed, opened in headless Chromium."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from stages.files.params import load_params
from stages.files.yaml_file import read_yaml
from stages.tracking import copies, links, runs
from stages.tracking.__main__ import main
from stages.tracking.mirror import mirror
from tests.conftest import ROOT
from tests.stages.tracking.test_copies import begin
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
    checked = load_params()
    opened = runs.open_experiment(checked)
    for place, net in enumerate(trained):
        Path("models", f"{net}.pt").write_text(f"{net} {alpha}", encoding="utf-8")
        for seed in (0, 1):
            run = runs.child_run(opened, checked, net, seed, {"device": "cpu"})
            runs.log_metrics(opened.client, run, {"train/seconds": 10.0 + place})
            opened.client.set_terminated(run)
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


def from_left(cells) -> list[str]:
    """The texts of cells as they are seen, whatever their order in the document."""
    return cells.evaluate_all(
        "cells => cells.map(c => [c.getBoundingClientRect().left, c.innerText])"
        ".sort((a, b) => a[0] - b[0]).map(pair => pair[1])"
    )


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
    groups = page.get_by_text(re.compile("^Group: "))
    groups.first.wait_for()
    best = [
        "Group: resnet20-pp (alpha=2), dense-moth",
        "Group: resnet20-pp (alpha=1), spiny-cat",
    ]
    assert groups.all_inner_texts()[:2] == best and groups.count() == 6
    headings = from_left(page.locator(".ag-header-cell"))
    expected = [
        "test/mCE",
        "test/E_corr",
        "alpha",
        "seed",
        "test/E_clean",
        "test/rCE",
        "test/mFP",
        "scale",
        "dvc.exp",
    ]
    shown = [heading for heading in map(str.strip, headings) if heading in expected]
    assert shown == expected
    others = {"train.epochs", "train/seconds", "device", "git.commit", "data.name", "Dataset"}
    assert others <= {heading.strip() for heading in headings}
    means = [text for text in cells(page, "mCE") if "average" in text]
    assert [float(text.split()[0]) for text in means[:2]] == pytest.approx([60.16665, 63.5], abs=1e-4)
    assert cells(page, "seed")[:6] == ["", "0", "1", "", "0", "1"]
    assert [text for text in cells(page, "dvc.exp") if text][:4] == ["dense-moth"] * 2 + ["spiny-cat"] * 2
    assert cells(page, "device").count("cpu") == 12

    page.goto(printed["charts"])
    page.locator(".js-plotly-plot").first.wait_for()
    page.get_by_text("resnet20-pp (alpha=2), dense-moth").first.wait_for()
    sections = page.locator("[data-testid='experiment-view-compare-runs-chart-area']").inner_text()
    assert re.search(r"corruption\s*\(2\)", sections) and re.search(r"perturbation\s*\(1\)", sections)
    assert re.search(r"test\s*\(.*corruption\s*\(", sections, re.S)  # in this order
    for title in ("test/mCE", "corruption/contrast", "corruption/fog", "perturbation/translate"):
        page.get_by_placeholder("Search metric charts").fill(title)  # what is below the window is not drawn
        page.get_by_text(title, exact=True).first.wait_for()

    page.goto(printed["all experiments"])
    page.get_by_text("2 matching runs").wait_for()
    assert cells(page, "mCE/resnet20-pp") == ["60.1667", "63.5"]  # the newest first
    assert cells(page, "pushpull.alpha") == ["2.0", "1.0"]

    page.goto(printed["the last two"])
    page.get_by_text("Parameters and means that differ").wait_for()
    page.get_by_text("pushpull.alpha", exact=True).first.wait_for()
    table = page.locator("[data-testid='experiment-view-compare-runs-chart-area']").inner_text()
    assert re.search(r"pushpull\.alpha\s+2\.0\s+1\.0\s", table)
    assert re.search(r"mCE/resnet20-pp\s+60\.17\s+63\.50\s", table)
    assert "train.epochs" not in table and "mCE/alexnet" not in table  # the same in both


def cells(page, column: str) -> list[str]:
    """The texts of a column, from the upper end."""
    found = page.locator(f".ag-center-cols-container [col-id*='{column}']")
    found.first.wait_for()
    return found.evaluate_all(
        "cells => cells.map(c => [c.getBoundingClientRect().top, c.innerText.trim()])"
        ".sort((a, b) => a[0] - b[0]).map(pair => pair[1])"
    )


@pytest.fixture
def served(monkeypatch):
    """The command lines that `ui` starts instead of this process."""
    started = []
    monkeypatch.setattr("os.execve", lambda file, command, environment: started.append(command))
    return started


def runs_of(client) -> list:
    places = [one.experiment_id for one in client.search_experiments(view_type=ViewType.ALL)]
    return client.search_runs(places, run_view_type=ViewType.ALL)


@pytest.mark.parametrize("command", ["links", "ui"])
def test_looking_at_an_empty_store_creates_nothing_and_says_so(local, served, command):
    done = CliRunner().invoke(main, [command])
    assert done.exit_code == 0, done.output
    assert "MLflow has no runs on digits yet" in done.output
    assert local.get_experiment_by_name("digits") is None and not runs_of(local)
    assert len(served) == (command == "ui")


@pytest.mark.parametrize("command", ["links", "ui"])
def test_looking_from_another_state_compares_the_last_two_experiments(local, served, monkeypatch, command):
    params = load_params()
    parents = []
    for name in ("spiny-cat", "dense-moth", "proud-newt"):
        opened = runs.open_experiment(params, runs.identity(name))
        local.set_terminated(runs.child_run(opened, params, "resnet20", 0, {}))
        local.set_terminated(opened.parent)
        parents.append(opened.parent)
    monkeypatch.setenv("DVC_EXP_NAME", "tabby-hare")
    running = runs.open_experiment(params)
    runs.child_run(running, params, "resnet20", 0, {})
    before = {run.info.run_id for run in runs_of(local)}
    for state in ("another state", "tabby-hare"):
        monkeypatch.setenv("DVC_EXP_NAME", state)
        done = CliRunner().invoke(main, [command, *(["--port", "5123"] if command == "ui" else [])])
        assert done.exit_code == 0, done.output
        assert {run.info.run_id for run in runs_of(local)} == before
        tags = local.get_experiment(running.id).tags
        view = json.loads(tags["mlflow.sharedViewState.comparison"])
        newest = [running.parent] if state == "tabby-hare" else []
        assert re.findall(r"'(\w+)'", view["searchFilter"]) == [*parents, *newest][-2:]
        assert "viewStateShareKey=comparison" in done.output
        assert ("http://127.0.0.1:5123/" in done.output) == (command == "ui")
    assert len(served) == (2 if command == "ui" else 0)


def test_an_empty_run_of_this_state_is_passed_over(local):
    params = load_params()
    parents = []
    for name in ("spiny-cat", "dense-moth"):
        opened = runs.open_experiment(params, runs.identity(name))
        runs.child_run(opened, params, "resnet20", 0, {})
        local.set_terminated(opened.parent)
        parents.append(opened.parent)
    empty = runs.open_experiment(params)
    assert links.compared_experiments(local, empty.id, empty.parent) == parents


def test_no_address_that_is_printed_holds_the_password(local, server, monkeypatch):
    address = server.uri.replace("http://", "http://me:secret@")
    begin()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    synced = CliRunner().invoke(main, ["sync"])
    assert "http://me:***@127.0.0.1" in synced.output and "2 of 2 runs uploaded" in synced.output
    shown = CliRunner().invoke(main, ["links"])
    assert f"MLflow, all nets:        {server.uri}/#/experiments/" in shown.output
    remote = copies.connect()
    experiment = remote.get_experiment_by_name("digits").experiment_id
    remote.delete_experiment(experiment)
    deleted = CliRunner().invoke(main, ["links"])
    assert "was deleted on the MLflow server http://me:***@127.0.0.1" in deleted.output
    remote.restore_experiment(experiment)
    with pytest.raises(copies.ServerError, match=r"me:\*\*\*@") as raised, copies._server_errors(address):
        raise MlflowException(f"API request to {address}/api failed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    away = CliRunner().invoke(main, ["links"])
    assert "the MLflow server http://me:***@127.0.0.1:9 does not answer" in away.output
    assert "secret" not in synced.output + shown.output + deleted.output + str(raised.value) + away.output
