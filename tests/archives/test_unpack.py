"""Unpacking archives: right ones, damaged ones and hostile ones."""

import gzip
import hashlib
import io
import logging
import os
import pickle
import struct
import subprocess
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from archives import unpack as module
from archives.catalogue import Archive, ArchiveError, Member, read_archives
from archives.formats import CIFAR_FILES, MNIST_FILES, read_cifar_batches, read_idx, read_mnist
from archives.sources import from_folder
from archives.unpack import unpack
from tests.archives.miniatures import batch, cifar, corruptions, describe, npy_bytes, python2_batch, tar_bytes

ROOT = Path(__file__).parents[2]
ARCHIVES = ROOT / "data/archives.yaml"


@pytest.fixture
def out(tmp_path):
    """The folder of an earlier, believed set, which a failure must leave as it is."""
    folder = tmp_path / "datasets" / "c"
    folder.mkdir(parents=True)
    (folder / "earlier.npy").write_bytes(npy_bytes(np.arange(3)))
    return folder


def placed(tmp_path: Path, archive: Archive, content: bytes) -> Path:
    path = tmp_path / archive.name
    path.write_bytes(content)
    return path


def assert_refused(
    archive: Archive, path: Path, out: Path, *words: str, names: list[str] | None = None
) -> None:
    """One clear error; the set that was there is untouched and nothing lies beside it."""
    with pytest.raises(ArchiveError) as error:
        unpack([(archive, path)], out, names)
    message = str(error.value)
    for word in words:
        assert word in message, message
    assert [p.name for p in out.iterdir()] == ["earlier.npy"]
    assert [p.name for p in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("names", [None, ["fog", "snow"]])
def test_the_members_become_the_arrays(tmp_path, out, listed, names):
    archive, content, arrays = corruptions(images=20, listed=listed)
    unpack([(archive, placed(tmp_path, archive, content))], out, names)
    expected = {name: a for name, a in arrays.items() if names is None or name in [*names, "labels"]}
    assert sorted(p.name for p in out.iterdir()) == sorted(f"{name}.npy" for name in expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(np.load(out / f"{name}.npy"), array)
        # The very bytes that were published, so that published checksums hold for our files too.
        assert (out / f"{name}.npy").read_bytes() == npy_bytes(array)


def test_a_slow_hash_sees_every_byte(tmp_path, out, monkeypatch):
    class SlowMd5:
        def __init__(self):
            self.hash = hashlib.md5()

        def update(self, block: memoryview) -> None:
            time.sleep(0.002)
            self.hash.update(block)

        def hexdigest(self) -> str:
            return self.hash.hexdigest()

    monkeypatch.setattr(module, "md5", SlowMd5)
    archive, content, arrays = corruptions(images=300, names=("fog",))
    unpack([(archive, placed(tmp_path, archive, content))], out)
    np.testing.assert_array_equal(np.load(out / "fog.npy"), arrays["fog"])


def test_what_a_killed_run_left_is_swept_away(tmp_path, out):
    archive, content, arrays = corruptions(images=2)
    left = out.with_name("c.partial")
    left.mkdir()
    (left / "half.npy").write_bytes(b"half")
    unpack([(archive, placed(tmp_path, archive, content))], out)
    assert sorted(p.stem for p in out.iterdir()) == sorted(arrays) and not left.exists()


def test_a_damaged_member(tmp_path, out):
    archive, content, arrays = corruptions(images=20)
    spoilt = content.replace(arrays["snow"][3].tobytes(), arrays["snow"][4].tobytes())
    path = placed(tmp_path, archive, spoilt)
    assert_refused(
        archive, path, out, str(path), "snow.npy", archive.members["snow.npy"].md5, archive.urls[0]
    )
    unpack([(archive, path)], out, ["fog"])  # the others are proven by their own md5
    np.testing.assert_array_equal(np.load(out / "fog.npy"), arrays["fog"])


def test_a_damaged_archive_whose_members_have_no_md5(tmp_path, out):
    archive, content, arrays = corruptions(images=20, listed=False)
    spoilt = content.replace(arrays["snow"][3].tobytes(), arrays["snow"][4].tobytes())
    path = placed(tmp_path, archive, spoilt)
    assert_refused(archive, path, out, str(path), archive.md5, archive.urls[0], names=["fog"])


def test_a_part_file_is_read_with_a_warning_where_nothing_proves_a_member(tmp_path, out, caplog):
    archive, content, _ = corruptions(images=20, listed=False)
    path = placed(tmp_path, archive, content).rename(tmp_path / f"{archive.name}.part")
    unpack([(archive, path)], out, ["fog"])
    assert "fog, labels can be checked for shape and dtype only" in caplog.text


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("size", [0, 700, 200_000, -10_000])
def test_a_truncated_archive(tmp_path, out, listed, size):
    archive, content, _ = corruptions(images=20, listed=listed)
    path = placed(tmp_path, archive, content[:size])
    assert_refused(archive, path, out, str(path), archive.urls[0])


def test_an_archive_without_an_expected_member(tmp_path, out):
    archive, content, arrays = corruptions(images=2)
    members = {**archive.members, "rain.npy": Member(name="rain.npy", shape=arrays["fog"].shape)}
    archive = archive.model_copy(update={"members": members, "md5": hashlib.md5(content).hexdigest()})
    assert_refused(archive, placed(tmp_path, archive, content), out, "does not hold rain.npy")


def evil_tar(name: str, **fields: object) -> tuple[Archive, bytes]:
    """A tar of one good member and one entry with these `fields`; its checksums are right."""
    good, stream = npy_bytes(np.zeros(100, np.uint8)), io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path, changes in (("X/fog.npy", {}), (name, fields)):
            entry = tarfile.TarInfo(path)
            entry.size = len(good)
            for key, value in changes.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(good.ljust(entry.size, b"\0")) if entry.isreg() else None)
    members = [Member(name=n, shape=(100,)) for n in ("fog.npy", "frost.npy")]
    return describe(stream.getvalue(), "X.tar", members), stream.getvalue()


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("X/frost.npy", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "link or a device"),
        ("X/frost.npy", {"type": tarfile.LNKTYPE, "linkname": "X/fog.npy"}, "link or a device"),
        ("X/other", {"type": tarfile.SYMTYPE, "linkname": "../.."}, "link or a device"),
        ("X/frost.npy", {"type": tarfile.FIFOTYPE}, "link or a device"),
        ("X/frost.npy", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5}, "link or a device"),
        ("/X/frost.npy", {}, "is outside its folder"),
        ("../X/frost.npy", {}, "is outside its folder"),
        ("X/../../frost.npy", {}, "is outside its folder"),
        ("..\\frost.npy", {}, "is outside its folder"),
        ("X/frost.npy", {"size": 100_000}, "too many"),
        ("X/frost.npy", {"size": 99}, "too few"),
        ("X/fog.npy", {}, "occurs twice"),
        ("Y/frost.npy", {}, "does not hold frost.npy"),
        ("frost.npy", {}, "does not hold frost.npy"),
    ],
)
def test_a_hostile_tar(tmp_path, out, name, fields, reason):
    archive, content = evil_tar(name, **fields)
    path = placed(tmp_path, archive, content)
    assert_refused(archive, path, out, "X.tar", reason, archive.urls[0])
    assert {p.name for p in tmp_path.iterdir()} == {"X.tar", "datasets"}


