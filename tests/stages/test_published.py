"""The stages `fetch` and `corrupt` with published archives, from a server that gives them well or badly."""

import functools
import hashlib
import io
import os
import pickle
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from archives.catalogue import Archive
from common_corruptions import CORRUPTIONS, PERTURBATIONS
from stages import corrupt, fetch
from stages.corrupt import fingerprint
from stages.files.schema import Data
from tests.archives.archive_server import ArchiveServer, File, serving
from tests.archives.miniatures import cifar, corruptions, describe, npy_bytes, perturbations, tar_bytes
from tests.stages.clones import clone, environment, run
from tests.stages.yaml_files import write_yaml

PAGE = b"<!DOCTYPE html><html><head><title>Down for maintenance</title></head></html>"
PARTS = {"clean": fetch.main, "c": corrupt.main, "p": corrupt.main}


@functools.cache
def miniature(images: int) -> dict[str, tuple[Archive, bytes, dict[str, np.ndarray]]]:
    """For each part of the set the entry of its archive, its content, and the arrays that params.yaml asks for."""
    clean = cifar(10, images)
    entry, content, arrays = perturbations(images)
    return {
        "clean": clean,
        "c": corruptions(images, CORRUPTIONS, labels=clean[2]["test_labels"]),
        "p": (entry, content, {name: arrays[name] for name in PERTURBATIONS}),
    }


class Published:
    """CIFAR-10, C and P in miniature: what the server gives, what archives.yaml says, what has to come out."""

    def __init__(self, images: int = 2):
        self.images = images
        self.entries: dict[str, Archive] = {}
        self.files: dict[str, File] = {}
        self.arrays: dict[str, dict[str, np.ndarray]] = {}
        for part, (entry, content, arrays) in miniature(images).items():
            self.entries[part], self.files[part], self.arrays[part] = entry, File(content), arrays

    def write(self, folder: Path, server: ArchiveServer | None = None) -> None:
        """Write archives.yaml; without a server its URLs lead nowhere."""
        entries = {}
        for part, entry in self.entries.items():
            fields = entry.model_dump(mode="json", exclude={"name"})
            for name, member in fields["members"].items():
                assert member.pop("name") == name
            entries[entry.name] = fields | ({"urls": [server.url(part)]} if server else {})
        (folder / "data").mkdir(exist_ok=True)
        write_yaml(folder / "data/archives.yaml", entries)

    def assert_right(self, folder: Path, *parts: str) -> None:
        """The data sets of `parts` hold just what was published, and nothing of the way there is left."""
        for part in parts:
            place = folder / "datasets/cifar10" / part
            assert sorted(p.name for p in place.iterdir()) == sorted(
                f"{name}.npy" for name in self.arrays[part]
            )
            for name, array in self.arrays[part].items():
                np.testing.assert_array_equal(np.load(place / f"{name}.npy"), array, err_msg=f"{part}/{name}")
        assert sorted(p.name for p in (folder / "datasets/cifar10").iterdir()) == sorted(parts)
        assert not list((folder / ".dvc/tmp/pushpull/archives").glob("*"))


