"""Each study from the command to the table: what runs, what is taken up, and what DVC's queue may lose."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner

from common_corruptions.sweeps import SWEEPS
from stages.evaluate_noise import means
from stages.experiments import queue as dvc_queue
from stages.experiments import study
from stages.experiments.studies import STUDIES
from stages.experiments.studies import experiments as planned
from tests.archives.miniatures import few_digits
from tests.stages.test_pipeline import clone, environment, run

# One of the nine configurations, so that two nets are trained instead of ten.
ONE_CONFIGURATION = """
import sys
from stages.experiments import studies, study
studies.SCALES, studies.ALPHAS = (2.0,), (1.0,)
study.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A repository whose data set is 100 digits, with nothing run yet."""
    images = tmp_path_factory.mktemp("few")
    few_digits(images, train=64, test=36)

    def few(params: dict) -> None:
        params["data"] |= {"name": "few", "path": str(images), "corruptions": ["fog"]}
        params["train"] |= {"epochs": 1, "milestones": [1], "seeds": [0, 1]}

    return clone(tmp_path_factory.mktemp("studies"), few)


def runs(repository: Path, name: str) -> tuple:
    """The MLflow run of an experiment, and those of its seeds."""
    client = mlflow.MlflowClient(f"sqlite:///{repository}/mlflow.db")
    place = client.get_experiment_by_name("few").experiment_id
    found = client.search_runs([place], f"tags.`dvc.exp` = '{name}'")
    (parent,) = [one for one in found if one.data.tags["role"] == "experiment"]
    return parent, [one for one in found if one.data.tags["role"] == "net"]


@pytest.mark.slow
def test_table4_runs_in_the_queue_and_again_only_what_is_missing(repository):
    command = [sys.executable, "-c", ONE_CONFIGURATION, "table4", "-S", "train.seeds=[0]"]

    def finished() -> dict[str, str]:
        listed = run(
            repository, "git", "for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", "refs/exps/*/*/*"
        )
        return dict(line.split() for line in listed.stdout.splitlines())

    done = run(repository, *command)
    first = finished()
    assert sorted(name.rsplit("-", 1)[0] for name in first) == ["table4-few-baseline", "table4-few-s2-a1"]
    folder = repository / "metrics" / "few" / "studies"
    table = pd.read_csv(folder / "table4.csv")
    for net in ("resnet14", "resnet14-pp"):
        assert table[table.net == net].variance.tolist() == [0, 0.0001, 0.0005, 0.001, 0.005, 0.01]
    assert table.error.between(0, 100).all()
    assert (folder / "table4.md").read_text(encoding="utf-8") in done.stdout
    assert (folder / "table4.tex").exists()
    assert run(repository, "git", "status", "--porcelain").stdout.split() == ["??", "metrics/"]
    for name in first:
        parent, (child,) = runs(repository, name)
        assert {parent.info.status, child.info.status} == {"FINISHED"}
        assert {"train/loss", "noise/clean", "noise/gaussian_noise_0.01", "noise/poisson_noise_0.2"} <= set(
            child.data.metrics
        )
        assert f"noise/clean/{child.data.tags['net']}" in parent.data.metrics

    (gone,) = [name for name in first if "baseline" in name]
    run(repository, "dvc", "exp", "remove", gone)
    before = (folder / "table4.csv").read_bytes()
    run(repository, *command)
    second = finished()
    assert set(second) == set(first)
    assert [name for name in first if second[name] != first[name]] in ([gone], [])
    assert (folder / "table4.csv").read_bytes() == before
    queue = run(repository, "dvc", "queue", "status").stdout
    assert "Running" not in queue and "Queued" not in queue


def leave(repository: Path, name: str, files: dict[str, str]) -> None:
    """A finished experiment that left these files."""
    base = run(repository, "git", "rev-parse", "HEAD").stdout.strip()
    for path, text in files.items():
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text(text, encoding="utf-8")
        run(repository, "git", "add", "-f", path)
    run(repository, "git", "commit", "-qm", name)
    run(repository, "git", "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", "HEAD")
    run(repository, "git", "reset", "-q", "--hard", base)


def measurements(which: str, net: str, seeds: list[int], clean: float) -> pd.DataFrame:
    if which == "mnist":
        levels = [("clean", 0.0), *((sweep, level) for sweep in SWEEPS for level in SWEEPS[sweep])]
        rows = [(net, seed, *level, clean + seed + 10 * level[1]) for seed in seeds for level in levels]
        return pd.DataFrame(rows, columns=["net", "seed", "sweep", "level", "error"])
    levels = [("clean", 0), *(("fog", severity) for severity in range(1, 6))]
    rows = [(net, seed, *level, clean + seed + level[1]) for seed in seeds for level in levels]
    return pd.DataFrame(rows, columns=["net", "seed", "corruption", "severity", "error"])


@pytest.mark.slow
@pytest.mark.parametrize("which", ["table5", "mnist"])
def test_results_of_finished_experiments_become_tables_and_runs(repository, monkeypatch, which):
    monkeypatch.chdir(repository)
    for key in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment().items():
        monkeypatch.setenv(key, value)
    wanted = planned(STUDIES[which], None)
    for i, one in enumerate(wanted):
        net = one.cell.net
        table = measurements(which, net, one.params.training(net).seeds, clean=5.0 + i)
        curve = pd.DataFrame(
            [(net, seed, 1, 0.1, 2.0, 50.0, 40.0) for seed in (0, 1)],
            columns=["net", "seed", "epoch", "lr", "train_loss", "train_error", "test_error"],
        )
        folder = Path("metrics") / "few"
        leave(repository, one.name, {
            str(folder / STUDIES[which].results / f"{net}.csv"): table.to_csv(index=False),
            str(folder / "history" / f"{net}.csv"): curve.to_csv(index=False),
        })  # fmt: skip
    monkeypatch.setattr(study, "experiments", lambda *_: wanted)  # which takes seconds
    done = CliRunner().invoke(study.main, [which])
    assert done.exit_code == 0, done.output
    folder = repository / "metrics" / "few"
    parent, children = runs(repository, wanted[1].name)
    assert sorted(child.data.tags["seed"] for child in children) == ["0", "1"]
    assert {child.data.tags["dvc.cached"] for child in children} == {"true"}
    if which == "mnist":
        table = pd.read_csv(folder / "studies" / "table1.csv")
        shown = table[(table.net == "lenet_a-pp") & (table.sweep == "gaussian_noise") & (table.level == 0.5)]
        assert shown.accuracy.item() == pytest.approx(100 - (6.0 + 0.5 + 5.0))
        for name in ("figure4", "figure5"):
            assert (folder / "studies" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert parent.data.metrics["noise/poisson_noise_0.3/lenet_a-pp"] == pytest.approx(6.5 + 3.0)
    else:
        table = (
            pd.read_csv(folder / "studies" / "table5.csv").set_index(["net", "train_alpha", "quantity"]).error
        )
        assert table["resnet20-pp", True, "e_clean"] == pytest.approx(7.5)
        assert table["resnet20-pp", True, "e_corr"] == pytest.approx(7.5 + 3.0)
        assert table["resnet56", False, "e_corr"] == pytest.approx(8.5 + 3.0)
        assert parent.data.metrics["corruption/fog/resnet20-pp"] == pytest.approx(6.5 + 3.0)

    broken = measurements(which, wanted[0].cell.net, [0], clean=5.0)
    for content in (broken.to_csv(index=False), "", "<html>"):  # a seed is missing; the file is damaged
        leave(repository, wanted[0].name, {
            f"metrics/few/{STUDIES[which].results}/{wanted[0].cell.net}.csv": content
        })  # fmt: skip
        refused = CliRunner().invoke(study.main, [which])
        assert refused.exit_code == 1
        assert (
            f"of experiment {wanted[0].name} must hold every measurement of the seeds [0, 1]"
            in refused.output
        )


class Queue:
    """A queue of DVC's: what is put in runs when workers start, but `lost` experiments only list as running."""

    def __init__(self, lost: dict[str, int], failing: set[str]) -> None:
        self.lost, self.failing = lost, failing
        self.states: dict[str, str] = {}
        self.refs: dict[str, str] = {}
        self.put: list[str] = []
        self.proc = SimpleNamespace(get=lambda revision: None)
        self.experiments = SimpleNamespace(celery_queue=self)

    def enqueue(self, repo, experiment) -> None:
        self.put.append(experiment.name)
        self.states[experiment.name] = "Queued"

    def start(self, jobs: int) -> None:
        for name, state in self.states.items():
            if state == "Queued" and self.lost.get(name, 0):
                self.lost[name] -= 1
                self.states[name] = "Running"
            elif state == "Queued" and name in self.failing:
                self.states[name] = "Failed"
            elif state == "Queued":
                self.states[name] = "Success"
                self.refs[name] = "0" * 40

    def status(self) -> list[dict]:
        return [{"name": name, "rev": name, "status": state} for name, state in self.states.items()]

    def kill(self, names: list[str], force: bool) -> None:
        self.states |= dict.fromkeys(names, "Failed")

    def remove(self, names: set[str]) -> None:
        for name in names:
            del self.states[name]

    def shutdown(self) -> None: ...

    def __enter__(self) -> "Queue":
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def queued(monkeypatch):
    def use(lost: dict[str, int] | None = None, failing: set[str] | None = None) -> Queue:
        queue = Queue(lost or {}, failing or set())
        monkeypatch.setattr(dvc_queue, "Repo", lambda: queue)
        monkeypatch.setattr(dvc_queue, "enqueue", queue.enqueue)
        monkeypatch.setattr(dvc_queue, "prepare_data", lambda *_: None)
        monkeypatch.setattr(dvc_queue, "finished", lambda: dict(queue.refs))
        monkeypatch.setattr(dvc_queue, "_start", queue.start)
        for constant in ("POLL", "GRACE", "PATIENCE"):
            monkeypatch.setattr(dvc_queue, constant, 0.0)
        return queue

    return use