def npy_with_header(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(100)


@pytest.mark.parametrize(
    "content",
    [
        npy_bytes(np.zeros(100, np.int8)),
        npy_bytes(np.zeros((10, 10), np.uint8)),
        npy_bytes(np.zeros(101, np.uint8)),
        npy_with_header("{'descr': '|u1', 'fortran_order': True, 'shape': (100,), }"),
        npy_with_header("{'descr': '|O', 'fortran_order': False, 'shape': (100,), }"),
        npy_with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (100,), 'x': __import__('os')}"),
        npy_with_header("{"),
        bytes(228),
        b"\x93NUMPY\x09\x00" + bytes(220),
    ],
    ids=["dtype", "shape", "longer", "fortran", "objects", "code", "syntax", "no magic", "version"],
)
@pytest.mark.parametrize("listed", [True, False])
def test_an_npy_of_another_kind(tmp_path, out, content, listed):
    md5 = hashlib.md5(content).hexdigest() if listed else None
    tar = tar_bytes({"fog.npy": content}, "X")
    archive = describe(tar, "X.tar", [Member(name="fog.npy", shape=(100,), md5=md5)])
    assert_refused(archive, placed(tmp_path, archive, tar), out, "fog.npy")


def test_a_disk_that_is_too_small(tmp_path, mount_disk, monkeypatch):
    archive, content, _ = corruptions(images=400)
    path = placed(tmp_path, archive, content)
    disk = mount_disk(tmp_path / "disk", 4)
    with pytest.raises(
        ArchiveError, match=r"needs 0\.02 GB on the disk of .*disk, which has 0\.00\d* GB free"
    ):
        unpack([(archive, path)], disk / "c")
    # Another program takes the room after the check.
    monkeypatch.setattr(module, "require_space", lambda *_: None)
    with pytest.raises(
        ArchiveError, match=r"CIFAR-10-C\.tar cannot be unpacked into .*No space left"
    ) as error:
        unpack([(archive, path)], disk / "c")
    assert "run it again" in str(error.value) and list(disk.iterdir()) == []
    unpack([(archive, path)], disk / "c", [])
    assert [p.name for p in (disk / "c").iterdir()] == ["labels.npy"]


