"""The training stage in a workspace of its own: several processes, a stop, a divergence, other hardware."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from stages import train
from stages.files import models
from stages.files.checkpoints import usable_checkpoint, work_folder
from stages.files.datasets import DATASETS, load_split
from stages.files.params import load_params
from stages.files.workspace import MODELS, lock
from stages.tracking import logged_model, runs, store
from tests import forked_python
from tests.conftest import ROOT
from tests.stages.conftest import read_params, write_params
from training import engine, parallel, resumable
from training.batches import TrainingSet
from training.device import describe
from training.normalisation import CIFAR_MEAN, CIFAR_STD
from training.resumable import checkpoints

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_model_logged(monkeypatch):
    monkeypatch.setattr(logged_model, "log_model", lambda *_: None)


def run(*arguments: str):
    return CliRunner().invoke(train.main, arguments)


def prepared(seed: int = 0):
    """What `checkpoints` takes, for the net `small`: net, images, test images and labels, recipe."""
    params = load_params()
    images, test = load_split("tiny", "train"), load_split("tiny", "test")
    trained = train.untrained(params, "small", images, test)
    data = TrainingSet.place(images.images, images.labels, trained.mean, trained.std, CPU)
    return trained.new(seed), data, *test, train.recipe(params, "small", seed)


def train_small(file: Path, log=lambda rows: None):
    """Train one seed of the net `small` as the stage does, keeping it in a file."""
    net, data, *_ = prepared()
    train.train_seed(load_params(), "small", 0, net, data, load_split("tiny", "test"), file, None, log)


def test_images_are_augmented_where_params_say_so(workspace, one_thread):
    weights = {}
    for augment in ("none", "augmix"):
        params = read_params()
        params["train"]["augment"] = augment
        write_params(params)
        net, *rest = prepared()
        list(checkpoints(net, *rest, None))
        weights[augment] = weights_of(net)
    assert not torch.equal(weights["none"], weights["augmix"])


def test_what_it_reads_of_the_parameters_makes_it_run_again(workspace, undeclared):
    missing = undeclared(train)
    assert run("small").exit_code == 0
    assert missing == set()


def test_images_of_another_name_are_trained_on_as_under_the_published_one(workspace):
    """With the mirroring and the statistics of CIFAR-10; those of a set of one's own are its own."""
    images, test = load_split("tiny", "train"), load_split("tiny", "test")

    def told(name: str) -> tuple:
        params = load_params()
        params = params.model_copy(update={"data": params.data.model_copy(update={"name": name})})
        net = train.untrained(params, "small", images, test)
        return train.recipe(params, "small", 0).flip, list(net.mean), list(net.std)

    assert (
        told("cifar10-authors")
        == told("cifar10")
        == (True, [m / 255 for m in CIFAR_MEAN], [s / 255 for s in CIFAR_STD])
    )
    assert told("tiny") != told("cifar10")


def test_a_checkpoint_belongs_to_one_data_set(workspace):
    """Equal images under two names are mirrored under one of them only."""
    first = work_folder(load_params(), "small")
    params = read_params()
    params["data"]["name"] = "cifar10"
    write_params(params)
    (workspace / DATASETS / "cifar10").symlink_to(workspace / DATASETS / "tiny")
    assert work_folder(load_params(), "small") != first


def net_runs():
    client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    return client.search_runs([client.get_experiment_by_name("tiny").experiment_id], "tags.role = 'net'")


