"""Runs on an MLflow server: copied while a net trains, kept where it fails, uploaded later, each value once."""

import shutil
import time
from pathlib import Path

import mlflow
import numpy as np
import torch
from click.testing import CliRunner

from nets.registry import create_net
from stages.files.params import load_params
from stages.files.trained import Trained
from stages.tracking import copies, logged_model, runs
from stages.tracking.__main__ import main
from stages.tracking.recording import recording


def begin(net: str = "resnet20-pp") -> str:
    """A new run, as a training begins it."""
    params = load_params()
    return runs.child_run(runs.open_experiment(params), params, net, 0, {"device": "cpu"})


def row(epoch: int) -> dict[str, float]:
    values = {"lr": 0.1, "train_loss": 1 / epoch, "train_error": 9.0, "test_error": 10.0 / epoch}
    return {"epoch": epoch, "images_per_second": 100.0, **values}


def log_small_model(run: str, images: np.ndarray) -> Trained:
    torch.manual_seed(0)
    options = {"num_classes": 10, "in_channels": 3, "pushpull": "first"}
    net = create_net("lenet_b", **options)
    trained = Trained("lenet_b", options, [0.5] * 3, [0.25] * 3, {0: net.state_dict()})
    logged_model.log_model(run, trained, 0, images[:2])
    return trained


def values(client, run: str) -> dict[str, list]:
    """All that was logged of every metric, in its order."""
    return {
        key: sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run, key))
        for key in client.get_run(run).data.metrics
    }


def copy_of(remote, run: str):
    experiment = remote.get_experiment_by_name("digits").experiment_id
    (copy,) = remote.search_runs([experiment], f"tags.`{copies.ORIGIN}` = '{run}'")
    return copy


