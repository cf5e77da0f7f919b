"""Several runs in one clone: two experiments in DVC's queue, two `make repro`, a study and the same study changed."""

import subprocess
import time
from pathlib import Path

import pytest

from stages.experiments.launch import to_train
from stages.files.params import load_params
from stages.files.yaml_file import read_yaml
from tests.archives.miniatures import few_digits
from tests.stages.clones import clone, environment, run, runs
from tests.stages.yaml_files import write_yaml

pytestmark = pytest.mark.slow

ALPHAS = ("0.5", "2.0")

# The stages that no other test starts without what `forked_python` has ready; those that load least come first.
EACH = """
import importlib
for stage in ("fetch", "corrupt", "official", "aggregate", "evaluate_perturbation", "evaluate_corruption"):
    main = importlib.import_module(f"stages.{stage}").main
    main(["lenet-pp"] if stage.startswith("evaluate") else [], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    few_digits(folder, train=64, test=36)
    return folder


@pytest.fixture
def one_small_net(images):
    def change(params: dict) -> None:
        params["data"] |= {"path": str(images), "corruptions": ["contrast"], "perturbations": ["translate"]}
        params["data"]["perturbed_images"] = 2
        params["train"] |= {"epochs": 1, "milestones": [1], "seeds": [0], "lr": 0.02}
        params["nets"] = {"lenet-pp": {"block": "pushpull", "arch": "lenet_b", "family": "lenet"}}

    return change


def choose(folder: Path, *overrides: str, table: str = "table4") -> None:
    """As `make table4` does."""
    study = ["--pipeline", "studies", "-S", f"studies/params.yaml:study=${{{table}}}"]
    run(folder, "python", "-m", "stages.experiments.choose", *study, *overrides)


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def test_two_queued_experiments_on_two_workers(tmp_path, one_small_net):
    """On a new store, each has one parent run and one child run with everything."""
    folder = clone(tmp_path, one_small_net)
    run(folder, "dvc", "repro", "-q", "corrupt", "official")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "data")
    assert not (folder / "mlflow.db").exists()
    for alpha in ALPHAS:
        options = ["-n", f"alpha-{alpha}", "-S", f"pushpull.alpha={alpha}"]
        run(folder, "dvc", "exp", "run", "--queue", *options, "aggregate")
    run(folder, "dvc", "queue", "start", "-j", "2")
    deadline = time.monotonic() + 600
    while (status := run(folder, "dvc", "queue", "status").stdout).count("Success") < len(ALPHAS):
        logs = [run(folder, "dvc", "queue", "logs", f"alpha-{a}", check=False).stdout[-2000:] for a in ALPHAS]
        assert "Failed" not in status and time.monotonic() < deadline, status + "".join(logs)
        time.sleep(5)  # asking costs a second of a core
    parents, children = runs(folder)
    assert sorted(parent.data.tags["dvc.exp"] for parent in parents) == [f"alpha-{a}" for a in ALPHAS]
    for parent in parents:
        assert parent.info.status == "FINISHED"
        assert "E_corr/lenet-pp" in parent.data.metrics
        (child,) = children[parent.info.run_id]
        assert child.info.status == "FINISHED"
        assert child.data.params["alpha"] == parent.data.tags["dvc.exp"].removeprefix("alpha-")
        expected = {"test/E_corr", "corruption/contrast", "train/loss", "train/seconds"}
        assert expected <= set(child.data.metrics)
        assert child.inputs.dataset_inputs


def test_a_study_runs_what_is_missing_and_no_more(tmp_path, monkeypatch, one_small_net, empty_store):
    """Table 4 with two nets: `dvc repro` leaves it alone, a second run writes the table, a changed net runs alone.

    A cluster is given the nets that DVC would train.
    """
    nets = {
        "plain": {"block": "conv", "arch": "lenet_b", "family": "lenet"},
        "pp": {"block": "pushpull", "arch": "lenet_b", "family": "lenet", "options": {"alpha": 0.5}},
    }
    folder = clone(tmp_path, one_small_net, empty_store)
    file = folder / "studies" / "params.yaml"
    raw = read_yaml(file)
    write_yaml(file, {**raw, "table4": raw["table4"] | {"nets": nets, "noise": nets}})
    run(folder, "git", "commit", "-qam", "two nets")
    assert "studies/dvc.yaml" not in run(folder, "dvc", "status").stdout
    choose(folder)
    monkeypatch.chdir(folder)
    pipeline = Path("studies")
    assert to_train(load_params(pipeline=pipeline), pipeline) == list(nets)
    first = run(folder, "dvc", "repro", "studies/dvc.yaml")
    each = [f"studies/dvc.yaml:{stage}@{net}" for stage in ("train", "evaluate_noise") for net in nets]
    assert sorted(ran(first.stdout)) == sorted(["fetch", *each, "studies/dvc.yaml:study@table4"])
    table = folder / "metrics" / "digits" / "studies" / "table4.csv"
    assert "lenet_b-pp,2,0.5,0.01" in table.read_text(encoding="utf-8")
    assert not (folder / "models").exists()
    choose(folder)
    again = run(folder, "dvc", "repro", "studies/dvc.yaml")
    assert ran(again.stdout) == ["studies/dvc.yaml:study@table4"]
    assert "plain" in run(folder, "dvc", "metrics", "show").stdout
    assert "studies/dvc.yaml" not in run(folder, "dvc", "dag", "--dot", "report").stdout

    assert to_train(load_params(pipeline=pipeline), pipeline) == []
    choose(folder, "-S", "studies/params.yaml:table4.nets.pp.options.alpha=1.5")
    assert to_train(load_params(pipeline=pipeline), pipeline) == ["pp"]
    changed = run(folder, "dvc", "repro", "studies/dvc.yaml")
    own = [f"studies/dvc.yaml:{stage}" for stage in ("train@pp", "evaluate_noise@pp", "study@table4")]
    assert ran(changed.stdout) == own
    assert "lenet_b-pp,2,1.5,0.01" in table.read_text(encoding="utf-8")
    parents, children = runs(folder)
    assert len(parents) == 2 and all(parent.info.status == "FINISHED" for parent in parents)
    for parent in parents:
        assert sorted(one.data.tags["net"] for one in children[parent.info.run_id]) == ["plain", "pp"]
        assert parent.data.tags["dvc.exp"].startswith("table4-digits-")


def test_second_repro_in_a_clone_says_that_one_is_running(tmp_path, one_small_net, empty_store):
    folder = clone(tmp_path, one_small_net, empty_store)
    command = ["python", "-m", "stages.experiments.repro"]
    first = subprocess.Popen(
        command, cwd=folder, env=environment(forked=True), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8",
    )  # fmt: skip
    lines = iter(first.stdout.readline, "")
    assert next(line for line in lines if "Running stage 'fetch'" in line)
    second = run(folder, *command, check=False)
    assert second.returncode == 1
    assert second.stderr.startswith("Error: another `make repro` is running in this clone")
    assert second.stdout == ""
    rest = first.communicate()[0]
    assert first.returncode == 0, rest
    parents, children = runs(folder)
    assert len(parents) == 1 and len(children[parents[0].info.run_id]) == 1
    assert "MLflow, the last two:" in rest
    run(folder, "python", "-c", EACH, forked=False)