# CIFAR's pickles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [10, 100])
def test_the_batches_become_the_clean_set(tmp_path, out, classes):
    archive, content, arrays = cifar(classes)
    unpack([(archive, placed(tmp_path, archive, content))], out)
    assert sorted(p.stem for p in out.iterdir()) == sorted(arrays)
    for name, expected in arrays.items():
        found = np.load(out / f"{name}.npy")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


def test_a_damaged_tar_gz_is_not_opened(tmp_path, out, monkeypatch):
    archive, content, _ = cifar(10)
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("opened before it was verified"))
    path = placed(tmp_path, archive, content[:-20] + bytes(20))
    assert_refused(archive, path, out, str(path), archive.md5, archive.urls[0])


class Evil:
    def __init__(self, *reduced: object):
        self.reduced = reduced

    def __reduce__(self) -> tuple:
        return self.reduced


def plain_batch(**changes: object) -> dict:
    images, labels = batch(3, 10, 0)
    return {b"data": images.transpose(0, 3, 1, 2).reshape(3, -1), b"labels": labels} | {
        key.encode(): value for key, value in changes.items()
    }


def place_batches(folder: Path, data: bytes) -> Path:
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(data)
    return folder


def evil_batches(marker: Path) -> dict[str, bytes]:
    """Pickles that would write `marker`, or make numpy take bytes for what they are not."""
    command = f"touch {marker}"
    return {
        "os.system": pickle.dumps(Evil(os.system, (command,)), 2),
        "inside a batch": pickle.dumps(plain_batch(labels=Evil(os.system, (command,))), 2),
        "as a key": pickle.dumps(plain_batch() | {Evil(eval, (f"open({str(marker)!r}, 'w')",)): 1}, 4),
        "subprocess": pickle.dumps(plain_batch(x=Evil(subprocess.call, (["touch", str(marker)],))), 5),
        "getattr": pickle.dumps(plain_batch(x=Evil(getattr, ("x", "upper"))), 2),
        "numpy function": b"\x80\x02cnumpy\nload\n(X\x01\x00\x00\x00xtR.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        "old opcode": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "codec": b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00xX\x03\x00\x00\x00hextR.",
        "objects": pickle.dumps(plain_batch(data=np.array([Evil(os.system, (command,))], object)), 2),
        "array of objects": pickle.dumps(plain_batch(data=np.array([[1, "x"]], object)), 2),
        "pointer dtype": pickle.dumps(plain_batch(data=np.zeros((3, 3072), "V8")), 2),
        "persistent id": b"\x80\x02X\x01\x00\x00\x00xQ.",
        "extension": b"\x80\x02\x82\x01.",
        "not a dict": pickle.dumps([1, 2], 2),
        "no data": pickle.dumps({b"labels": [1]}, 2),
        "float pixels": pickle.dumps(plain_batch(data=np.zeros((3, 3072), np.float32)), 2),
        "wrong width": pickle.dumps(plain_batch(data=np.zeros((3, 3071), np.uint8)), 2),
        "too few labels": pickle.dumps(plain_batch(labels=[1, 2]), 2),
        "a label too high": pickle.dumps(plain_batch(labels=[1, 2, 10]), 2),
        "a label below 0": pickle.dumps(plain_batch(labels=[1, 2, -1]), 2),
        "text labels": pickle.dumps(plain_batch(labels=["a", "b", "c"]), 2),
        "cut short": pickle.dumps(plain_batch(), 2)[:-50],
        "empty": b"",
        "not a pickle": b"<html></html>",
    }