PARAMS = {
    "data": {"name": "cifar10", "corrupted": "download"},
    "train": {
        "epochs": 1, "batch_size": 8, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "milestones": [], "seeds": [0],
    },
    "evaluate": {"batch_size": 8},
    "official": {},
    "nets": {"lenet": {"block": "conv", "arch": "lenet_b", "family": "lenet"}},
    "conv": {},
}  # fmt: skip


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """The current folder, with a params.yaml that asks for the published sets."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.setattr(corrupt, "draw", lambda *_: None)  # seconds, for random images
    set_data(folder)
    return folder


def set_data(folder: Path, **data: object) -> None:
    write_yaml(folder / "params.yaml", PARAMS | {"data": PARAMS["data"] | data})


def stage(command: click.Command) -> tuple[int, str]:
    """Exit status and output of a stage; what is no message to the user comes through as an exception."""
    result = CliRunner().invoke(command, [], catch_exceptions=False)
    return result.exit_code, result.output


def stages(*commands: click.Command) -> None:
    for command in commands:
        status, output = stage(command)
        assert status == 0, output


@pytest.fixture
def small_disk(mount_disk) -> Callable[[Path], Path]:
    """Mounts a file system of 2 MB at a folder."""
    return partial(mount_disk, megabytes=2)


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"drops": [20_000, 10_000, 30_000]},
        {"answers": [(503, {})]},
        {"ranges": False},
        {"ranges": False, "length": False},
    ],
    ids=["well", "dropped three times", "503 first", "no ranges", "neither ranges nor size"],
)
def test_the_published_sets_arrive(repository, fault):
    sets = Published()
    with serving(**sets.files) as server:
        for file in sets.files.values():
            for key, value in fault.items():
                setattr(file, key, list(value) if isinstance(value, list) else value)
        sets.write(repository, server)
        stages(fetch.main, corrupt.main)
        assert not any(file.answers for file in sets.files.values())
        assert fault.get("drops") is None or not sets.files["p"].drops
    sets.assert_right(repository, "clean", "c", "p")


def web_page(sets: Published, part: str, disk) -> list[str]:
    sets.files[part].page = PAGE
    return ["web page", "Down for maintenance"]


def wrong_md5(sets: Published, part: str, disk) -> list[str]:
    content = bytearray(sets.files[part].content)
    content[len(content) // 2] ^= 1
    sets.files[part].content = bytes(content)
    return [sets.entries[part].md5, "damaged"]


def truncated(sets: Published, part: str, disk) -> list[str]:
    sets.files[part].content = sets.files[part].content[:-5000]
    return ["bytes, but" if sets.entries[part].bytes else sets.entries[part].md5]


def silent(sets: Published, part: str, disk) -> list[str]:
    sets.files[part].answers = [(404, {})] * 9
    return ["404"]


def evil_tar(sets: Published, part: str, disk) -> list[str]:
    """A link beside the members; every checksum is right."""
    entry, stream = sets.entries[part], io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sets.files[part].content)) as good,
        tarfile.open(fileobj=stream, mode="w:gz" if part == "clean" else "w") as bad,
    ):
        link = tarfile.TarInfo(f"{entry.folder}/{next(iter(entry.members))}")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        bad.addfile(link)
        for info in good:
            bad.addfile(info, good.extractfile(info))
    replace(sets, part, stream.getvalue(), list(entry.members.values()))
    return ["is a link or a device"]


def evil_pickle(sets: Published, part: str, disk) -> list[str]:
    """Batches that would run a command; every checksum is right."""

    class Evil:
        def __reduce__(self):
            return os.system, ("touch executed",)

    data = pickle.dumps({b"data": Evil(), b"labels": [1]}, 2).ljust(sets.images * 3072)
    members = [
        m.model_copy(update={"md5": hashlib.md5(data).hexdigest()})
        for m in sets.entries[part].members.values()
    ]
    content = tar_bytes(dict.fromkeys(sets.entries[part].members, data), "cifar-10-batches-py", "w:gz")
    replace(sets, part, content, members)
    return ["uses posix.system", "Nothing in it was run"]


def evil_array(sets: Published, part: str, disk) -> list[str]:
    """An array of another shape; every checksum is right."""
    entry = sets.entries[part]
    files = {
        m: npy_bytes(np.zeros(a.shape, np.uint8))
        for m, a in zip(entry.members, sets.arrays["c"].values(), strict=True)
    }
    files["fog.npy"] = npy_bytes(np.zeros((5 * sets.images * 32, 32, 3), np.uint8))
    members = [
        m.model_copy(update={"md5": hashlib.md5(files[m.name]).hexdigest()}) for m in entry.members.values()
    ]
    replace(sets, part, tar_bytes(files, entry.folder), members)
    return ["fog.npy", "(320, 32, 3)"]


def replace(sets: Published, part: str, content: bytes, members: list) -> None:
    old = sets.entries[part]
    facts = old.model_dump(include={"data", "part", "layout", "folder"})
    sets.entries[part], sets.files[part].content = describe(content, old.name, members, **facts), content


def full_disk(sets: Published, part: str, disk) -> list[str]:
    disk(Path(".dvc/tmp/pushpull"))
    return ["needs 0.0", "GB free", "Make room"]


@pytest.mark.parametrize(
    ("fault", "part"),
    [
        (web_page, "clean"),
        (web_page, "p"),
        (wrong_md5, "clean"),
        (wrong_md5, "c"),
        (wrong_md5, "p"),
        (truncated, "clean"),
        (truncated, "p"),
        (silent, "c"),
        (evil_tar, "clean"),
        (evil_tar, "c"),
        (evil_tar, "p"),
        (evil_pickle, "clean"),
        (evil_array, "c"),
        (full_disk, "p"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
def test_a_failure_is_one_error_and_leaves_no_set(repository, small_disk, fault, part):
    sets, good = Published(), Published()
    if part != "clean":
        with serving(**good.files) as server:
            good.write(repository, server)
            stages(fetch.main)
    words = fault(sets, part, small_disk)
    with serving(**sets.files) as server:
        sets.write(repository, server)
        status, output = stage(PARTS[part])
        url = server.url(part)
    assert status == 1
    (message,) = output.split("Error: ")[1:]  # one error
    assert "Traceback" not in output
    if fault is not full_disk:  # that is not the server's fault
        words.append(url)
    for word in [sets.entries[part].name, *words]:
        assert word in message
    assert any(remedy in message for remedy in ("run it again", "Delete", "delete", "Make room"))
    left = {path.name for path in (repository / "datasets/cifar10").glob("*")}
    assert left == (set() if part == "clean" else {"clean"})
    assert not (repository / "executed").exists()
    if fault is full_disk:
        return
    # Once that is put right, the same command ends in the right set.
    shutil.rmtree(
        repository / ".dvc/tmp/pushpull/archives", ignore_errors=True
    )  # "Delete it", said the error
    with serving(**good.files) as server:
        good.write(repository, server)
        stages(PARTS[part])
    good.assert_right(repository, *(["clean"] if part == "clean" else ["clean", "c", "p"]))


def test_archives_placed_by_hand(repository):
    """Nothing is asked of the server, the archives stay, and a folder named from the repository is found."""
    sets = Published()
    placed = repository.parent / "archives"
    placed.mkdir()
    for part, entry in sets.entries.items():
        (placed / entry.name).write_bytes(sets.files[part].content)
    sets.write(repository)
    set_data(repository, archives="../archives")
    stages(fetch.main, corrupt.main)
    sets.assert_right(repository, "clean", "c", "p")
    assert {path.name for path in placed.iterdir()} == {entry.name for entry in sets.entries.values()}


def test_an_archive_that_is_missing_in_the_folder_is_fetched_and_kept(repository, tmp_path):
    sets = Published()
    set_data(repository, archives=str(tmp_path / "archives"))
    with serving(**sets.files) as server:
        sets.write(repository, server)
        stages(fetch.main, corrupt.main)
    sets.assert_right(repository, "clean", "c", "p")
    for part, entry in sets.entries.items():
        assert (tmp_path / "archives" / entry.name).read_bytes() == sets.files[part].content


def test_a_choice_is_all_that_is_fetched(repository):
    sets = Published()
    set_data(repository, corruptions=["fog"], perturbations=["tilt", "shot_noise_2"])
    tilt, variant = sets.arrays["p"]["tilt"], perturbations(2)[2]["shot_noise_2"]
    sets.arrays |= {"c": {name: sets.arrays["c"][name] for name in ("fog", "labels")}}
    sets.arrays |= {"p": {"tilt": tilt, "shot_noise_2": variant}}
    with serving(**sets.files) as server:
        sets.write(repository, server)
        stages(fetch.main, corrupt.main)
        wanted = sum(array.nbytes for part in ("c", "p") for array in sets.arrays[part].values())
        assert (
            server.sent < wanted + len(sets.files["clean"].content) + 300_000
        )  # tar headers are read in blocks
    sets.assert_right(repository, "clean", "c", "p")


def test_a_corruption_of_ones_own_is_made_beside_the_published_ones(repository, posterize):
    sets = Published()
    set_data(repository, corruptions=["all", "posterize"])
    with serving(**sets.files) as server:
        sets.write(repository, server)
        stages(fetch.main, corrupt.main)
    place = repository / "datasets/cifar10/c"
    for name in (*CORRUPTIONS, "labels"):
        np.testing.assert_array_equal(np.load(place / f"{name}.npy"), sets.arrays["c"][name], err_msg=name)
    np.testing.assert_array_equal(
        np.load(place / "posterize.npy")[-sets.images :], sets.arrays["clean"]["test_images"] // 64 * 64
    )


def test_data_sets_on_another_disk(repository, small_disk):
    sets = Published(2)
    set_data(repository, perturbations=["translate"])
    sets.arrays["p"] = {"translate": sets.arrays["p"]["translate"]}
    small_disk(repository / "datasets")
    with serving(**sets.files) as server:
        sets.write(repository, server)
        stages(fetch.main, corrupt.main)
    sets.assert_right(repository, "clean", "c", "p")


def test_a_full_disk_while_a_set_of_ones_own_is_taken(repository, small_disk, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for split, count in (("train", 700), ("test", 9)):
        np.save(own / f"{split}_images.npy", np.full((count, 32, 32, 3), 9, np.uint8))
        np.save(own / f"{split}_labels.npy", np.arange(count) % 10)
    Published().write(repository)
    small_disk(repository / "datasets")
    set_data(repository, name="own", path=str(own))
    status, output = stage(fetch.main)
    assert status == 1 and "No space left on device" in output and "datasets/own/clean" in output
    assert list((repository / "datasets").rglob("*.npy")) == []


def test_a_full_disk_while_generated_sets_are_moved_to_it(repository, small_disk, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for split in ("train", "test"):
        np.save(own / f"{split}_images.npy", np.full((60, 32, 32, 3), 9, np.uint8))
        np.save(own / f"{split}_labels.npy", np.arange(60) % 10)
    Published().write(repository)
    small_disk(repository / "datasets")
    choice = {
        "corruptions": ["contrast", "brightness"],
        "perturbations": ["translate"],
        "perturbed_images": 1,
    }
    set_data(repository, name="own", path=str(own), corrupted="generate", **choice)
    stages(fetch.main)
    status, output = stage(corrupt.main)
    error = output.splitlines()[-1]
    assert status == 1 and error.startswith("Error: [Errno 28] No space left on device: ")
    assert error.endswith("-> 'datasets/own/c.partial/contrast.npy'")
    assert [path.name for path in (repository / "datasets/own").iterdir()] == ["clean"]


def test_published_corruptions_of_other_test_images_are_refused(repository, tmp_path, monkeypatch):
    """A subset through data.path, or another set under the name: its C and P cannot be the published ones."""
    sets, subset = Published(), Published(1)
    batches = tmp_path / "batches"
    with tarfile.open(fileobj=io.BytesIO(subset.files["clean"].content)) as tar:
        tar.extractall(batches)  # of our own making; the first releases of Python 3.11 know no filter
    set_data(repository, path=str(batches))
    monkeypatch.setattr(fetch, "begins_as", lambda *_: True)
    with serving(**sets.files) as server:
        sets.write(repository, server)
        stages(fetch.main)
        status, output = stage(corrupt.main)
        assert status == 1 and "data.corrupted: generate" in output and "CIFAR-10-C.tar" in output
        assert server.requests == []  # seen before anything is fetched
        labels = repository / "datasets/cifar10/clean/test_labels.npy"
        images = repository / "datasets/cifar10/clean/test_images.npy"
        np.save(images, sets.arrays["clean"]["test_images"])
        np.save(labels, sets.arrays["clean"]["test_labels"][::-1])
        status, output = stage(corrupt.main)
        assert status == 1 and "was not made from the test images" in output
    assert not (repository / "datasets/cifar10/c").exists()


def test_a_set_without_published_corruptions(repository):
    Published().write(repository)
    set_data(repository, name="digits")
    stages(fetch.main)
    status, output = stage(corrupt.main)
    assert status == 1 and "Set data.corrupted: generate" in output


def test_a_kill_costs_little_of_what_was_fetched(tmp_path):
    """Through DVC, which empties the outputs of a stage before it runs: neither set is fetched twice."""
    sets = Published(12)
    folder = clone(tmp_path, lambda params: params["data"].update(name="cifar10", corrupted="download"))
    size = sum(len(file.content) for file in sets.files.values())
    with serving(**sets.files) as server:
        sets.write(folder, server)
        sets.files["p"].rate = 10e6
        process = subprocess.Popen(
            ["dvc", "repro", "corrupt"], cwd=folder, env=environment(forked=True), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while server.sent < size // 2:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        sets.files["p"].rate = 1e3
        time.sleep(0.5)  # what is in the buffers of the connections arrives
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (folder / "datasets/cifar10/c").exists() and not (folder / "datasets/cifar10/p").exists()
        sets.files["p"].rate = None
        run(folder, "dvc", "repro", "corrupt")
        assert (server.sent - size) / size < 0.05
        before = server.sent
        shutil.rmtree(folder / "datasets/cifar10")
        run(folder, "dvc", "repro", "corrupt")  # from DVC's cache
        assert server.sent == before
    sets.assert_right(folder, "clean", "c", "p")


def test_unfinished_sets_are_found_again_from_another_folder():
    data = Data(name="cifar10")
    moved = data.model_copy(update={"path": "/elsewhere", "archives": "/archives"})
    assert fingerprint(moved, {}) == fingerprint(data, {})
    assert fingerprint(data.model_copy(update={"seed": 1}), {}) != fingerprint(data, {})
