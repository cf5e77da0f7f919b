"""The whole pipeline in a clone of its own, with small nets: what runs, what is left behind, and a kill."""

import json
import signal
import subprocess
import time
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch

from tests.archives.miniatures import few_digits
from tests.conftest import ROOT
from tests.stages.clones import clone, environment, run, runs

pytestmark = pytest.mark.slow


def small(params: dict) -> None:
    params["data"] |= {
        "corruptions": ["gaussian_noise", "contrast", "saturate"],
        "perturbations": ["gaussian_noise", "translate"],
        "corrupted_images": 24,
        "perturbed_images": 5,
    }
    params["train"] |= {"epochs": 2, "milestones": [1], "seeds": [0, 1], "batch_size": 16}
    params["nets"] = {
        "alexnet": {
            "block": "conv",
            "arch": "alexnet",
            "family": "alexnet",
            "train": {"lr": 0.01, "epochs": 1, "batch_size": 64, "seeds": [0]},
        },
        "lenet": {"block": "conv", "arch": "lenet_b", "family": "lenet", "train": {"lr": 0.02}},
        "lenet-pp": {"block": "pushpull", "arch": "lenet_b", "family": "lenet", "train": {"lr": 0.02}},
    }


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, empty_store) -> Path:
    images = tmp_path_factory.mktemp("few")
    few_digits(images, train=160, test=48)

    def change(params: dict) -> None:
        small(params)
        params["data"]["path"] = str(images)

    folder = clone(tmp_path_factory.mktemp("pipeline"), change, empty_store, presets=["jpeg"])
    run(folder, "dvc", "repro")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "results")
    return folder


def test_repro_measures_everything_once(pipeline):
    metrics = pipeline / "metrics" / "digits"
    corruption = pd.read_csv(metrics / "corruption.csv")
    assert len(corruption) == (1 + 2 * 2) * (1 + 3 * 5)  # nets with seeds, clean and corruptions x severities
    assert not corruption.duplicated(["net", "seed", "corruption", "severity"]).any()
    assert corruption.error.between(0, 100).all()
    perturbation = pd.read_csv(metrics / "perturbation.csv")
    assert len(perturbation) == (1 + 2 * 2) * 2 * 2 * 3  # nets with seeds, perturbations, protocols, metrics
    history = pd.read_csv(metrics / "history" / "lenet.csv")
    assert history.groupby("seed").epoch.apply(list).tolist() == [[1, 2], [1, 2]]
    assert history.groupby("seed").lr.apply(list).tolist() == [pytest.approx([0.02, 0.002])] * 2


def test_summary_is_that_of_the_tidy_table(pipeline):
    metrics = pipeline / "metrics" / "digits"
    table = pd.read_csv(metrics / "corruption.csv")
    means = table.groupby(["net", "corruption"]).error.mean()
    summary = json.loads((metrics / "summary.json").read_text(encoding="utf-8"))
    assert list(summary) == ["alexnet", "lenet", "lenet-pp"]
    for net, values in summary.items():
        own, alexnet = means[net], means["alexnet"]
        names = ["gaussian_noise", "contrast", "saturate"]
        assert values["E_clean"] == pytest.approx(own["clean"], abs=1e-3)
        assert values["E_corr"] == pytest.approx(own[names].mean(), abs=1e-3)
        assert values["mCE"] == pytest.approx(100 * (own[names] / alexnet[names]).mean(), abs=1e-3)
    text = (metrics / "tables.md").read_text(encoding="utf-8")
    assert "our own alexnet" in text
    assert "lenet-pp - lenet" in text


def test_nothing_runs_twice_and_git_sees_no_surprise(pipeline):
    assert "Data and pipelines are up to date" in run(pipeline, "dvc", "repro").stdout
    assert run(pipeline, "git", "status", "--porcelain").stdout == ""
    assert not list(pipeline.rglob("*.part"))


def test_every_net_and_seed_has_its_run(pipeline):
    parents, children = runs(pipeline)
    first = min(parents, key=lambda one: one.info.start_time)
    assert sorted((c.data.tags["net"], c.data.tags["seed"]) for c in children[first.info.run_id]) == [
        ("alexnet", "0"), *((net, seed) for net in ("lenet", "lenet-pp") for seed in "01"),
    ]  # fmt: skip
    for child in children[first.info.run_id]:
        assert child.info.status == "FINISHED"
        assert {"test/E_corr", "corruption/contrast", "perturbation/translate", "train/loss"} <= set(
            child.data.metrics
        )
    assert "mCE/lenet-pp" in first.data.metrics


def test_results_found_in_git_reach_mlflow(pipeline):
    before, _ = runs(pipeline)
    run(pipeline, "python", "-m", "stages.tracking", "mirror")
    run(pipeline, "python", "-m", "stages.tracking", "mirror")  # has nothing left to do
    parents, children = runs(pipeline)
    (new,) = {one.info.run_id for one in parents} - {one.info.run_id for one in before}
    assert len(children[new]) == 5
    for child in children[new]:
        assert child.data.tags["dvc.cached"] == "true"
        assert {"test/E_corr", "corruption/contrast", "train/loss"} <= set(child.data.metrics)