REASONS = {
    "os.system": "uses posix.system",
    "inside a batch": "uses posix.system",
    "as a key": "uses builtins.eval",
    "subprocess": "uses subprocess.call",
    "getattr": "getattr",
    "numpy function": "uses numpy.load",
    "dotted name": "uses numpy.ndarray.__init__",
    "old opcode": "uses os.system",
    "codec": "uses the codec 'hex'",
    "objects": "an array of dtype 'O8'",
    "array of objects": "an array of dtype 'O8'",
    "pointer dtype": "an array of dtype 'V8'",
    "float pixels": "an array of dtype 'f4'",
}


@pytest.mark.parametrize("kind", list(evil_batches(Path())))
def test_a_hostile_pickle_runs_nothing(tmp_path, kind):
    marker = tmp_path / "marker"
    folder = place_batches(tmp_path / "set", evil_batches(marker)[kind])
    with pytest.raises(ArchiveError, match=rf"data_batch_1[\s\S]*{REASONS.get(kind, '')}"):
        read_cifar_batches(folder)
    assert not marker.exists()


def test_a_hostile_pickle_in_an_archive_with_right_checksums(tmp_path, out):
    marker = tmp_path / "marker"
    data = evil_batches(marker)["inside a batch"].ljust(3072)
    names = ["train", "test"]
    members = [Member(name=n, shape=(3, 3072), md5=hashlib.md5(data).hexdigest()) for n in names]
    tar = tar_bytes(dict.fromkeys(names, data), "x", "w:gz")
    archive = describe(tar, "x.tar.gz", members, part="clean", layout="cifar-batches")
    assert_refused(archive, placed(tmp_path, archive, tar), out, "train", "uses posix.system")
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("text_keys", [False, True])
def test_batches_that_python_3_wrote(tmp_path, protocol, text_keys):
    images, labels = batch(3, 10, 0)
    one = plain_batch(labels=np.array(labels, np.int64) if protocol == 4 else labels)
    one = {key.decode(): value for key, value in one.items()} if text_keys else one
    folder = place_batches(tmp_path / "set", pickle.dumps(one, protocol))
    splits = read_cifar_batches(folder)
    np.testing.assert_array_equal(splits["test"][0], images)
    np.testing.assert_array_equal(splits["train"][0], np.concatenate([images] * 5))
    np.testing.assert_array_equal(splits["test"][1], labels)


