"""The measurement on a GPU, rehearsed on the CPU: its parent, what a kill leaves, and the rules of its parts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.gpu import __main__ as parent
from benchmarks.gpu import recipe, smoke
from benchmarks.gpu.answers import save_answers, spread_answers
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.table import markdown
from stages.files.predictions import load_frames, load_logits
from tests import forked_python
from tests.conftest import ROOT
from training.engine import DivergedError


def jpeg_set(folder: Path, count: int) -> Path:
    """A folder with a set of so many JPEG images in each split, of ten classes."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "test"):
        files = [cv2.imencode(".jpg", rng.integers(0, 256, (32, 32, 3), np.uint8))[1] for _ in range(count)]
        arrays[f"{split}_bytes"] = np.concatenate(files)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"{split}_labels"] = (np.arange(count) % 10).astype(np.uint8)
    folder.mkdir()
    np.savez(folder / "cifar10-jpeg.npz", **arrays)
    return folder


@pytest.fixture
def data(tmp_path):
    return jpeg_set(tmp_path / "data", 16)


def test_the_images_are_there_before_torch_is_imported(data, tmp_path):
    """On a machine where torch takes the time of the part to begin, the other parts still have their images."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.gpu.machine import measure; "
        "from benchmarks.gpu.setting import Setting; sys.modules['torch'] = None; "
        "print(next(measure(Setting(Path(sys.argv[1]), Path(sys.argv[2]))))['images'])"
    )
    command = [sys.executable, "-c", code, str(data), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.stdout == "{'train': 16, 'test': 16}\n", done.stderr
    assert np.load(tmp_path / "datasets/cifar10-jpeg/clean/test_images.npy").shape == (16, 32, 32, 3)


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_tests_are_reported_as_they_end(tmp_path, options):
    """So that what a part has found is there when it is stopped in the middle of a test."""
    done = tmp_path / "done"
    (tmp_path / "test_waiting.py").write_text(
        "import pathlib, time\n"
        "def test_a():\n    assert 0, 'told'\n"
        "def test_b():\n    pass\n"
        f"def test_c():\n    end = time.monotonic() + 100\n"
        f"    while not pathlib.Path({str(done)!r}).exists():\n"
        "        assert time.monotonic() < end\n        time.sleep(0.1)\n",
        encoding="utf-8",
    )
    options += [f"--rootdir={tmp_path}", str(tmp_path / "test_waiting.py")]
    found = smoke.run_tests(options, tmp_path / "reports.jsonl")
    try:
        while (now := next(found))["tests"] < 2:
            assert "exit" not in now
    finally:
        done.touch()
    assert now["passed"] == 1 and ["told" in message for message in now["failed"].values()] == [True]
    *_, last = found
    assert last["tests"] == 3 and last["passed"] == 2 and last["exit"] == 1


def start(data, out, *options: str, parts: str = "") -> subprocess.Popen:
    """The measurement as a process; `parts` is the interpreter of its parts, one forked off another with torch."""
    begin = "import sys; sys.executable = sys.argv.pop(1); from benchmarks.gpu.__main__ import main; main()"
    command = [
        sys.executable,
        "-c",
        begin,
        parts or str(forked_python.commands() / "python"),
        "--data",
        str(data),
        "--out",
        str(out),
        "--dry-run",
        *options,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(out.parent)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_the_parent_imports_no_torch():
    code = "import sys, benchmarks.gpu.__main__; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_kill_in_the_recipe_leaves_what_was_found_before(tmp_path):
    """With SIGKILL, which nothing can answer: the file is whole, with the machine and the training that ended.

    The images are more than elsewhere, so that the other trainings take the time that it takes to see the first end.
    """
    out = tmp_path / "out"
    data = jpeg_set(tmp_path / "data", 64)
    process = start(data, out, "--only", "machine,recipe,evaluation", parts=sys.executable)
    deadline = time.monotonic() + 240
    try:
        while time.monotonic() < deadline:
            assert process.poll() is None, process.stdout.read().decode()
            runs = found(out, "recipe").get("runs", [])
            if any("seconds" in run for run in runs):
                break
            time.sleep(0.05)
        else:
            pytest.fail("no training ended in time")
    finally:
        group = children(process.pid)
        process.kill()
        process.wait()
        for child in group:
            os.killpg(child, signal.SIGKILL)
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["parts"]["machine"]["status"] == "done"
    assert results["parts"]["machine"]["images"] == {"train": 64, "test": 64}
    assert results["parts"]["recipe"]["status"] == "running"
    assert "| machine | done |" in (out / "results.md").read_text(encoding="utf-8")
    kept = torch.load(out / "weights.pt", weights_only=True)
    assert set(kept) <= {"resnet20", "resnet20-pp"} and kept["resnet20"]["weights"]
    assert len(list(out.iterdir())) <= 8


def found(out, part: str) -> dict:
    path = out / "results.json"
    return json.loads(path.read_text(encoding="utf-8"))["parts"].get(part, {}) if path.exists() else {}


def children(process: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, encoding="utf-8", check=False
    )
    return [int(line) for line in listed.stdout.split()]


@pytest.mark.slow
def test_every_part_runs_on_the_cpu(data, tmp_path):
    """In `test_a_kill_in_the_recipe` parts have an interpreter of their own."""
    out = tmp_path / "out"
    process = start(data, out)
    said = process.communicate()[0].decode()
    parts = json.loads((out / "results.json").read_text(encoding="utf-8"))["parts"]
    log = (out / "log.txt").read_text(encoding="utf-8")
    assert {name: part["status"] for name, part in parts.items()} == dict.fromkeys(parent.LIMITS, "done"), (
        said + log
    )
    assert process.returncode == 0, said
    assert parts["smoke"]["tests"] > 0 and parts["smoke"]["exit"] == 0
    assert all(all(row.values()) for row in parts["determinism"]["ways"].values())
    assert set(parts["evaluation"]["nets"]) == {"alexnet 0", "resnet20 0", "resnet20-pp 0"}
    assert {"E_clean", "E_corr", "mCE", "mFP"} <= set(parts["evaluation"]["nets"]["resnet20 0"])
    sizes = [file.stat().st_size for file in out.iterdir()]
    assert len(sizes) == 8 and max(sizes) < 16 << 20
    assert "lossy JPEG copy" in (out / "results.md").read_text(encoding="utf-8")


def test_a_part_gets_what_the_others_left_and_no_more_than_there_is():
    assert parent.limit_of("smoke", ["recipe"], 1000) == 1000 - parent.LIMITS["recipe"]
    assert parent.limit_of("smoke", ["recipe"], 200) == parent.LIMITS["smoke"]
    assert parent.limit_of("smoke", ["recipe"], 20) == 20
    assert sum(parent.LIMITS.values()) == 9 * 60


def test_the_way_of_the_recipe_is_the_fastest_one_that_is_deterministic(tmp_path):
    setting = Setting(tmp_path, tmp_path)
    assert recipe.chosen_way(setting, 1, 1) == recipe.DEFAULT
    sound = {"same_seed": True, "stopped": True}
    ways = {
        "fp32 nchw eager": sound,
        "fp32 nchw graph": {**sound, "as_eager": True},
        "fp32 nhwc graph": {**sound, "as_eager": False},
        "bf16 nhwc graph": {**sound, "as_eager": True},
        "fp32 nhwc eager": {"same_seed": True, "failed": "RuntimeError: out of memory"},
    }
    setting.keep("determinism", {"ways": ways})
    speeds = {way: {"images_per_second": float(i)} for i, way in enumerate(ways)}
    setting.keep("training", {"nets": {"resnet20-pp": speeds}})
    assert recipe.chosen_way(setting, 1, 1) == "fp32 nchw graph"


@pytest.mark.parametrize(
    ("together", "chosen"),
    [(4e5, "fp32 nchw graph"), (1e5, "tf32 nhwc graph")],
    ids=["fp32 fits", "tf32 fits"],
)
def test_the_precision_of_the_recipe_is_the_most_exact_one_that_fits(tmp_path, together, chosen):
    """60 million images in 600 s, of which the pairs may take 360: fp32 where it does 1.7e5 a second."""
    setting = Setting(tmp_path, tmp_path, limit=600)
    speeds = {"fp32 nchw graph": together, "tf32 nhwc graph": 5e5, "bf16 nhwc graph": 6e5}
    setting.keep("determinism", {"ways": {way: {"same_seed": True, "stopped": True} for way in speeds}})
    alone = {way: {"images_per_second": 1e4} for way in speeds}
    counts = ((2, 1e4), (6, 1), (8, 1e4))  # of trainings, and a factor that is that of no other
    rows = [
        {"way": way, "trainings": count, "images_per_second": speed * factor}
        for way, speed in speeds.items()
        for count, factor in counts
    ]
    setting.keep("training", {"nets": {"resnet20-pp": alone}, "together": rows})
    assert recipe.chosen_way(setting, 6, 50_000 * 200) == chosen


@pytest.mark.parametrize(
    ("seconds", "given_up"), [(0.1, set()), (0.15, {1}), (0.7, {0, 1})], ids=["none", "a seed", "all"]
)
def test_seeds_are_given_up_by_their_later_epochs_alone(tmp_path, monkeypatch, seconds, given_up):
    """40 epochs of four nets with 20 s left: the first, with its recordings, takes 5 s, which are no measure."""
    setting, now = Setting(tmp_path, tmp_path, (0, 1), ("resnet20", "resnet20-pp")), 0.0
    folder = setting.images / "clean"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        np.save(folder / f"{split}_images.npy", np.zeros((4, 32, 32, 3), np.uint8))
        np.save(folder / f"{split}_labels.npy", np.zeros(4, np.uint8))

    def training(*_):
        nonlocal now
        for epoch in range(40):
            now += seconds if epoch else 5.0
            yield {"epoch": epoch, "lr": 0.1, "train_loss": 1.0, "train_error": 0.0, "test_error": 0.0}, {}

    def in_turn(trainings, device, wanted):
        while going := [key for key in trainings if wanted(key)]:
            for key in going:
                if wanted(key):
                    yield key, next(trainings[key])

    monkeypatch.setattr(recipe, "chosen_way", lambda *_: "fp32 nchw graph")
    monkeypatch.setattr(recipe, "side_by_side", in_turn)
    monkeypatch.setattr(recipe, "epochs", lambda setting: 40)
    monkeypatch.setattr(recipe, "training", training)
    monkeypatch.setattr(recipe, "clock", lambda: now)
    monkeypatch.setattr(Setting, "left", 20.0)
    runs = list(recipe.measure(setting))[-1]["runs"]
    assert [(run["net"], run["seed"]) for run in runs] == [(n, s) for s in (0, 1) for n in setting.nets]
    assert {run["seed"] for run in runs if "given_up" in run} == given_up
    assert {run["seed"] for run in runs if "test_error" in run} == {0, 1} - given_up


def test_the_nets_that_are_named_are_trained_and_measured(data, tmp_path):
    """As the AlexNet alone, which normalises what earlier calls have trained."""
    out = tmp_path / "out"
    process = start(data, out, "--only", "machine,recipe,evaluation", "--nets", "alexnet")
    said = process.communicate()[0].decode()
    assert process.returncode == 0, said
    assert [(run["net"], run["seed"]) for run in found(out, "recipe")["runs"]] == [("alexnet", 0)]
    assert set(found(out, "evaluation")["nets"]) == {"alexnet 0"}


def test_a_second_call_knows_what_the_first_found(data, tmp_path):
    """On another machine, by its results.json; of a part that runs again the new findings count."""
    earlier = tmp_path / "earlier.json"
    parts = {
        "machine": {"status": "done", "seconds": 9.0, "cores": -1},
        "training": {"status": "stopped at its limit", "seconds": 85.0, "nets": {"resnet20": {}}},
    }
    earlier.write_text(json.dumps({"dry_run": False, "parts": parts}), encoding="utf-8")
    process = start(data, tmp_path / "out", "--only", "machine", "--earlier", str(earlier))
    said = process.communicate()[0].decode()
    assert process.returncode == 0, said
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["parts"]
    assert results["machine"]["status"] == "done" and results["machine"]["cores"] > 0
    assert results["training"] == parts["training"]
    assert not (tmp_path / "out" / "corruption.csv").exists()


@pytest.mark.parametrize(
    ("results", "options", "said"),
    [
        ({"dry_run": True, "parts": {}}, [], "is of a dry run"),
        ({"dry_run": False, "parts": {}}, ["--only", "recipe"], "needs the part machine"),
        ({"dry_run": False, "parts": {"recipe": {"way": "fp16"}}}, [], "--way is a precision"),
    ],
    ids=["dry run", "no machine", "no way"],
)
def test_an_earlier_call_that_says_nothing_of_this_one_is_refused(data, tmp_path, results, options, said):
    (tmp_path / "earlier.json").write_text(json.dumps(results), encoding="utf-8")
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), *options]
    done = CliRunner().invoke(parent.main, [*arguments, "--earlier", str(tmp_path / "earlier.json")])
    assert done.exit_code == 2 and said in done.output
    assert not (tmp_path / "out").exists()


def test_results_of_another_call_are_not_written_over(data, tmp_path):
    (tmp_path / "results.json").write_text("{}", encoding="utf-8")
    done = CliRunner().invoke(parent.main, ["--data", str(data), "--out", str(tmp_path)])
    assert done.exit_code == 2 and "holds the results of another call" in done.output


def test_speeds_of_another_card_are_refused_and_not_left_for_a_later_call(tmp_path):
    setting, known = (
        Setting(tmp_path, tmp_path),
        {"machine": {"device": "NVIDIA H100"}, "training": {"nets": {}}},
    )
    setting.keep("training", known["training"])
    setting.keep("machine", {"device": "NVIDIA H100"})
    parent.check_card(setting, known)
    assert setting.part_file("training").exists()
    setting.keep("machine", {"device": "NVIDIA H200"})
    parent.check_card(setting, {})
    with pytest.raises(click.ClickException, match="is of NVIDIA H100, this is NVIDIA H200"):
        parent.check_card(setting, known)
    assert not setting.part_file("training").exists()


def test_what_is_trained_anew_leaves_nothing_of_the_nets_before(tmp_path):
    """A training that ends before its first net must not publish those of an earlier call as its own."""
    setting = Setting(tmp_path, tmp_path)
    names = [name for files in parent.FILES.values() for name in files]
    for only, left in ((["evaluation"], set(parent.FILES["recipe"])), (["machine", "recipe"], set())):
        for name in names:
            (tmp_path / name).touch()
        setting.keep("evaluation", {"nets": {}})
        parent.clear_files(setting, only)
        assert {name for name in names if (tmp_path / name).exists()} == left
    assert setting.found("evaluation") == {}


def test_files_are_published_as_often_as_they_change(tmp_path):
    setting, out = Setting(tmp_path, tmp_path / "work"), tmp_path / "out"
    for folder in (setting.work, out):
        folder.mkdir()
    history = setting.work / "history.csv"
    for text in ("net\n", "seed\n"):
        history.write_text(text, encoding="utf-8")
        os.utime(history, ns=(1, len(text)))  # long before the first copy
        parent.publish(setting, out, {})
        assert (out / "history.csv").read_text(encoding="utf-8") == text


def test_a_net_that_diverges_leaves_the_others_their_training(tmp_path, monkeypatch):
    setting = Setting(tmp_path, tmp_path, (0,), ("resnet20", "resnet20-pp"), "fp32 nchw graph")
    folder = setting.images / "clean"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        np.save(folder / f"{split}_images.npy", np.zeros((4, 32, 32, 3), np.uint8))
        np.save(folder / f"{split}_labels.npy", np.zeros(4, np.uint8))

    def training(setting, net, name, *_):
        for epoch in range(8):
            if name == "resnet20" and epoch == 3:
                raise DivergedError("the loss is nan")
            yield {"epoch": epoch, "lr": 0.1, "train_loss": 1.0, "train_error": 0.0, "test_error": 0.0}, {}

    monkeypatch.setattr(recipe, "epochs", lambda setting: 8)
    monkeypatch.setattr(recipe, "training", training)
    found = list(recipe.measure(setting))[-1]
    assert found["way"] == "fp32 nchw graph"
    plain, pushpull = found["runs"]
    assert plain["failed"] == "DivergedError: the loss is nan" and "test_error" not in plain
    assert pushpull["test_error"] == 0 and "failed" not in pushpull


def test_what_failed_inside_a_part_is_not_sound():
    assert not parent.sound({"status": "done", "runs": [{"given_up": "would take 91 s more"}]})
    assert parent.sound({"status": "done", "exit": 0, "failed": {}, "rows": [{"failed": {}}]})
    assert not parent.sound({"status": "stopped at its limit"})
    assert not parent.sound({"status": "done", "exit": 1})
    assert not parent.sound({"status": "done", "rows": [{"failed": {"triton": "CompilationError"}}]})
    assert not parent.sound({"status": "done", "nets": {"resnet20": {"fp32": {"failed": "RuntimeError"}}}})


def test_a_part_that_failed_and_one_that_never_ran_are_in_the_table():
    parts = {
        "machine": {"status": "failed with status 1, see log.txt", "seconds": 1.0},
        "layer": {"status": "not run"},
    }
    page = markdown({"data": "cifar10-jpeg", "dry_run": False, "parts": parts})
    assert "| machine | failed with status 1, see log.txt | 1.0 |" in page and "| layer | not run |" in page


def test_answers_come_back_as_the_files_of_the_pipeline(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 6).astype(np.uint8)
    sets = [("clean", 0), ("fog", 1)]
    answers = {
        ("resnet20-pp", seed): {
            "corruption": rng.integers(0, 10, (2, 6)).astype(np.uint8),
            "brightness": rng.integers(0, 10, (6, 31)).astype(np.uint8),
        }
        for seed in (0, 1)
    }
    save_answers(tmp_path / "answers.npz", labels, sets, answers)
    spread_answers(tmp_path / "answers.npz", tmp_path)
    logits = load_logits(tmp_path / "corruption" / "resnet20-pp.npz")
    assert logits.sets == sets
    frames = load_frames(tmp_path / "perturbation" / "resnet20-pp.npz")
    for seed in (0, 1):
        np.testing.assert_array_equal(logits.classes(seed), answers["resnet20-pp", seed]["corruption"])
        np.testing.assert_array_equal(frames[seed]["brightness"], answers["resnet20-pp", seed]["brightness"])
