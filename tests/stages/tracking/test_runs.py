"""The mirror in MLflow, on a store of its own in a temporary folder."""

import subprocess
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import click
import pytest

from stages.files.datasets import DATASETS
from stages.files.params import load_params
from stages.tracking import recording, runs
from stages.tracking.store import connect

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


@pytest.fixture
def store(repository, monkeypatch):
    """(client, params) of the store in `repository`."""
    monkeypatch.chdir(repository)
    monkeypatch.setenv("DVC_ROOT", str(repository))
    monkeypatch.setenv("DVC_EXP_NAME", "spiny-cat")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return connect(), load_params()


@pytest.mark.parametrize(
    ("net", "changes", "name"),
    [
        ("resnet20", {}, "resnet20"),
        ("resnet20", {"augment": "augmix"}, "resnet20 (augmix)"),
        ("resnet20-pp", {"augment": "trivial"}, "resnet20-pp (alpha=1, trivial)"),
    ],
)
def test_a_run_is_named_by_what_tells_it_from_others(store, net, changes, name):
    params = store[1]
    params = params.model_copy(update={"train": params.train.model_copy(update=changes)})
    assert runs.child_name(params, net) == name


def test_parent_is_found_again_and_children_hang_on_it(store):
    client, params = store
    experiment = runs.open_experiment(params)
    assert runs.open_experiment(params).parent == experiment.parent
    child = runs.child_run(experiment, params, "resnet20-pp", 1, {"device": "cpu"})
    assert [one.info.run_id for one in experiment.children("resnet20-pp", 1)] == [child]
    assert experiment.children("resnet20-pp", 0) == []
    data = client.get_run(child).data
    assert data.tags["mlflow.parentRunId"] == experiment.parent
    assert data.tags["mlflow.runName"] == "resnet20-pp (alpha=1)"
    assert data.tags["dvc.exp"] == "spiny-cat"
    assert data.params["alpha"] == "1.0"
    assert data.params["train.epochs"] == str(params.train.epochs)


