"""The training stage in a workspace of its own: several processes, a stop, a divergence, other hardware."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from stages import models, serving, tracking, train
from stages.datasets import load_split
from stages.params import load_params
from tests.stages.conftest import read_params, write_params
from training import engine, parallel
from training.batches import TrainingSet

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_model_logged(monkeypatch):
    monkeypatch.setattr(serving, "log_model", lambda *_: None)


def run(*arguments: str):
    return CliRunner().invoke(train.main, arguments)


def prepared(seed: int = 0):
    """What `train_seed` and `checkpoints` take, for the net `small`."""
    params = load_params()
    images, test = load_split("tiny", "train"), load_split("tiny", "test")
    trained = train.untrained(params, "small", images, test)
    data = TrainingSet.place(images.images, images.labels, trained.mean, trained.std, CPU)
    return trained.new(seed), data, test, params, "small", seed


def weights_of(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in module.state_dict().values()])


def test_two_processes_train_to_the_weights_of_one(workspace, one_thread):
    """gloo, synchronised batch normalisation, and a last batch of which the second process gets nothing.

    Sums in another order round otherwise, and training carries that on, by how much depends on the processor: the two
    end far nearer to each other than either is to where it began.
    """
    alone, *rest = prepared()
    began = [value.detach().clone() for value in alone.parameters()]
    (*_, single) = train.checkpoints(alone, *rest, None)
    Path("main.py").write_text(
        "from stages import serving, train\nserving.log_model = lambda *_: None\ntrain.main()\n"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, "main.py", "small"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    together = models.load(models.MODELS / "small.pt").net(0)
    steps = [value - start for value, start in zip(alone.parameters(), began, strict=True)]
    moved = torch.cat([step.detach().flatten() for step in steps]).norm()
    apart = (weights_of(together) - weights_of(alone)).norm()  # of statistics and counters, too
    assert apart < 0.02 * moved  # more than 1 with norms of their own, or with gradients of the wrong size
    curve = pd.read_csv("metrics/tiny/curves/small.csv")
    assert curve.train_loss.tolist() == pytest.approx([row["train_loss"] for row in single["rows"]], rel=1e-4)


def torchrun(**environment: str) -> dict[str, str]:
    """What torchrun tells a process, the first of two unless told otherwise."""
    return {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", **environment}


@pytest.mark.parametrize(
    ("variable", "launcher"),
    [("SLURM_STEP_NUM_TASKS", "srun"), ("OMPI_COMM_WORLD_SIZE", "mpirun"), ("PMI_SIZE", "mpiexec")],
)
def test_processes_of_another_launcher_do_not_train_one_net_each(workspace, monkeypatch, variable, launcher):
    monkeypatch.setenv(variable, "4")
    done = run("small")
    assert done.exit_code == 1 and f"{launcher} started 4 processes without torchrun" in done.output
    monkeypatch.setenv(variable, "1")
    parallel.check_launch(CPU)
    monkeypatch.setenv(variable, "4")
    for key, value in torchrun(LOCAL_WORLD_SIZE="1").items():  # one torchrun a machine is how it should be
        monkeypatch.setenv(key, value)
    parallel.check_launch(CPU)


def test_more_processes_than_gpus_is_one_line(monkeypatch):
    for key, value in torchrun(LOCAL_WORLD_SIZE="4").items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="torchrun started 4 processes on a machine with 2 GPUs"):
        parallel.check_launch(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    parallel.check_launch(torch.device("cuda"))


def test_a_process_is_bound_to_its_gpu_as_it_joins(monkeypatch):
    seen = []
    for key, value in torchrun(LOCAL_RANK="1", LOCAL_WORLD_SIZE="2").items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *a, **k: seen.append((a, k)))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with parallel.joined(torch.device("cuda")) as device:
        assert device == torch.device("cuda", 1)
    assert seen == [(("nccl",), {"device_id": device})]


def test_the_lock_is_taken_before_joining_and_not_waited_for_under_torchrun(workspace, monkeypatch):
    for key, value in torchrun(LOCAL_WORLD_SIZE="2").items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(parallel, "joined", lambda device: pytest.fail("joined without the lock"))
    with tracking.lock(train.work_folder(load_params(), "small").name):
        done = run("small")
    assert done.exit_code == 1 and "another process trains small-" in done.output


def test_sigterm_keeps_the_epoch_and_stops(workspace):
    with pytest.raises(SystemExit, match="stopped after epoch 1"):
        train.train_seed(
            *prepared(), workspace / "0.pt", None, lambda rows: os.kill(os.getpid(), signal.SIGTERM)
        )
    saved = train.load_checkpoint(workspace / "0.pt", train.describe(CPU), epochs=2)
    assert [row["epoch"] for row in saved["rows"]] == [1]
    whole, resumed = prepared(), prepared(seed=5)
    list(train.checkpoints(*whole, None))
    list(train.checkpoints(resumed[0], *whole[1:], saved))
    assert torch.equal(weights_of(resumed[0]), weights_of(whole[0]))


def test_checkpoints_are_written_by_time_and_at_a_stop(workspace, monkeypatch):
    """Not at every epoch; the first one soon, the last one always, and one at a stop."""
    written = []
    keep = train.save_checkpoint
    monkeypatch.setattr(train, "save_checkpoint", lambda path, content: written.append(len(content["rows"])))
    params = read_params()
    params["train"]["epochs"] = 5
    write_params(params)
    train.train_seed(*prepared(), workspace / "0.pt", None, lambda rows: None)
    assert written == [1, 5]

    def write(path, content):
        written.append(len(content["rows"]))
        keep(path, content)

    written.clear()
    monkeypatch.setattr(train, "save_checkpoint", write)
    evaluate = engine.count_errors
    calls = []

    def count(*arguments):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*arguments)

    monkeypatch.setattr(engine, "count_errors", count)
    with pytest.raises(SystemExit, match="stopped after epoch 3"):
        train.train_seed(*prepared(), workspace / "0.pt", None, lambda rows: None)
    assert written == [1, 3]
    assert train.load_checkpoint(workspace / "0.pt", train.describe(CPU), epochs=5)["state"]["epoch"] == 3


def test_an_unfinished_checkpoint_of_other_hardware_is_not_taken_up(workspace):
    torch.save({"state": {"epoch": 1}, "rows": [], "device": "another"}, "0.pt")
    assert train.load_checkpoint(workspace / "0.pt", "cpu x 1", epochs=2) is None
    assert train.load_checkpoint(workspace / "0.pt", "cpu x 1", epochs=1)["device"] == "another"


def test_divergence_keeps_the_last_good_epoch_and_marks_the_run_failed(workspace):
    params = read_params()
    params["train"] |= {"lr": 1e30, "epochs": 3, "milestones": []}
    write_params(params)
    done = run("small")
    assert done.exit_code == 1
    assert "at learning rate 1e+30" in done.output
    assert "lower nets.small.train.lr" in done.output
    assert not models.MODELS.exists()
    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    found = client.search_runs([client.get_experiment_by_name("tiny").experiment_id], "tags.role = 'net'")
    assert [one.info.status for one in found] == ["FAILED"]


def test_tf32_on_a_cpu_is_one_line(workspace):
    params = read_params()
    params["train"]["precision"] = "tf32"
    write_params(params)
    done = run("small")
    assert done.exit_code == 1
    assert done.output.startswith("Error: train.precision: tf32 is a mode of CUDA GPUs and this is a cpu")