def test_another_md5_is_named(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = place_batches(tmp_path / "set", python2_batch(*batch(3, 10, 0)))
    with caplog.at_level(logging.WARNING):
        splits = from_folder(folder)
    assert len(splits["train"][0]) == 15
    assert "not the published files" in caplog.text and "test_batch" in caplog.text


def test_the_file_names_are_those_of_the_archives():
    archives = read_archives(ARCHIVES)
    batches = {a.folder: tuple(a.members) for a in archives.values() if a.layout == "cifar-batches"}
    assert batches == CIFAR_FILES
    assert {name for name, archive in archives.items() if archive.layout == "idx"} == set(MNIST_FILES)


def test_a_folder_without_batches(tmp_path):
    with pytest.raises(ArchiveError, match=r"needs the files data_batch_1.* or train, test"):
        read_cifar_batches(tmp_path)


def test_a_folder_of_both_sets(tmp_path):
    """As torchvision leaves them: the first of the two would be taken whatever data.name says."""
    for folder, names in CIFAR_FILES.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(python2_batch(*batch(2, 10, 0)))
    with pytest.raises(ArchiveError, match=r"cifar-10-batches-py and .*cifar-100-python: choose one of them"):
        read_cifar_batches(tmp_path)
    assert set(read_cifar_batches(tmp_path / "cifar-100-python")) == {"train", "test"}


def test_real_images_in_the_official_layout(shared):
    folder = shared / "data/cifar10-subset"
    splits = read_cifar_batches(folder)
    assert splits["train"][0].shape == (5 * 1017, 32, 32, 3) and splits["test"][0].shape == (509, 32, 32, 3)
    trusted = pickle.loads((folder / "cifar-10-batches-py/test_batch").read_bytes(), encoding="bytes")
    for image, label, pixels, expected in zip(
        *splits["test"], trusted[b"data"], trusted[b"labels"], strict=True
    ):
        red, green, blue = pixels[:1024], pixels[1024:2048], pixels[2048:]
        assert image[5, 7].tolist() == [red[5 * 32 + 7], green[5 * 32 + 7], blue[5 * 32 + 7]]
        assert label == expected


# MNIST's IDX files ----------------------------------------------------------------------------------------------


def idx_gz(array: np.ndarray, **changes: object) -> bytes:
    magic = changes.get("magic", bytes([0, 0, 8, array.ndim]))
    shape = changes.get("shape", array.shape)
    return gzip.compress(magic + struct.pack(f">{len(shape)}I", *shape) + array.tobytes())


def test_idx_files_become_the_clean_set(tmp_path, out):
    rng = np.random.default_rng(0)
    sources, arrays = [], {}
    for stem, name, shape in (
        ("train-images-idx3-ubyte", "train_images", (6, 28, 28)),
        ("train-labels-idx1-ubyte", "train_labels", (6,)),
        ("t10k-images-idx3-ubyte", "test_images", (4, 28, 28)),
        ("t10k-labels-idx1-ubyte", "test_labels", (4,)),
    ):
        array = rng.integers(0, 10, shape).astype(np.uint8)
        content = idx_gz(array)
        entry = {"data": "mnist", "part": "clean", "layout": "idx", "folder": None}
        archive = describe(content, f"{stem}.gz", [Member(name=stem, shape=shape)], **entry)
        sources.append((archive, placed(tmp_path, archive, content)))
        arrays[name] = array[..., None] if array.ndim == 3 else array
    unpack(sources, out)
    assert sorted(p.stem for p in out.iterdir()) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.load(out / f"{name}.npy"), array)


IMAGES = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)


@pytest.mark.parametrize(
    "content",
    [
        idx_gz(IMAGES, magic=b"\0\0\x0d\3"),
        idx_gz(IMAGES, magic=b"\0\0\x08\2"),
        idx_gz(IMAGES, shape=(3, 28, 28)),
        idx_gz(IMAGES, shape=(1, 28, 28)),
        idx_gz(IMAGES, shape=(2**31, 2**31, 4)),
        idx_gz(IMAGES)[:-6],
        gzip.compress(b"\0\0\x08\3\0\0"),
        gzip.compress(b""),
        b"<html></html>",
        b"",
    ],
    ids=["type", "dimensions", "short", "long", "huge", "cut", "half a header", "empty", "page", "nothing"],
)
def test_what_is_no_idx_file(tmp_path, content):
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"x\.gz"):
        read_idx(tmp_path / "x.gz")


def test_an_idx_file_of_other_numbers_is_not_said_to_be_damaged(tmp_path):
    (tmp_path / "x.gz").write_bytes(idx_gz(IMAGES, magic=b"\0\0\x0d\3"))
    with pytest.raises(ArchiveError, match=r"^\S*x\.gz is not an IDX file of bytes"):
        read_idx(tmp_path / "x.gz")


def test_real_digits(shared, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = shared / "data/mnist-subset"
    splits = from_folder(folder)
    assert splits["train"][0].shape == (14262, 28, 28, 1) and splits["test"][0].shape == (10000, 28, 28, 1)
    assert set(splits["test"][1].tolist()) == set(range(10))
    # The test files are the published ones, the training files are not.
    assert "train-images" in caplog.text and "t10k" not in caplog.text
    with pytest.raises(ArchiveError, match="lacks"):
        read_mnist(tmp_path)
