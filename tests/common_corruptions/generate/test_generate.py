"""Whole sets on disk: their layout, going on after a stop, what is refused, and the command."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from common_corruptions import CORRUPTIONS, PERTURBATIONS, corrupt, perturb
from common_corruptions.__main__ import main
from common_corruptions.generate import RECIPES_VERSION, generate_corruptions, generate_perturbations, writing
from common_corruptions.recipes.names import FRAMES

ROOT = Path(__file__).parents[3]
LABELS = np.arange(6, dtype=np.uint8)


def images(count=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_corruptions_as_published(tmp_path):
    written = generate_corruptions(images(), LABELS, tmp_path, seed=7, workers=1, progress=False)
    assert written == list(CORRUPTIONS)
    assert {path.name for path in tmp_path.glob("*.npy")} == {
        "labels.npy",
        *(f"{name}.npy" for name in CORRUPTIONS),
    }
    for name in CORRUPTIONS:
        expected = [corrupt(images(), name, severity, seed=7) for severity in (1, 2, 3, 4, 5)]
        stored = np.load(tmp_path / f"{name}.npy")
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, np.concatenate(expected))
    labels = np.load(tmp_path / "labels.npy")
    assert labels.dtype == np.uint8
    assert labels.tolist() == 5 * LABELS.tolist()


def test_perturbations_as_published(tmp_path):
    names = [*PERTURBATIONS, "shot_noise_3"]
    generate_perturbations(images(), LABELS, tmp_path, perturbations=names, seed=7, workers=1, progress=False)
    for name in names:
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), perturb(images(), name, seed=7))
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), LABELS)


def test_same_bytes_with_any_number_of_workers(tmp_path):
    x = images(200)  # several blocks
    names = ["spatter", "translate"]
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        generate_perturbations(x, None, folder, perturbations=names, workers=workers, progress=False)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    assert not (tmp_path / "3" / "labels.npy").exists()
    np.testing.assert_array_equal(np.load(tmp_path / "3" / "spatter.npy"), perturb(x, "spatter"))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "laid_out", [np.asfortranarray, lambda x: x.transpose(0, 2, 1, 3), lambda x: x[::-1, :, ::-1]]
)
def test_images_in_any_order_of_memory(tmp_path, laid_out, workers):
    x = laid_out(images())
    assert not x.flags.c_contiguous
    generate_corruptions(
        x, LABELS, tmp_path / "c", corruptions=["fog", "contrast"], workers=workers, progress=False
    )
    generate_perturbations(
        x, LABELS, tmp_path / "p", perturbations=["rotate", "shot_noise"], workers=workers, progress=False
    )
    plain = np.ascontiguousarray(x)
    np.testing.assert_array_equal(np.load(tmp_path / "c" / "fog.npy")[6:12], corrupt(plain, "fog", 2))
    np.testing.assert_array_equal(np.load(tmp_path / "p" / "rotate.npy"), perturb(plain, "rotate"))
    again = generate_corruptions(
        plain, LABELS, tmp_path / "c", corruptions=["fog", "contrast"], workers=1, progress=False
    )
    assert again == []  # the same set


def test_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generate_perturbations(
        images(), LABELS, "out", perturbations=["rotate", "scale"], workers=2, progress=False
    )
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "scale.npy"), perturb(images(), "scale"))


def test_worker_that_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "common_corruptions.generate.writing._start_worker", os.abort
    )  # fails, for it takes no argument
    with pytest.raises(RuntimeError, match="a worker process was killed"):
        generate_corruptions(
            images(), LABELS, tmp_path, corruptions=["fog", "snow"], workers=2, progress=False
        )
    assert {path.name for path in tmp_path.iterdir()} == {"labels.npy", "generated.json"}


def test_script_that_its_workers_run_again(tmp_path):
    """Without the line that guards it, a script comes to the same call in each worker that imports it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\n"
        "from common_corruptions.generate import generate_corruptions\n"
        "x = np.zeros((4, 32, 32, 3), np.uint8)\n"
        "generate_corruptions(x, None, 'c', corruptions=['contrast', 'brightness'], workers=2, progress=False)\n",
        encoding="utf-8",
    )
    ended = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=100,
    )
    assert ended.returncode == 1
    assert 'under `if __name__ == "__main__":`' in ended.stderr.splitlines()[-1]
    assert "another run" not in ended.stderr and "lack of memory" not in ended.stderr


