"""Where runs are kept, for every MLFLOW_TRACKING_URI and path of the clone, and while the store cannot be used."""

import contextlib
import importlib.util
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import alembic.command
import click
import mlflow
import pytest
from click.testing import CliRunner
from mlflow.store.db.utils import _get_alembic_config

from stages.files import workspace
from stages.files.params import load_params
from stages.tracking import address, copies, recording, runs, store
from stages.tracking.__main__ import main
from tests.conftest import ROOT
from tests.stages.tracking.test_copies import begin, row, values


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(store, "LOCKED", 0.05)
    monkeypatch.setattr(store, "POLL", 0.02)


def open_experiment(name: str) -> str:
    """The parent run of an experiment on digits, where the working directory holds no parameters."""
    return runs.open_experiment(load_params(ROOT / "params.yaml"), runs.identity(name)).parent


@contextlib.contextmanager
def locked(database: Path) -> Iterator[sqlite3.Connection]:
    """The database with a lock of another connection, as of another process, which rollback() ends."""
    with contextlib.closing(
        sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield other


@pytest.mark.parametrize(
    "uri",
    [
        "./mlruns", "mlruns", "file:///tmp/mlruns", "databricks", "databricks://profile", "localhost:5000",
        "sqlite://", "sqlite:///:memory:", "postgres://host/runs", "ftp://host", "postgresql+unknown://host/runs",
    ],
)  # fmt: skip
def test_a_store_that_cannot_be_is_one_line(local, uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: MLFLOW_TRACKING_URI is {uri}")
    assert done.output.count("\n") == 1


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) for name in ("psycopg", "psycopg2")), reason="the driver is installed"
)
def test_a_database_without_its_driver_is_one_line_without_the_password(local, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@127.0.0.1:9/runs")
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    start = "Error: MLFLOW_TRACKING_URI is postgresql://me:***@127.0.0.1:9/runs: No module named 'psycopg"
    assert done.output.startswith(start)
    assert done.output.count("\n") == 1


def test_the_scheme_of_a_server_may_be_in_capitals(local, monkeypatch):
    own = address.store_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "HTTP://127.0.0.1:9/")
    assert address.server_uri() == "http://127.0.0.1:9"
    assert address.store_uri() == own


def test_a_relative_database_lies_in_the_repository_an_experiment_came_from(
    tmp_path, empty_store, monkeypatch
):
    """DVC runs it in a temporary folder, which is removed in the end."""
    origin, temporary = tmp_path / "origin", tmp_path / "temporary"
    for folder in (origin, temporary):
        folder.mkdir()
    shutil.copy(empty_store, origin / "runs.db")
    monkeypatch.chdir(temporary)
    monkeypatch.setenv("DVC_ROOT", str(origin))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    client = store.connect()
    run = client.get_run(open_experiment("spiny-cat")).info
    client.log_text(run.run_id, "text", "note.txt")
    assert run.artifact_uri.startswith((origin / "mlartifacts" / "digits").as_uri())
    assert list(origin.rglob("note.txt"))
    assert not list(temporary.iterdir())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/origin/runs.db")
    assert store.connect().get_run(run.run_id).info.run_id == run.run_id


@pytest.mark.parametrize("name", ["a%2Fb?c", "a#b%20c", "it's", 'a "b" c&d=e;f', "ü+%"])
def test_a_clone_whose_path_needs_quotes(tmp_path, empty_store, name, monkeypatch):
    clone = tmp_path / name
    clone.mkdir()
    shutil.copy(empty_store, clone)
    monkeypatch.chdir(clone)
    monkeypatch.setenv("DVC_ROOT", str(clone))
    for uri in (None, "sqlite:///mlflow.db"):
        if uri:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        else:
            monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        client = store.connect()
        run = open_experiment(f"spiny-cat {uri}")
        client.log_text(run, "text", "note.txt")
        assert copies._artifacts(client.get_run(run))[1].read_text(encoding="utf-8") == "text"
        assert Path(client.download_artifacts(run, "note.txt")).read_text(encoding="utf-8") == "text"
    with sqlite3.connect(clone / "mlflow.db") as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    assert {path.name for path in clone.iterdir()} == {".dvc", "mlflow.db", "mlartifacts"}
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path != clone] == []