def test_server_stopped_and_started_in_mid_training(local, server, images, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setattr(copies, "SECONDS_BETWEEN_COPIES", 0.1)
    remote = copies.connect()
    run = begin()
    with recording(local, run, "digits"):
        for epoch in range(1, 9):
            if epoch == 3:
                deadline = time.monotonic() + 60
                while not (
                    remote.get_experiment_by_name("digits")
                    and copied_steps(remote, run, "test/error") == [1, 2]
                ):
                    assert time.monotonic() < deadline, "the curve does not appear while the net trains"
                    time.sleep(0.1)
                server.stop()
            if epoch == 6:
                server.start()
            runs.log_curve(local, run, [row(e) for e in range(1, epoch + 1)])
        log_small_model(run, images)
    assert local.get_run(run).info.status == "FINISHED"
    assert [step for step, _, _ in values(local, run)["test/error"]] == list(range(1, 9))

    local.set_terminated(local.get_run(run).data.tags["mlflow.parentRunId"])
    assert copies.upload(local) == copies.Uploaded(1, 2)  # the parent has ended since
    assert copies.upload(local) == copies.Uploaded(0, 2)
    original, copy = local.get_run(run), copy_of(remote, run)
    assert values(remote, copy.info.run_id) == values(local, run)
    assert "system/cpu_utilization_percentage" in copy.data.metrics
    assert copy.data.params == original.data.params
    assert copy.info.status == "FINISHED"
    assert (copy.info.start_time, copy.info.end_time) == (original.info.start_time, original.info.end_time)
    assert copy.inputs.dataset_inputs[0].dataset.digest == original.inputs.dataset_inputs[0].dataset.digest
    environment = remote.download_artifacts(copy.info.run_id, "environment.txt")
    assert "torch==" in Path(environment).read_text(encoding="utf-8")
    parent = remote.get_run(copy.data.tags["mlflow.parentRunId"])
    assert parent.data.tags["dvc.exp"] == original.data.tags["dvc.exp"]

    runs.log_metrics(local, run, {"test/mCE": 80.0, "test/E_corr": 20.0})  # by a later stage
    assert copies.upload(local).uploaded == 1
    assert copy_of(remote, run).data.metrics["test/mCE"] == 80.0


def copied_steps(remote, run: str, key: str) -> list[int]:
    experiment = remote.get_experiment_by_name("digits").experiment_id
    found = remote.search_runs([experiment], f"tags.`{copies.ORIGIN}` = '{run}'")
    return [m.step for m in remote.get_metric_history(found[0].info.run_id, key)] if found else []


def test_run_without_its_server_is_uploaded_later(local, server, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(copies, "SECONDS_BETWEEN_COPIES", 0.05)
    run = begin()
    with recording(local, run, "digits"):
        runs.log_curve(local, run, [row(1)])
        time.sleep(0.5)
    assert local.get_run(run).info.status == "FINISHED"
    assert capsys.readouterr().out.count("the MLflow server http://127.0.0.1:9 does not answer") == 1
    done = CliRunner().invoke(main, ["sync"])
    assert done.exit_code == 1
    assert done.output.startswith("Error: the MLflow server http://127.0.0.1:9 does not answer")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    done = CliRunner().invoke(main, ["sync"])
    assert done.exit_code == 0
    assert f"{server.uri}: 2 of 2 runs uploaded" in done.output
    remote = copies.connect()
    assert values(remote, copy_of(remote, run).info.run_id) == values(local, run)


def test_sync_without_a_server_says_what_is_missing(local):
    done = CliRunner().invoke(main, ["sync"])
    assert done.exit_code == 2
    assert "MLFLOW_TRACKING_URI must be the address of an MLflow server" in done.output


def test_an_experiment_deleted_on_the_server_is_one_line_that_says_how(local, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    begin()
    remote = copies.connect()
    experiment = copies.remote_experiment(
        local, remote, runs.find_experiment(local, "digits")
    )  # another test may have made it
    remote.delete_experiment(experiment)
    for command in ["sync"], ["register"]:
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 1
        assert "the experiment digits was deleted on the MLflow server" in done.output
        assert f"mlflow experiments restore -x {experiment}" in done.output
        assert isinstance(done.exception, SystemExit)
    remote.restore_experiment(experiment)
    assert CliRunner().invoke(main, ["sync"]).exit_code == 0


def finished(client, net: str, images: np.ndarray) -> str:
    """A finished experiment of one net, with its model; the run of the net."""
    run = begin(net)
    runs.log_metrics(client, run, {"test/mCE": 20.0, "test/E_corr": 20.0})
    log_small_model(run, images)
    client.set_terminated(run)
    client.set_terminated(client.get_run(run).data.tags["mlflow.parentRunId"])
    return run


def test_champion_of_a_deleted_experiment_with_an_apostrophe_in_its_name(
    local, images, tmp_path, monkeypatch
):
    monkeypatch.setenv("DVC_EXP_NAME", "it's")
    run = finished(local, "resnet20-pp", images)
    experiment = runs.find_experiment(local, "digits")
    (whole,) = local.search_logged_models([experiment])
    broken = local.create_logged_model(experiment, "net", run)  # of a training killed as it logged
    assert broken.status == "PENDING"
    local.delete_experiment(experiment)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy("params.yaml", elsewhere)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")  # in the repository
    done = CliRunner().invoke(main, ["register", "--experiment", "it's"])
    assert [path.name for path in elsewhere.iterdir()] == ["params.yaml"]
    assert done.exit_code == 0, done.output
    assert "the experiment digits was deleted in MLflow: restored" in done.output
    champion = local.get_model_version_by_alias("pushpull-digits", "champion")
    assert champion.source == f"models:/{whole.model_id}"


def test_champion_is_registered_on_the_server_and_predicts_there(local, server, images, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    begun = {}
    for net, error in (("resnet20", 10.0), ("resnet20-pp", 20.0)):
        begun[net] = begin(net)
        runs.log_metrics(local, begun[net], {"test/mCE": error, "test/E_corr": error})
        trained = log_small_model(begun[net], images)
        local.set_terminated(begun[net])
    local.set_terminated(local.get_run(begun["resnet20"]).data.tags["mlflow.parentRunId"])

    for _ in range(2):  # a second registration finds the first
        done = CliRunner().invoke(main, ["register"])
        assert done.exit_code == 0, done.output
    remote = copies.connect()
    champion = remote.get_model_version_by_alias("pushpull-digits", "champion")
    assert (
        champion.run_id == copy_of(remote, begun["resnet20-pp"]).info.run_id
    )  # the better one is no push-pull net
    assert len(remote.search_model_versions("name = 'pushpull-digits'")) == 1

    mlflow.set_tracking_uri(server.uri)
    mlflow.set_registry_uri(server.uri)
    net = trained.net(0)
    scaled = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    expected = net(scaled).argmax(1).tolist()
    assert mlflow.pyfunc.load_model("models:/pushpull-digits@champion").predict(images).tolist() == expected
    assert done.output.endswith("models:/pushpull-digits@champion is version 1\n")