def test_worker_that_is_killed_while_the_next_one_is_started():
    """The pool then says that a handle is closed, before it says that it is broken."""

    class Pool:
        broken = True

        def map(self, *_):
            raise OSError("handle is closed")

        def submit(self, *_):
            if self.broken:
                raise BrokenProcessPool

    pool = Pool()
    with pytest.raises(BrokenProcessPool):
        writing._map(pool, [])
    pool.broken = False  # what else the system refuses is told as it is
    with pytest.raises(OSError, match="handle is closed"):
        writing._map(pool, [])


def test_block_smaller_than_the_set(tmp_path, monkeypatch):
    monkeypatch.setattr("common_corruptions.generate.writing.BLOCK_BYTES", 2 * 5 * 3072)
    generate_corruptions(images(), LABELS, tmp_path, corruptions=["fog"], workers=1, progress=False)
    expected = [corrupt(images(), "fog", severity) for severity in (1, 2, 3, 4, 5)]
    np.testing.assert_array_equal(np.load(tmp_path / "fog.npy"), np.concatenate(expected))


class TestAgain:
    """A second run in the same folder."""

    def run(self, folder, names, *, x=None, seed=0, labels=LABELS):
        x = images() if x is None else x
        return generate_corruptions(
            x, labels, folder, corruptions=names, seed=seed, workers=1, progress=False
        )

    def test_whole_files_are_kept(self, tmp_path):
        self.run(tmp_path, ["fog", "snow"])
        before = (tmp_path / "fog.npy").stat()  # of which reading may change the time of access
        assert self.run(tmp_path, ["fog", "contrast", "snow"]) == ["contrast"]
        after = (tmp_path / "fog.npy").stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert not (tmp_path / ".partial").exists()

    def test_another_seed_is_not_believed(self, tmp_path):
        self.run(tmp_path, ["fog"])
        assert self.run(tmp_path, ["fog"], seed=1) == ["fog"]
        np.testing.assert_array_equal(np.load(tmp_path / "fog.npy")[:6], corrupt(images(), "fog", 1, seed=1))

    def test_other_recipes_are_not_believed(self, tmp_path, monkeypatch):
        self.run(tmp_path, ["fog"])
        monkeypatch.setitem(RECIPES_VERSION, "corruption", 1000)
        assert self.run(tmp_path, ["fog"]) == ["fog"]

    def test_other_images_are_not_believed(self, tmp_path):
        self.run(tmp_path, ["fog"])
        assert self.run(tmp_path, ["fog"], x=images(seed=1), labels=LABELS[::-1].copy()) == ["fog"]
        np.testing.assert_array_equal(np.load(tmp_path / "labels.npy")[:6], LABELS[::-1])

    def test_no_set_of_two_kinds_of_images(self, tmp_path):
        self.run(tmp_path, ["fog", "snow"])
        before = contents(tmp_path)
        with pytest.raises(FileExistsError, match=r"snow\.npy, made from other images"):
            self.run(tmp_path, ["fog"], x=images(seed=1))
        assert contents(tmp_path) == before

    def test_no_set_of_two_scales(self, tmp_path):
        self.run(tmp_path, ["fog", "snow"])
        before = contents(tmp_path)
        with pytest.raises(FileExistsError, match=r"snow\.npy, made at the scale cifar, not imagenet"):
            generate_corruptions(
                images(), LABELS, tmp_path, corruptions=["fog"], scale="imagenet", workers=1, progress=False
            )
        assert contents(tmp_path) == before
        assert self.run(tmp_path, ["fog"], seed=1) == [
            "fog"
        ]  # other draws on the same images may stand beside

    @pytest.mark.parametrize("by_hand", [False, True])
    @pytest.mark.parametrize("generate", [generate_corruptions, generate_perturbations])
    def test_no_labels_of_other_images(self, tmp_path, generate, by_hand):
        """Where the files are replaced, and no labels are given, those that are there would be another set's."""
        kind = generate.__name__.removeprefix("generate_")
        options = {kind: ["snow", "brightness"], "workers": 1, "progress": False}
        generate(images(), None if by_hand else LABELS, tmp_path, **options)
        if by_hand:
            np.save(tmp_path / "labels.npy", np.tile(LABELS, 5 if kind == "corruptions" else 1))
        before = contents(tmp_path)
        with pytest.raises(FileExistsError, match=r"labels\.npy is for other images; give the labels"):
            generate(images(seed=1), None, tmp_path, **options)
        assert contents(tmp_path) == before
        assert generate(images(), None, tmp_path, **options) == []  # they are of these

    def test_labels_are_known_by_their_images_where_a_file_is_gone(self, tmp_path):
        self.run(tmp_path, ["fog"])
        (tmp_path / "fog.npy").unlink()
        with pytest.raises(FileExistsError, match="is for other images"):
            self.run(tmp_path, ["fog"], x=images(seed=1), labels=None)
        record = json.loads((tmp_path / "generated.json").read_text(encoding="utf-8"))
        del record["labels"]["images"]  # as an earlier version wrote it
        (tmp_path / "generated.json").write_text(json.dumps(record), encoding="utf-8")
        with pytest.raises(FileExistsError, match="is for other images"):
            self.run(tmp_path, ["fog"], x=images(seed=1), labels=None)
        assert self.run(tmp_path, ["fog"], x=images(seed=1)) == ["fog"]  # the same labels, now of these
        assert self.run(tmp_path, ["snow"], x=images(seed=1), labels=None) == ["snow"]

    def test_no_corruptions_among_perturbations(self, tmp_path):
        self.run(tmp_path, ["snow"])
        with pytest.raises(FileExistsError, match="holds corruptions"):
            generate_perturbations(images(), LABELS, tmp_path, perturbations=["rotate"], workers=1)

    def test_files_from_elsewhere_are_left_alone(self, tmp_path):
        np.save(tmp_path / "fog.npy", np.zeros((30, 32, 32, 3), np.uint8))
        with pytest.raises(FileExistsError, match=r"fog\.npy is not listed"):
            self.run(tmp_path, ["snow", "fog"])
        assert [path.name for path in tmp_path.iterdir()] == ["fog.npy"]

    def test_labels_from_elsewhere_are_left_alone(self, tmp_path):
        np.save(tmp_path / "labels.npy", np.zeros(3))
        with pytest.raises(FileExistsError, match="other labels"):
            self.run(tmp_path, ["fog"])

    def test_each_file_has_its_digest(self, tmp_path):
        self.run(tmp_path, ["fog", "snow"])
        record = json.loads((tmp_path / "generated.json").read_text(encoding="utf-8"))
        entries = {**record["files"], "labels": record["labels"]}
        assert set(entries) == {"fog", "snow", "labels"}
        for name, entry in entries.items():
            content = (tmp_path / f"{name}.npy").read_bytes()
            assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())

    def test_any_zeroed_image_is_noticed(self, tmp_path):
        x = images(12)
        self.run(tmp_path, ["fog"], x=x, labels=None)
        with open(tmp_path / "fog.npy", "r+b") as file:  # image 4 at severity 4
            file.seek(128 + 40 * 3072)
            file.write(bytes(3072))
        before = contents(tmp_path)
        with pytest.raises(FileExistsError, match=r"fog\.npy does not match generated\.json; remove it"):
            self.run(tmp_path, ["snow", "fog"], x=x, labels=None)
        assert contents(tmp_path) == before
        (tmp_path / "fog.npy").unlink()  # as it says
        assert self.run(tmp_path, ["fog"], x=x, labels=None) == ["fog"]

    @pytest.mark.parametrize("labels", [LABELS, None])
    def test_changed_labels_are_noticed(self, tmp_path, labels):
        self.run(tmp_path, ["fog"])
        np.save(tmp_path / "labels.npy", np.zeros(30, np.uint8))
        with pytest.raises(FileExistsError, match=r"labels\.npy does not match generated\.json"):
            self.run(tmp_path, ["fog"], labels=labels)

    def test_labels_put_beside_a_set_are_left_alone(self, tmp_path):
        self.run(tmp_path, ["fog"], labels=None)
        np.save(tmp_path / "labels.npy", np.zeros(30, np.uint8))
        assert self.run(tmp_path, ["fog"], labels=None) == []
        with pytest.raises(FileExistsError, match="holds other labels"):
            self.run(tmp_path, ["fog"])
        np.save(tmp_path / "labels.npy", np.tile(LABELS, 5))
        assert self.run(tmp_path, ["fog"]) == []

    def test_file_of_a_record_without_digests_is_made_again(self, tmp_path):
        self.run(tmp_path, ["fog", "snow"])
        whole = contents(tmp_path)
        path = tmp_path / "generated.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        old = {key: record["files"]["fog"][key] for key in ("images", "recipes", "seed")}
        path.write_text(
            json.dumps({"kind": "corruption", "files": {"fog": old, "snow": old}}), encoding="utf-8"
        )
        with open(tmp_path / "fog.npy", "r+b") as file:  # nothing tells
            file.seek(128 + 8 * 3072)
            file.write(bytes(3072))
        assert self.run(tmp_path, ["fog", "snow"]) == ["fog", "snow"]
        assert contents(tmp_path) == whole

    def test_stop_between_record_and_file(self, tmp_path, monkeypatch):
        def stop(old, new):
            if Path(new).name == "snow.npy":
                raise KeyboardInterrupt
            replace(old, new)

        replace = os.replace
        monkeypatch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, ["fog", "snow"])
        monkeypatch.undo()
        assert self.run(tmp_path, ["fog", "snow"]) == ["snow"]

    @pytest.mark.parametrize("change", ["value", "shape", "bytes"])
    def test_changed_file_is_noticed(self, tmp_path, change):
        self.run(tmp_path, ["fog"])
        stored = np.load(tmp_path / "fog.npy")
        if change == "value":
            stored[0, 0, 0, 0] ^= 1
        np.save(tmp_path / "fog.npy", stored[:-1] if change == "shape" else stored)
        if change == "bytes":
            os.truncate(tmp_path / "fog.npy", 1000)
        with pytest.raises(FileExistsError, match=r"fog\.npy does not match generated\.json"):
            self.run(tmp_path, ["fog"])

    @pytest.mark.parametrize(
        "text", ['{"files": ', "[]", '{"kind": "corruption", "files": {"fog": {"seed": 0}}}']
    )
    def test_damaged_record(self, tmp_path, text):
        self.run(tmp_path, ["fog"])
        (tmp_path / "generated.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="damaged"):
            self.run(tmp_path, ["fog"])

    def test_while_another_run_is_at_work(self, tmp_path):
        (tmp_path / ".partial").mkdir()
        with open(tmp_path / ".partial" / "lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(OSError, match="another run"):
                self.run(tmp_path, ["fog"])
        assert self.run(tmp_path, ["fog"]) == ["fog"]

    def test_record_is_the_same_for_the_same_set(self, tmp_path):
        self.run(tmp_path / "a", ["fog", "snow"])
        self.run(tmp_path / "b", ["snow"])
        self.run(tmp_path / "b", ["fog"])
        assert contents(tmp_path / "a") == contents(tmp_path / "b")
        record = json.loads((tmp_path / "a" / "generated.json").read_text(encoding="utf-8"))
        assert record["files"]["fog"]["seed"] == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": images().astype(float)}, TypeError, "uint8"),
        ({"images": images(0), "labels": None}, ValueError, "no images"),
        ({"labels": LABELS[:-1]}, ValueError, "6 integers"),
        ({"labels": LABELS / 2}, ValueError, "6 integers"),
        ({"labels": np.arange(-1, 5)}, ValueError, "class indices from 0; the lowest is -1"),
        ({"corruptions": ["fogg"]}, ValueError, "did you mean 'fog'"),
        ({"corruptions": "fog"}, TypeError, "several names"),
        ({"seed": "a"}, TypeError, "seed"),
        ({"workers": 0}, ValueError, "at least 1"),
    ],
)
def test_wrong_input_writes_nothing(tmp_path, change, error, message):
    arguments = {"images": images(), "labels": LABELS, "folder": tmp_path / "out", "progress": False}
    with pytest.raises(error, match=message):
        generate_corruptions(**(arguments | change))
    assert not (tmp_path / "out").exists()