def test_the_root_is_that_of_the_pipeline_and_not_of_the_repository_around_it(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    commit = ["git", "-C", tmp_path, "-c", "user.name=me", "-c", "user.email=me@localhost", "commit", "-q"]
    subprocess.run([*commit, "--allow-empty", "-m", "outer"], check=True)
    clone = tmp_path / "clone"
    (clone / "studies").mkdir(parents=True)
    (clone / ".dvc").mkdir()
    for file in ("dvc.yaml", "params.yaml", "studies/dvc.yaml"):
        (clone / file).touch()
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for folder in (clone, clone / "studies"):
        monkeypatch.chdir(folder)
        assert workspace.root() == clone
    monkeypatch.chdir(clone)
    assert workspace.commit() == ""  # the commit around it says nothing of it
    subprocess.run(["git", "-C", tmp_path, "add", "-A"], check=True)
    subprocess.run([*commit, "-m", "tracked"], check=True)
    assert len(workspace.commit()) == 40


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """The working directory is a clone that Git takes to be of another user."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    return tmp_path


def test_what_git_says_is_passed_on_where_it_refuses(refused, monkeypatch):
    monkeypatch.delenv("DVC_EXP_BASELINE_REV", raising=False)
    with pytest.raises(click.ClickException, match=r"dubious ownership.*safe\.directory") as raised:
        runs.identity()
    assert "\n" not in raised.value.message


def test_git_that_is_not_installed_is_one_line(refused, monkeypatch):
    monkeypatch.setenv("PATH", str(refused))
    with pytest.raises(click.ClickException, match="git is not installed"):
        workspace.commit()


def test_no_commit_yet_and_no_repository_are_no_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert workspace.commit() == ""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "params.yaml").touch()
    subprocess.run(["git", "-C", tmp_path, "add", "-A"], check=True)
    assert workspace.commit() == ""


def test_a_locked_database_is_waited_for_with_a_word(local, tmp_path, impatient, capsys):
    with locked(tmp_path / "mlflow.db") as other:
        waiting = threading.Timer(0.5, other.rollback)
        waiting.start()
        client = store.connect()
        waiting.join()
    assert client.get_experiment_by_name("Default")
    out, err = capsys.readouterr()
    assert (
        out + err
    ).strip() == f"MLflow's database {tmp_path}/mlflow.db is locked by another process; waiting"


def test_a_lock_that_stays_is_one_line(local, tmp_path, impatient, monkeypatch):
    monkeypatch.setattr(store, "PATIENCE", 0.2)
    with locked(tmp_path / "mlflow.db"):
        done = CliRunner().invoke(main)
    assert done.exit_code == 1
    assert f"Error: MLflow's database {tmp_path}/mlflow.db is locked by another process\n" in done.output


def test_a_database_locked_in_mid_training_is_brought_up_to_date(
    local, tmp_path, impatient, monkeypatch, capsys
):
    store._say_once.cache_clear()
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "100")
    run = begin()
    with recording.recording(local, run, "digits") as log:
        log([row(1)])
        with locked(tmp_path / "mlflow.db") as other:
            for epoch in (2, 3):
                log([row(e) for e in range(1, epoch + 1)])
            other.rollback()
            assert [step for step, _, _ in values(local, run)["test/error"]] == [1]
        log([row(e) for e in range(1, 5)])
        assert [step for step, _, _ in values(local, run)["test/error"]] == [1, 2, 3, 4]
    assert local.get_run(run).info.status == "FINISHED"
    assert local.get_run(run).data.metrics[recording.SECONDS] == pytest.approx(4 * 12 / 100)
    out, err = capsys.readouterr()
    assert (out + err).count("mlflow.db is locked by another process; the work continues") == 1
    assert "Traceback" not in out + err


def test_a_run_deleted_in_mid_training_stops_no_training(local, capsys):
    store._say_once.cache_clear()
    run = begin()
    with recording.recording(local, run, "digits") as log:
        log([row(1)])
        local.delete_run(run)
        log([row(1), row(2)])
    out, err = capsys.readouterr()
    assert (out + err).count("the work continues") == 1
    assert "Traceback" not in out + err


def test_what_a_run_logs_it_does_not_fetch_again(local, monkeypatch):
    run = begin()
    fetched = []
    history = local._client.get_metric_history
    monkeypatch.setattr(
        local._client, "get_metric_history", lambda *one: fetched.append(one) or history(*one)
    )
    runs.log_curve(local, run, [row(1)], set())  # before an interruption
    with recording.recording(local, run, "digits") as log:
        for epoch in (2, 3):
            log([row(e) for e in range(1, epoch + 1)])
    assert fetched == [(run, "test/error")]
    assert [step for step, _, _ in values(local, run)["test/error"]] == [1, 2, 3]
    assert local.get_run(run).data.metrics[recording.SECONDS] == pytest.approx(3 * 12 / 100)


def test_what_names_no_store_is_on_ours_for_a_while(local, monkeypatch):
    import mlflow

    for setting in ("http://127.0.0.1:9", None):
        if setting:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", setting)
        else:
            monkeypatch.delenv("MLFLOW_TRACKING_URI")
        for _ in range(2):
            with store.global_store():
                assert mlflow.get_tracking_uri() == address.own_store()
            assert os.environ.get("MLFLOW_TRACKING_URI") == setting


def test_a_full_disk_is_waited_for_with_a_word(local, tmp_path, mount_disk, impatient, monkeypatch, capsys):
    store._say_once.cache_clear()
    disk = mount_disk(tmp_path / "disk", 3)
    shutil.copy(tmp_path / "mlflow.db", disk)
    monkeypatch.setenv("DVC_ROOT", str(disk))
    client = store.connect()
    run = begin()
    with recording.recording(client, run, "digits") as log:
        log([row(1)])
        with open(disk / "ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(bytes(4096)):
                pass
        log([row(epoch) for epoch in range(1, 300)])
        assert len(values(client, run)["test/error"]) < 299
        threading.Timer(0.5, (disk / "ballast").unlink).start()
    assert client.get_run(run).info.status == "FINISHED"
    assert len(values(client, run)["test/error"]) == 299
    out, err = capsys.readouterr()
    assert "cannot grow, its disk is full; the work continues" in out + err
    assert "cannot grow, its disk is full; waiting" in out + err
    assert "Traceback" not in out + err


@pytest.mark.parametrize("content", [b"<html>no database</html>" * 100, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_database_is_one_line(tmp_path, content, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: MLflow's database {tmp_path}/mlflow.db cannot be used: ")
    assert done.output.count("\n") == 1


LATER = f"is from a newer MLflow than the installed {mlflow.__version__}; upgrade MLflow or move the database away"


@pytest.mark.parametrize(
    ("schema", "lacks", "remedy"),
    [
        ("0a8213491aaa", None, "is from an older MLflow; back it up, then run `mlflow db upgrade sqlite:///{file}`"),
        *(("ffffffffffff", lacks, LATER) for lacks in (None, "jobs")),
    ],
)  # fmt: skip
def test_a_database_of_another_mlflow_is_one_line_that_says_how(
    tmp_path, empty_store, monkeypatch, capsys, schema, lacks, remedy
):
    file = tmp_path / "mlflow.db"
    shutil.copy(empty_store, tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute(f"UPDATE alembic_version SET version_num = '{schema}'")
        if lacks:
            database.execute(f"DROP TABLE {lacks}")
        database.commit()
    before = file.read_bytes()
    done = CliRunner().invoke(main)
    assert done.exit_code == 1
    line = f"MLflow's database {file} {remedy.format(file=file)}"
    assert done.output.startswith(f"Error: {line}")
    assert done.output.count("\n") == 1
    store._say_once.cache_clear()
    assert store.spared(store.connect) is None  # as a training does
    out, err = capsys.readouterr()
    assert (out + err).startswith(line)
    assert "; the work continues" in out + err
    assert file.read_bytes() == before


def test_mlflow_upgrades_a_database_that_lacks_its_newest_tables(local, tmp_path, monkeypatch):
    """As those of every earlier release do: by the first command that opens it, and the runs are still there."""
    run = open_experiment("spiny-cat")
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    shutil.copy(tmp_path / "mlflow.db", earlier)
    monkeypatch.setenv("DVC_ROOT", str(earlier))
    with contextlib.closing(sqlite3.connect(earlier / "mlflow.db")) as database:

        def schema() -> str:
            return database.execute("SELECT version_num FROM alembic_version").fetchone()[0]

        newest = schema()
        alembic.command.downgrade(_get_alembic_config(address.own_store()), "-1")
        assert schema() != newest
        assert store.connect().get_run(run).info.run_id == run
        assert schema() == newest