WANTED = [SimpleNamespace(name=name) for name in "abc"]


def test_each_runs_once_and_what_is_done_or_queued_is_not_queued_again(queued):
    queue = queued()
    queue.refs["a"] = "1" * 40
    queue.states["b"] = "Queued"
    assert dvc_queue.run(WANTED, 2, "fetch") == {"a": "1" * 40, "b": "0" * 40, "c": "0" * 40}
    assert queue.put == ["c"]
    dvc_queue.run(WANTED, 2, "fetch")
    assert queue.put == ["c"]


def test_a_lost_experiment_is_queued_again(queued):
    queue = queued(lost={"b": 1})
    assert set(dvc_queue.run(WANTED, 2, "fetch")) == {"a", "b", "c"}
    assert queue.put == ["a", "b", "c", "b"]


def test_one_that_is_always_lost_is_an_error(queued):
    queue = queued(lost={"b": 99})
    with pytest.raises(click.ClickException, match=f"DVC lost b {dvc_queue.ROUNDS} times"):
        dvc_queue.run(WANTED, 2, "fetch")
    assert queue.put.count("b") == dvc_queue.ROUNDS and queue.put.count("a") == 1


def test_a_failed_experiment_is_named_and_runs_again_next_time(queued):
    queue = queued(failing={"b"})
    with pytest.raises(click.ClickException, match="1 of 3 experiments failed: b"):
        dvc_queue.run(WANTED, 2, "fetch")
    assert queue.put == ["a", "b", "c"]
    queue.failing.clear()
    assert set(dvc_queue.run(WANTED, 2, "fetch")) == {"a", "b", "c"}
    assert queue.put == ["a", "b", "c", "b"]


def test_a_process_that_ended_is_no_process():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for info, expected in (
        (SimpleNamespace(pid=ended.pid, returncode=None), False),
        (SimpleNamespace(pid=ended.pid, returncode=0), False),
        (None, False),
        (SimpleNamespace(pid=os.getpid(), returncode=None), True),
    ):
        queue = SimpleNamespace(proc=SimpleNamespace(get=lambda _, info=info: info))
        assert dvc_queue._has_process(queue, "rev") is expected


def test_dvc_lists_the_mean_over_seeds():
    table = measurements("mnist", "lenet_a", [0, 1], clean=5.0)
    listed = means(table)
    assert json.loads(json.dumps(listed))["gaussian_noise"]["0.5"] == pytest.approx(5.5 + 5.0)
    assert listed["clean"] == {"0": 5.5}
