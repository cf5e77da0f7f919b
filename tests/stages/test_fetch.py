"""The stage `fetch` with sets that no server gives: JPEG images in one file, and folders of one's own."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from filelock import Timeout

from archives.form import save_clean
from archives.sources import from_folder
from stages import fetch
from stages.files.datasets import load_split
from stages.files.params import load_params
from stages.files.workspace import lock
from tests.archives.miniatures import few_digits, jpeg_arrays
from tests.conftest import ROOT
from tests.stages.conftest import read_params, write_params


def test_a_set_of_jpeg_images_is_named_as_a_copy(workspace):
    shutil.copytree(ROOT / "data", "data")
    np.savez("set.npz", **jpeg_arrays()[0])
    params = read_params()
    params["data"] |= {"name": "cifar10-jpeg", "path": None}
    write_params(params)
    done = CliRunner().invoke(fetch.main)
    assert done.exit_code == 1 and "set data.path to cifar10-jpeg.npz" in done.output
    params["data"]["path"] = "set.npz"
    write_params(params)
    done = CliRunner().invoke(fetch.main)
    assert done.exit_code == 0, done.output
    assert "cifar10-jpeg (a lossy JPEG copy of CIFAR-10) train: 30 images" in done.output
    assert len(load_split("cifar10-jpeg", "test").labels) == 30


def set_path(monkeypatch, folder: Path, own: Path) -> None:
    """Make `folder` the current one, where data.path is `own`."""
    params = load_params(ROOT / "params.yaml")
    changed = params.model_copy(
        update={"data": params.data.model_copy(update={"name": "own", "path": str(own)})}
    )
    monkeypatch.setattr(fetch, "load_params", lambda: changed)
    monkeypatch.chdir(folder)
    (folder / "data").symlink_to(ROOT / "data")


def npz():
    stream = io.BytesIO()
    np.savez(stream, images=np.zeros((4, 8, 8, 3), np.uint8))
    return stream.getvalue()


@pytest.mark.parametrize("content", [npz(), b"<!DOCTYPE html>", b"", b"\x93NUMPY\x01\x00v"])
@pytest.mark.parametrize("file", ["train_images.npy", "test_labels.npy"])
def test_what_is_no_array_is_one_line(tmp_path, monkeypatch, file, content):
    own = tmp_path / "own"
    own.mkdir()
    for split in ("train", "test"):
        np.save(own / f"{split}_images.npy", np.full((4, 8, 8, 3), 9, np.uint8))
        np.save(own / f"{split}_labels.npy", np.zeros(4, int))
    (own / file).write_bytes(content)
    set_path(monkeypatch, tmp_path, own)
    done = CliRunner().invoke(fetch.main)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: data.path: {own / file} is not an .npy file of numbers: ")
    assert not (tmp_path / "datasets").exists()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "data.path: no folder "),
        (
            np.zeros((4, 8, 8, 3), np.float32),
            "train images must be uint8 of shape (N, H, W, 1 or 3), got float32",
        ),
        (np.ones((4, 8, 8, 3), np.uint8), "data.path: "),
        (
            np.full((5, 8, 8, 3), 9, np.uint8),
            "train labels must be 5 integers, one for each image, got int64 (4,)",
        ),
    ],
    ids=["no folder", "floats", "floats that were cast", "labels missing"],
)
def test_a_folder_of_something_else_is_one_line(tmp_path, monkeypatch, images, message):
    own = tmp_path / "own"
    if images is not None:
        own.mkdir()
        for split in ("train", "test"):
            np.save(own / f"{split}_images.npy", images)
            np.save(own / f"{split}_labels.npy", np.zeros(4, int))
    set_path(monkeypatch, tmp_path, own)
    done = CliRunner().invoke(fetch.main)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {message}")
    assert not (tmp_path / "datasets" / "own").exists()


@pytest.mark.parametrize("name", ["cifar10-authors", "cifar100", "mnist"])
def test_a_folder_of_other_images_is_not_taken_for_a_published_set(workspace, name):
    """Published figures would stand beside those of any set that goes by its name."""
    shutil.copytree(ROOT / "data", "data")
    params = read_params()
    params["data"] |= {"name": name, "path": "datasets/tiny"}
    write_params(params)
    done = CliRunner().invoke(fetch.main)
    assert done.exit_code == 1 and f"are not those of {name.removesuffix('-authors')}" in done.output
    assert not Path("datasets", name).exists()
    params["data"]["name"] = "mine"
    write_params(params)
    assert CliRunner().invoke(fetch.main).exit_code == 0


@pytest.mark.parametrize(
    ("name", "folder"), [("cifar10", "cifar10-subset"), ("mnist", "mnist-subset")], ids=["cifar10", "mnist"]
)
def test_published_images_need_their_own_labels(shared, name, folder):
    images, labels = from_folder(shared / "data" / folder)["test"]
    assert fetch.begins_as(name, images, labels)
    assert not fetch.begins_as(name, images, (labels + 1) % 10)
    assert not fetch.begins_as(name, images, np.roll(labels, 1))
    assert not fetch.begins_as(name, images[::-1], labels)
    assert not fetch.begins_as("cifar100", images, labels)


def test_a_set_is_written_by_one_process_at_a_time(workspace, monkeypatch):
    """A second one would remove and move away what the first is writing."""
    written = []

    def write(folder, splits):
        with pytest.raises(Timeout):
            lock("fetch-mine").acquire(timeout=0)
        save_clean(folder, splits)
        written.append(folder)

    shutil.copytree(ROOT / "data", "data")
    params = read_params()
    params["data"] |= {"name": "mine", "path": "datasets/tiny"}
    write_params(params)
    monkeypatch.setattr(fetch, "save_clean", write)
    assert CliRunner().invoke(fetch.main).exit_code == 0 and len(written) == 1
    lock("fetch-mine").acquire(timeout=0)


@pytest.mark.parametrize("number", [0, 3])
def test_test_images_among_the_training_images_are_counted(tmp_path, monkeypatch, number):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(256, size=(30, 8, 8, 3), dtype=np.uint8), np.arange(30) % 10
    own = tmp_path / "own"
    own.mkdir()
    for split, part in (("train", slice(0, 20 + number)), ("test", slice(20, 30))):
        np.save(own / f"{split}_images.npy", images[part])
        np.save(own / f"{split}_labels.npy", labels[part])
    set_path(monkeypatch, tmp_path, own)
    done = CliRunner().invoke(fetch.main)
    assert done.exit_code == 0
    assert ("3 of the 10 test images are also training images" in done.stderr) == bool(number)


def test_only_digits_are_called_digits(workspace):
    """Without a data.name the set in data.path would go by that of params.yaml."""
    shutil.copytree(ROOT / "data", "data")
    Path("few").mkdir()
    few_digits(Path("few"), train=40, test=20)
    params = read_params()
    params["data"] |= {"name": "digits", "path": "few"}
    write_params(params)
    assert CliRunner().invoke(fetch.main).exit_code == 0
    params["data"]["path"] = "datasets/tiny"
    write_params(params)
    done = CliRunner().invoke(fetch.main)
    assert done.exit_code == 1 and "are not those of digits" in done.output


@pytest.mark.parametrize(
    ("name", "known"), [("CIFAR-10", "cifar10"), ("Cifar_100", "cifar100"), ("MNIST", "mnist")]
)
def test_a_published_name_in_other_letters_is_not_a_set_of_ones_own(workspace, name, known):
    """Tables would call it CIFAR-10, and it was normalised and mirrored as no CIFAR-10 is."""
    shutil.copytree(ROOT / "data", "data")
    params = read_params()
    params["data"] |= {"name": name, "path": "datasets/tiny"}
    write_params(params)
    done = CliRunner().invoke(fetch.main)
    assert done.exit_code == 1 and f"data.name: write '{known}', not '{name}'" in done.output
    assert not Path("datasets", name).exists()