def weights_of(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in module.state_dict().values()])


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(workspace, one_thread):
    """gloo, synchronised batch normalisation, and a last batch of which the second process gets nothing.

    Sums in another order round otherwise, and training carries that on, by how much depends on the processor: the two
    end far nearer to each other than either is to where it began.
    """
    alone, *rest = prepared()
    began = [value.detach().clone() for value in alone.parameters()]
    (*_, single) = checkpoints(alone, *rest, None)
    Path("main.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from stages import train\nfrom stages.tracking import logged_model\n"
        "logged_model.log_model = lambda *_: None\ntrain.main()\n",
        encoding="utf-8",
    )
    python = str(forked_python.commands() / "python")
    launcher = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command = [*launcher, python, "-m", "main", "small"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    together = models.load(MODELS / "small.pt").net(0)
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
    with lock(work_folder(load_params(), "small").name):
        done = run("small")
    assert done.exit_code == 1 and "another process is training small-" in done.output


def test_sigterm_keeps_the_epoch_and_stops(workspace):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="stopped after epoch 1"):
        train_small(workspace / "0.pt", lambda rows: os.kill(os.getpid(), signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is before  # what comes after a training can be ended again
    saved = usable_checkpoint(workspace / "0.pt", describe(CPU), epochs=2)
    assert [row["epoch"] for row in saved["rows"]] == [1]
    whole, resumed = prepared(), prepared(seed=5)
    list(checkpoints(*whole, None))
    list(checkpoints(resumed[0], *whole[1:], saved))
    assert torch.equal(weights_of(resumed[0]), weights_of(whole[0]))


def test_checkpoints_are_written_by_time_and_at_a_stop(workspace, monkeypatch):
    """Not at every epoch; the first one soon, the last one always, and one at a stop."""
    written = []
    keep = train.save_checkpoint
    monkeypatch.setattr(train, "save_checkpoint", lambda path, content: written.append(len(content["rows"])))
    params = read_params()
    params["train"]["epochs"] = 5
    write_params(params)
    train_small(workspace / "0.pt")
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
        train_small(workspace / "0.pt")
    assert written == [1, 3]
    assert usable_checkpoint(workspace / "0.pt", describe(CPU), epochs=5)["state"]["epoch"] == 3


@pytest.mark.parametrize("epoch", [0, 1])
def test_ctrl_c_says_where_the_next_run_goes_on(workspace, monkeypatch, epoch):
    """The signal comes at the first batch, or when the first epoch was kept."""
    log_curve, begin = runs.log_curve, resumable.train_epochs

    def press(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    if epoch:
        monkeypatch.setattr(runs, "log_curve", press)
    else:
        monkeypatch.setattr(resumable, "train_epochs", press)
    stopped = run("small")
    assert stopped.exit_code == 130
    expected = "resumes small seed 0 after epoch 1" if epoch else "restarts small seed 0"
    assert [line for line in stopped.output.splitlines() if "batch/s" not in line and line] == [
        f"Stopped; the next run {expected}."
    ]
    assert net_runs()[0].info.status == "KILLED"
    monkeypatch.setattr(runs, "log_curve", log_curve)
    monkeypatch.setattr(resumable, "train_epochs", begin)
    done = run("small")
    assert done.exit_code == 0
    assert ("resuming after epoch 1" in done.output) == bool(epoch)


def test_an_unfinished_checkpoint_of_other_hardware_is_not_taken_up(workspace):
    torch.save({"state": {"epoch": 1}, "rows": [], "device": "another"}, "0.pt")
    assert usable_checkpoint(workspace / "0.pt", "cpu x 1", epochs=2) is None
    assert usable_checkpoint(workspace / "0.pt", "cpu x 1", epochs=1)["device"] == "another"


def test_a_damaged_checkpoint_is_named_and_the_training_starts_anew(workspace, capsys):
    whole, again = prepared(), prepared()
    (*_, last) = checkpoints(*whole, None)
    torch.save(last, "0.pt")
    content = Path("0.pt").read_bytes()
    for damaged in (content[:1000], b"", content[:5000] + bytes(100) + content[5100:]):
        Path("0.pt").write_bytes(damaged)
        saved = usable_checkpoint(Path("0.pt"), describe(CPU), epochs=2)
        assert saved is None
        assert capsys.readouterr().out.startswith("0.pt: ")
    list(checkpoints(*again, saved))
    assert torch.equal(weights_of(again[0]), weights_of(whole[0]))


def test_divergence_keeps_the_last_good_epoch_and_marks_the_run_failed(workspace):
    params = read_params()
    params["train"] |= {"lr": 1e30, "epochs": 3, "milestones": []}
    write_params(params)
    done = run("small")
    assert done.exit_code == 1
    assert "at learning rate 1e+30" in done.output
    assert "No epoch was finished; lower nets.small.train.lr" in done.output
    assert not MODELS.exists()
    assert [one.info.status for one in net_runs()] == ["FAILED"]


@pytest.fixture
def interrupted(workspace, monkeypatch):
    """(client, experiment, id of the run) of a training of `small` that was stopped after its first epoch."""
    save = train.save_checkpoint
    monkeypatch.setattr(
        train, "save_checkpoint", lambda *all: (save(*all), os.kill(os.getpid(), signal.SIGTERM))
    )
    assert run("small").exit_code == 1
    monkeypatch.setattr(train, "save_checkpoint", save)
    client = store.connect()
    experiment = runs.find_experiment(client, "tiny")
    (one,) = client.search_runs([experiment], "tags.role = 'net'")
    assert one.info.status == "KILLED"
    return client, experiment, one.info.run_id


def whole_run(client, experiment: str, others: int = 0):
    """The newest run of `small`, which holds every epoch and the duration; so many others are not deleted."""
    one, *rest = client.search_runs([experiment], "tags.role = 'net'")
    assert len(rest) == others
    assert one.info.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(one.info.run_id, "test/error")] == [1, 2]
    assert one.data.metrics["train/seconds"] > 0
    assert client.get_run(one.data.tags["mlflow.parentRunId"]).info.lifecycle_stage == "active"
    return one.info.run_id


def test_an_interrupted_training_goes_on_in_its_run(interrupted):
    client, experiment, killed = interrupted
    done = run("small")
    assert "resuming after epoch 1" in done.output
    assert whole_run(client, experiment) == killed


def test_an_interrupted_training_whose_run_was_deleted_gets_a_new_one(interrupted, monkeypatch):
    """With everything: its model, too, though the deleted run had it."""
    client, experiment, killed = interrupted
    (note,) = Path(".dvc/tmp/pushpull").glob("small-*/0.run")
    note.with_suffix(".logged").write_text(killed, encoding="utf-8")
    logged = []
    monkeypatch.setattr(logged_model, "log_model", lambda run, *_: logged.append(run))
    client.delete_run(killed)
    done = run("small")
    assert done.exit_code == 0, done.output
    assert "resuming after epoch 1" in done.output
    new = whole_run(client, experiment)
    assert new != killed
    assert logged == [new]


def test_an_interrupted_training_whose_parent_was_deleted_gets_new_ones(interrupted):
    client, experiment, killed = interrupted
    client.update_run(killed, status="RUNNING")  # as `kill -9` leaves it
    client.delete_run(client.get_run(killed).data.tags["mlflow.parentRunId"])
    assert run("small").exit_code == 0
    assert whole_run(client, experiment, others=1) != killed
    assert client.get_run(killed).info.status == "KILLED"


def test_an_interrupted_training_whose_experiment_was_deleted_goes_on_in_it(interrupted):
    client, experiment, killed = interrupted
    client.delete_experiment(experiment)
    assert run("small").exit_code == 0
    assert whole_run(client, experiment) == killed


def test_an_interrupted_training_whose_database_was_removed_gets_a_new_run(
    interrupted, monkeypatch, empty_store
):
    shutil.copy(empty_store, "new.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///new.db")
    assert run("small").exit_code == 0
    client = store.connect()
    whole_run(client, runs.find_experiment(client, "tiny"))


def test_a_training_needs_no_mlflow(workspace, monkeypatch):
    """A lock that stays longer than a stage waits: the net is trained, without a run."""
    monkeypatch.setattr(store, "LOCKED", 0.05)
    monkeypatch.setattr(store, "PATIENCE", 0.2)
    with contextlib.closing(sqlite3.connect(workspace / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = run("small")
    assert done.exit_code == 0, done.output
    assert models.load(MODELS / "small.pt").weights.keys() == {0}
    assert done.output.count("is locked by another process; the work continues") == 1
    client = store.connect()
    assert runs.find_experiment(client, "tiny") is None


def fill(disk: Path) -> Path:
    """A file that leaves no room on a disk."""
    with open(disk / "ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass
    return disk / "ballast"


@pytest.mark.parametrize("cleared", [True, False])
def test_a_disk_that_fills_up_keeps_the_last_epoch(workspace, mount_disk, monkeypatch, cleared):
    """It is waited for with a word; where it stays full that is one line, and the training goes on the next time."""
    disk = mount_disk(workspace / ".dvc" / "tmp" / "pushpull", 20)
    monkeypatch.setattr(store, "POLL", 0.02)
    monkeypatch.setattr(store, "PATIENCE", 60 if cleared else 0.2)
    save, ballast = train.save_checkpoint, []

    def save_and_fill(path: Path, content: dict) -> None:
        save(path, content)
        if not ballast:
            ballast.append(fill(disk))
            if cleared:
                threading.Timer(1, ballast[0].unlink).start()

    monkeypatch.setattr(train, "save_checkpoint", save_and_fill)
    done = run("small")
    assert f"no space is left on the disk of {workspace}; waiting" in done.output
    if not cleared:
        assert done.exit_code == 1
        assert f"Error: no space is left on the disk of {workspace}" in done.output
        assert isinstance(done.exception, SystemExit)
        ballast[0].unlink()
        done = run("small")
        assert "resuming after epoch 1" in done.output
    assert done.exit_code == 0, done.output
    assert models.load(MODELS / "small.pt").weights.keys() == {0}


def test_tf32_on_a_cpu_is_one_line(workspace):
    params = read_params()
    params["train"]["precision"] = "tf32"
    write_params(params)
    done = run("small")
    assert done.exit_code == 1
    assert done.output.startswith("Error: train.precision: tf32 needs a CUDA GPU, but the device is cpu")