def test_alpha_touches_push_pull_nets_alone(pipeline):
    done = run(pipeline, "dvc", "exp", "run", "-n", "stronger", "-S", "pushpull.alpha=2")
    ran = {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")}
    assert ran == {
        "train@lenet-pp", "evaluate_corruption@lenet-pp", "evaluate_perturbation@lenet-pp", "aggregate", "report",
    }  # fmt: skip
    shown = run(pipeline, "dvc", "exp", "show", "--csv").stdout
    assert "stronger" in shown
    difference = json.loads(run(pipeline, "dvc", "metrics", "diff", "--json").stdout)
    changed = {key.split(".")[0] for key in difference["metrics/digits/summary.json"]}
    assert changed == {"lenet-pp"}

    parents, children = runs(pipeline)
    (parent,) = [one for one in parents if one.data.tags["dvc.exp"] == "stronger"]
    own = children[parent.info.run_id]
    assert len(own) == 5
    cached = {one.data.tags["net"] for one in own if one.data.tags.get("dvc.cached") == "true"}
    assert cached == {"alexnet", "lenet"}
    assert {one.data.tags["mlflow.runName"] for one in own} == {"alexnet", "lenet", "lenet-pp (alpha=2)"}
    assert {one.data.params["alpha"] for one in own if one.data.tags["net"] == "lenet-pp"} == {"2.0"}


def lost(folder: Path) -> set[str]:
    """Data sets of which a file in Git is not in the workspace, which then is as it was committed."""
    files = run(folder, "git", "ls-files", "--deleted").stdout.splitlines()
    run(folder, "git", "reset", "-q", "--hard")
    return {Path(file).parts[1] for file in files}


@pytest.fixture
def with_make(pipeline) -> Path:
    """The clone as it was committed, where `make` takes the tests' interpreter for what `make setup` made."""
    run(pipeline, "git", "reset", "-q", "--hard")
    (pipeline / ".venv").mkdir(exist_ok=True)
    (pipeline / ".venv" / ".installed").touch()
    (pipeline / ".dvc" / "plots").mkdir(exist_ok=True)
    (pipeline / ".dvc" / "plots" / "page.html").touch()
    return pipeline


def test_make_jpeg_leaves_the_results_of_another_set(with_make, tmp_path):
    """DVC puts them away before the first stage, which here finds no images; where a target is named it does not."""
    nowhere = str(tmp_path / "nowhere")
    done = run(with_make, "make", "jpeg", f"DATA={nowhere}", check=False)
    assert "failed to run: python -m stages.fetch" in done.stderr
    assert lost(with_make) == set()
    run(with_make, "dvc", "exp", "run", "-S", "data.name=mine", "-S", f"data.path={nowhere}", check=False)
    assert lost(with_make) == {"digits"}, "nothing is put away: no stage need be named any more"


@pytest.mark.parametrize("target", ["paper", "jpeg", "authors"])
def test_a_preset_names_the_last_stage(target):
    *_, last = (
        run(ROOT, "make", "-n", "--no-print-directory", target).stdout.replace("\\\n", " ").splitlines()
    )
    assert last.startswith("dvc exp run") and last.endswith(" report")


def test_killed_training_goes_on_to_the_same_bits(tmp_path, empty_store):
    images = tmp_path / "few"
    images.mkdir()
    few_digits(images, train=256, test=64)

    def longer(params):
        small(params)
        params["data"]["path"] = str(images)
        params["train"] |= {"epochs": 8, "milestones": [5]}

    folder = clone(tmp_path / "clone", longer, empty_store)
    run(folder, "python", "-m", "stages.fetch")
    command = ["python", "-m", "stages.train", "lenet-pp"]
    run(folder, *command)
    model = folder / "models" / "lenet-pp.pt"
    whole = torch.load(model, weights_only=True)["weights"]
    model.unlink()

    scratch = folder / ".dvc" / "tmp" / "pushpull"
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(forked=True),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(scratch.glob("lenet-pp-*/1.pt")):  # in the middle of the second seed
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)  # which the server passes on to the training
    process.wait()
    assert not model.exists()

    done = run(folder, *command)
    assert "lenet-pp seed 1: resuming after epoch" in done.stdout
    resumed = torch.load(model, weights_only=True)["weights"]
    for seed, weights in whole.items():
        for name, value in weights.items():
            assert torch.equal(value, resumed[seed][name]), (seed, name)
    assert not list(scratch.glob("lenet-pp-*/"))

    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    _, children = runs(folder)
    second = [one for own in children.values() for one in own if one.data.tags["seed"] == "1"]
    assert len(second) == 2  # the whole training, and the killed one under one run
    for one in second:
        assert one.info.status == "FINISHED"
        steps = [metric.step for metric in client.get_metric_history(one.info.run_id, "test/error")]
        assert steps == list(range(1, 9))


def test_a_mistake_is_one_line_without_traceback(tmp_path):
    folder = clone(tmp_path, lambda params: params["pushpull"].update(alhpa=2))
    done = run(folder, "python", "-m", "stages.fetch", check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "Error: params.yaml: unknown key `pushpull.alhpa`; did you mean 'alpha'?"


def test_stages_explain_themselves():
    for stage in (
        "fetch",
        "corrupt",
        "train",
        "evaluate_corruption",
        "evaluate_perturbation",
        "evaluate_noise",
        "official",
        "aggregate",
        "report",
        "experiments.study",
        "experiments.choose",
        "tracking",
    ):
        assert "Usage" in run(ROOT, "python", "-m", f"stages.{stage}", "--help").stdout


def test_dvc_lock_is_that_of_the_committed_code(tmp_path):
    run(tmp_path, "git", "clone", "-q", "--no-hardlinks", str(ROOT), "clone")
    dry = run(tmp_path / "clone", "dvc", "repro", "--allow-missing", "--dry").stdout
    assert "up to date" in dry, dry