def test_too_little_space(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**12, 10**12, 200_000))
    with pytest.raises(OSError, match=r"needs 0\.001 GB, but 0\.000 GB are free"):
        generate_perturbations(images(), LABELS, tmp_path, perturbations=["rotate"], workers=1)
    assert list(tmp_path.iterdir()) == []


def test_failure_leaves_no_half_file(tmp_path, monkeypatch):
    def fail(images, name, seed, *, start):
        if name == "rotate":
            raise MemoryError("no more")
        return perturb(images, name, seed, start=start)

    monkeypatch.setattr("common_corruptions.generate.writing.perturb", fail)
    with pytest.raises(MemoryError):
        generate_perturbations(
            images(), LABELS, tmp_path, perturbations=["scale", "rotate", "shear"], workers=1, progress=False
        )
    assert {path.name for path in tmp_path.iterdir()} == {"scale.npy", "labels.npy", "generated.json"}
    monkeypatch.undo()
    again = generate_perturbations(
        images(), LABELS, tmp_path, perturbations=["scale", "rotate", "shear"], workers=1, progress=False
    )
    assert again == ["rotate", "shear"]


def start_command(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "common_corruptions", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
        # A shell without job control ignores Ctrl-C for what it starts with `&`, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(condition):
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("two minutes, and nothing happened")


def session_is_empty(process):
    """Whether no process of the command's session is left."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def expected():
    """Of four perturbations, of images enough to be interrupted in."""
    return {
        name: perturb(images(300), name, 3) for name in ("translate", "spatter", "snow", "gaussian_noise")
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_run_leaves_no_half_file_and_goes_on(tmp_path, number, expected):
    x, folder = images(300), tmp_path / "out"
    np.save(tmp_path / "x.npy", x)
    names = list(expected)
    command = ["perturb", tmp_path / "x.npy", folder, "--only", ",".join(names), "--seed", 3, "--workers", 2]
    process = start_command(*command)
    wait_for(lambda: (folder / "translate.npy").exists() or process.poll() is not None)
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    if number != signal.SIGKILL:
        assert not (folder / ".partial").exists()
    wait_for(lambda: session_is_empty(process))  # no worker outlives it

    whole = {path.stem for path in folder.glob("*.npy")}
    assert {"translate"} <= whole < set(names)
    for name in whole:
        np.testing.assert_array_equal(np.load(folder / f"{name}.npy"), expected[name])
    again = generate_perturbations(x, None, folder, perturbations=names, seed=3, workers=1, progress=False)
    assert set(again) == set(names) - whole
    assert {path.name for path in folder.iterdir()} == {"generated.json", *(f"{name}.npy" for name in names)}
    for name in again:
        np.testing.assert_array_equal(np.load(folder / f"{name}.npy"), expected[name])


class TestCommand:
    def run(self, *arguments):
        return CliRunner().invoke(main, list(map(str, arguments)))

    @pytest.fixture
    def paths(self, tmp_path):
        np.save(tmp_path / "x.npy", images())
        np.save(tmp_path / "y.npy", LABELS)
        return tmp_path / "x.npy", tmp_path / "out", tmp_path / "y.npy"

    def test_corrupt(self, paths):
        x, out, y = paths
        result = self.run(
            "corrupt", x, out, "--only", "fog, contrast", "--seed", 2, "--labels", y, "--workers", 1
        )
        assert result.exit_code == 0, result.output
        assert f"2 files written to {out}" in result.output
        np.testing.assert_array_equal(np.load(out / "fog.npy")[6:12], corrupt(images(), "fog", 2, seed=2))
        assert len(np.load(out / "labels.npy")) == 30
        again = self.run("corrupt", x, out, "--only", "fog,snow", "--seed", 2, "--workers", 1)
        assert "1 files written" in again.output
        assert "1 kept" in again.output

    @pytest.mark.parametrize("command", ["corrupt", "perturb"])
    def test_other_images_without_their_labels(self, paths, tmp_path, command):
        x, out, y = paths
        np.save(tmp_path / "x2.npy", images(seed=1))
        options = ("--only", "snow", "--workers", 1)
        assert self.run(command, x, out, *options, "--labels", y).exit_code == 0
        result = self.run(command, tmp_path / "x2.npy", out, *options)
        assert result.exit_code == 1
        assert result.output.startswith("Error: ") and "is for other images" in result.output

    @pytest.mark.parametrize("command", ["corrupt", "perturb"])
    def test_file_in_fortran_order(self, tmp_path, command):
        np.save(tmp_path / "x.npy", np.asfortranarray(images()))
        only = {"corrupt": "snow", "perturb": "snow,tilt"}[command]
        result = self.run(
            command,
            tmp_path / "x.npy",
            tmp_path / "out",
            "--only",
            only,
            "--workers",
            2 if "," in only else 1,
        )
        assert result.exit_code == 0, result.output
        expected = corrupt(images(), "snow", 1) if command == "corrupt" else perturb(images(), "snow")
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "snow.npy")[:6], expected)

    def test_perturb_in_a_process_of_its_own(self, paths):
        x, out, _ = paths
        process = start_command("perturb", x, out, "--only", "rotate,gaussian_noise_2")
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert "2 files written" in output
        assert "100%" in errors  # the progress bar
        np.testing.assert_array_equal(
            np.load(out / "gaussian_noise_2.npy"), perturb(images(), "gaussian_noise_2")
        )

    def test_help_has_an_example(self):
        for command in ((), ("corrupt",), ("perturb",)):
            assert "python -m common_corruptions " in self.run(*command, "--help").output.split("\n\n", 1)[1]

    def test_list(self):
        words = self.run("list").output.replace("*", "").split()
        assert set(CORRUPTIONS) | set(FRAMES) <= set(words)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("corrupt", "{x}", "{out}", "--only", "fogg"), "unknown corruption 'fogg'; did you mean 'fog'?"),
            (("perturb", "{x}", "{out}", "--only", "fog"), "unknown perturbation 'fog'"),
            (("perturb", "{x}", "{out}", "--only", ","), "comma-separated"),
            (("corrupt", "{x}.npy", "{out}"), "does not exist"),
            (("corrupt", "{floats}", "{out}"), "must be uint8"),
            (("corrupt", "{text}", "{out}"), "is not an .npy file"),
            (("corrupt", "{x}", "{out}", "--labels", "{x}"), "labels must be 6 integers"),
            (("corrupt", "{x}", "{text}"), "is a file"),
            (("corrupt", "{x}", "{out}", "--seed", "one"), "not a valid integer"),
        ],
    )
    def test_wrong_use(self, paths, tmp_path, arguments, message):
        x, out, _ = paths
        np.save(tmp_path / "floats.npy", images() / 255)
        (tmp_path / "text.npy").write_text("no array", encoding="utf-8")
        names = {"x": x, "out": out, "floats": tmp_path / "floats.npy", "text": tmp_path / "text.npy"}
        result = self.run(*(argument.format(**names) for argument in arguments))
        assert result.exit_code != 0
        assert message in " ".join(result.output.split())
        assert "Traceback" not in result.output
        assert not out.exists()
