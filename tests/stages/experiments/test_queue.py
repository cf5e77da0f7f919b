"""Experiments side by side: DVC's queue with two workers, and two `make repro` in one clone.

`python -m tests.stages.experiments.test_queue 10` repeats the first in ten new clones.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.stages.test_pipeline import clone, environment, run, runs

pytestmark = pytest.mark.slow

ALPHAS = (0.5, 1.5, 2.0, 3.0)


def one_small_net(params: dict) -> None:
    params["data"] |= {
        "corruptions": ["contrast"],
        "perturbations": ["translate"],
        "perturbed_images": 2,
    }
    params["train"] |= {"epochs": 1, "milestones": [1], "seeds": [0], "lr": 0.02, "batch_size": 256}
    params["nets"] = {"lenet-pp": {"block": "pushpull", "arch": "lenet_b", "family": "lenet"}}


def queue_of_four(folder: Path) -> None:
    """Four experiments on two workers, on a new store: every one has one parent and one child with everything."""
    clone(folder, one_small_net)
    run(folder, "dvc", "repro", "-q", "corrupt", "official")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "data")
    assert not (folder / "mlflow.db").exists()
    for alpha in ALPHAS:
        run(folder, "dvc", "exp", "run", "--queue", "-n", f"alpha-{alpha:g}", "-S", f"pushpull.alpha={alpha}")
    run(folder, "dvc", "queue", "start", "-j", "2")
    deadline = time.monotonic() + 900
    while True:
        status = run(folder, "dvc", "queue", "status").stdout
        if status.count("Success") == len(ALPHAS):
            break
        assert "Failed" not in status, status + logs(folder)
        assert time.monotonic() < deadline, status + logs(folder)
        time.sleep(5)  # asking costs a second of a core
    parents, children = runs(folder)
    assert sorted(parent.data.tags["dvc.exp"] for parent in parents) == [f"alpha-{a:g}" for a in ALPHAS]
    for parent in parents:
        assert parent.info.status == "FINISHED"
        assert "E_corr/lenet-pp" in parent.data.metrics
        (child,) = children[parent.info.run_id]
        assert child.info.status == "FINISHED"
        assert child.data.params["alpha"] == f"{float(parent.data.tags['dvc.exp'].removeprefix('alpha-'))}"
        assert {"test/E_corr", "corruption/contrast", "train/loss", "train/seconds"} <= set(
            child.data.metrics
        )
        assert child.inputs.dataset_inputs


def logs(folder: Path) -> str:
    return "".join(
        run(folder, "dvc", "queue", "logs", f"alpha-{alpha:g}", check=False).stdout[-2000:]
        for alpha in ALPHAS
    )


def test_four_queued_experiments_with_two_workers(tmp_path):
    queue_of_four(tmp_path)


def test_second_repro_in_a_clone_says_that_one_is_running(tmp_path):
    folder = clone(tmp_path, one_small_net)
    command = [sys.executable, "-m", "stages.experiments.repro"]
    first = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
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


if __name__ == "__main__":
    for repetition in range(int(sys.argv[1])):
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            queue_of_four(Path(folder))
            print(f"{repetition + 1}: no error, {time.monotonic() - started:.0f} s", flush=True)