def test_a_run_by_changed_code_says_so(store, tmp_path, monkeypatch):
    """The commit alone would name other code; parameters and results are changed by every experiment."""
    client, params = store
    (tmp_path / "params.yaml").write_bytes(Path("params.yaml").read_bytes())
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "engine.py").write_text("LR = 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "one"]):
        subprocess.run(["git", *arguments], check=True)
    experiment = runs.open_experiment(params, runs.identity("dense-moth"))
    short = experiment.tags["git.commit"]

    def noted() -> str:
        run = runs.child_run(experiment, params, "resnet20", 0, {})
        return client.get_run(run).data.tags["git.commit"]

    with open("params.yaml", "a", encoding="utf-8") as file:
        file.write("# alpha is 2 now\n")
    Path("metrics").mkdir()
    Path("metrics", "summary.csv").write_text("net\n", encoding="utf-8")
    Path("notes.md").write_text("alpha 2 is worse\n", encoding="utf-8")
    assert len(short) == 7 and noted() == short
    Path("training/engine.py").write_text("LR = 2\n", encoding="utf-8")
    assert noted() == f"{short}-dirty"


def test_another_experiment_has_another_parent(store, monkeypatch):
    _, params = store
    first = runs.open_experiment(params)
    monkeypatch.setenv("DVC_EXP_NAME", "dense-moth")
    assert runs.open_experiment(params).parent != first.parent


def test_a_name_that_is_used_again_is_another_experiment(store, monkeypatch):
    """On another commit, or with other parameters after `dvc exp run --force`: no mean may be over both."""
    client, params = store
    monkeypatch.setenv("DVC_EXP_NAME", "again")
    stronger = params.model_copy(update={"train": params.train.model_copy(update={"epochs": 99})})
    text = Path("params.yaml").read_text(encoding="utf-8")
    opened, groups = [], []
    try:
        for baseline, chosen, epochs in (("a", params, 6), ("b", params, 6), ("b", stronger, 99)):
            monkeypatch.setenv("DVC_EXP_BASELINE_REV", 40 * baseline)
            Path("params.yaml").write_text(
                text.replace("epochs: 6", f"epochs: {epochs}", 1), encoding="utf-8"
            )
            one = runs.open_experiment(chosen)
            assert runs.open_experiment(chosen).parent == one.parent
            assert client.get_run(one.parent).data.params["train.epochs"] == str(epochs)
            child = client.get_run(runs.child_run(one, chosen, "resnet20", 0, {}))
            opened.append(one.parent)
            groups.append(child.data.tags[runs.GROUP])
    finally:
        Path("params.yaml").write_text(text, encoding="utf-8")
    assert len(set(opened)) == len(set(groups)) == 3
    assert groups[0] == "resnet20, again"


def test_experiments_that_differ_in_a_net_alone_differ_in_a_parameter(store, monkeypatch):
    client, params = store
    net = params.nets["resnet20"]
    # More nets than parameters that a request to MLflow may hold.
    many = {f"net{i}": net for i in range(120)}
    found = []
    for name, lr in (("slow", 0.01), ("fast", 0.2)):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        own = net.model_copy(update={"train": {"lr": lr}})
        opened = runs.open_experiment(params.model_copy(update={"nets": many | {"own": own}}))
        found.append(client.get_run(opened.parent).data.params)
    slow, fast = found
    assert {key for key in slow if slow[key] != fast[key]} == {"nets.own"}
    assert slow["nets.own"] == "{'block': 'conv', 'arch': 'resnet20', 'train': {'lr': 0.01}}"


@pytest.mark.parametrize("name", ["it's", 'a"b', "x' or tags.role = 'y"])
def test_an_experiment_with_quotes_in_its_name_is_found_again(store, monkeypatch, name):
    client, params = store
    monkeypatch.setenv("DVC_EXP_NAME", name)
    experiment = runs.open_experiment(params)
    assert runs.open_experiment(params).parent == experiment.parent
    assert client.get_run(experiment.parent).data.tags["dvc.exp"] == name


def test_a_name_that_mlflow_cannot_search_for_is_one_line(store, monkeypatch):
    _, params = store
    monkeypatch.setenv("DVC_EXP_NAME", 'it\'s "it"')
    with pytest.raises(click.ClickException, match="both kinds of quotes"):
        runs.open_experiment(params)


def test_an_experiment_deleted_in_mlflow_is_restored_with_a_word(store, capsys):
    client, params = store
    experiment = runs.open_experiment(params)
    client.delete_experiment(experiment.id)
    assert runs.open_experiment(params) == replace(experiment, client=ANY)
    assert capsys.readouterr().out == "the experiment digits was deleted in MLflow: restored, with its runs\n"


def test_a_run_says_on_which_images_it_was_trained(workspace):
    params = load_params()
    experiment = runs.open_experiment(params)
    run = runs.child_run(experiment, params, "small", 0, {})
    recording.log_dataset(experiment.client, run, "tiny")
    (given,) = experiment.client.get_run(run).inputs.dataset_inputs
    assert given.dataset.name == "tiny"
    assert given.dataset.digest == recording.dataset_digest(DATASETS / "tiny" / "clean")
    assert len(given.dataset.digest) == 32


def test_curve_is_logged_once_each_epoch(store):
    """As after a kill between the checkpoint and the log, and after one between the log and the next checkpoint."""
    client, params = store
    experiment = runs.open_experiment(params)
    run = runs.child_run(experiment, params, "resnet20", 0, {})
    rows = [
        {"epoch": e, "lr": 0.1, "train_loss": 1 / e, "train_error": 9.0, "test_error": 10.0 / e}
        for e in (1, 2, 3)
    ]
    runs.log_curve(client, run, rows[:1])
    runs.log_curve(client, run, rows)
    runs.log_curve(client, run, rows)
    history = client.get_metric_history(run, "test/error")
    assert [(metric.step, metric.value) for metric in history] == [(1, 10.0), (2, 5.0), (3, 10 / 3)]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError(), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_status_tells_how_a_run_ended(store, error, status):
    client, params = store
    experiment = runs.open_experiment(params)
    run = runs.child_run(experiment, params, "resnet20", 0, {})
    if error is None:
        with runs.finishing(client, run):
            pass
    else:
        with pytest.raises(type(error)), runs.finishing(client, run):
            raise error
    assert client.get_run(run).info.status == status
