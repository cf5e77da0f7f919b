"""Miniature data sets: archives of the published layouts, with their entries in archives.yaml, and a few digits."""

import hashlib
import io
import struct
import tarfile
from pathlib import Path

import cv2
import numpy as np

from archives.catalogue import Archive, Member
from archives.sources import digits
from common_corruptions.recipes.names import FRAMES


def few_digits(folder: Path, train: int, test: int) -> None:
    """The first of the digits as a data set of one's own."""
    for (split, (images, labels)), count in zip(digits(0).items(), (train, test), strict=True):
        np.save(folder / f"{split}_images.npy", images[:count])
        np.save(folder / f"{split}_labels.npy", labels[:count].astype(np.uint8))


def npy_bytes(array: np.ndarray) -> bytes:
    """`array` as an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def tar_bytes(members: dict[str, bytes], folder: str, mode: str = "w") -> bytes:
    """A tar as the published ones are: a folder entry, then the members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        entry = tarfile.TarInfo(folder)
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
        for name, data in members.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def describe(content: bytes, name: str, members: list[Member], **facts: object) -> Archive:
    """The archives.yaml entry of the archive `content`; `facts` replace or add to what is true of it."""
    entry = {
        "name": name,
        "data": "cifar10",
        "part": "c",
        "layout": "npy",
        "folder": name.split(".")[0],
        "urls": ["http://127.0.0.1:9/unused"],
        "bytes": len(content),
        "md5": hashlib.md5(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "members": {m.name: m.model_dump(exclude={"name"}) for m in members},
    }
    return Archive(**(entry | facts))


def corruptions(
    images: int = 200,
    names: tuple[str, ...] = ("fog", "frost", "snow"),
    listed: bool = True,
    labels: np.ndarray | None = None,
    set_name: str = "CIFAR-10",
    **facts: object,
) -> tuple[Archive, bytes, dict[str, np.ndarray]]:
    """A miniature CIFAR-10-C.tar, or of another set. `listed`: its members have an md5; `labels`: of the images."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (5 * images, 32, 32, 3), np.uint8) for name in names}
    arrays["labels"] = rng.integers(0, 10, 5 * images, np.uint8) if labels is None else np.tile(labels, 5)
    files = {f"{name}.npy": npy_bytes(array) for name, array in arrays.items()}
    members = [
        Member(name=f, shape=arrays[f[:-4]].shape, md5=hashlib.md5(data).hexdigest() if listed else None)
        for f, data in files.items()
    ]
    content = tar_bytes(files | {"README.txt": b"not listed, and left alone"}, f"{set_name}-C")
    facts = {"data": set_name.replace("-", "").lower()} | facts
    return describe(content, f"{set_name}-C.tar", members, **facts), content, arrays


def perturbations(images: int) -> tuple[Archive, bytes, dict[str, np.ndarray]]:
    """A miniature CIFAR-10-P.tar: all 20 members, none with an md5 of its own, and no labels."""
    rng = np.random.default_rng(1)
    arrays = {
        name: rng.integers(0, 256, (images, frames, 32, 32, 3), np.uint8) for name, frames in FRAMES.items()
    }
    members = [Member(name=f"{name}.npy", shape=array.shape) for name, array in arrays.items()]
    content = tar_bytes({f"{name}.npy": npy_bytes(array) for name, array in arrays.items()}, "CIFAR-10-P")
    return describe(content, "CIFAR-10-P.tar", members, part="p", bytes=None, sha256=None), content, arrays


def python2_batch(images: np.ndarray, labels: list[int], coarse: list[int] | None = None) -> bytes:
    """A batch as Python 2 and the numpy of its time wrote the published ones (protocol 2, `str` for bytes).

    With `coarse` labels beside the fine ones it is one of CIFAR-100.
    """

    def string(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    def numbers(values: list[int]) -> bytes:
        return b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"

    shape = b"J" + struct.pack("<i", len(images)) + b"J" + struct.pack("<i", 3072) + b"\x86"
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).tobytes()
    dtype = (
        b"cnumpy\ndtype\n"
        + string(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + string(b"|")
        + b"NNN"
        + b"J\xff\xff\xff\xff" * 2
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string(b"b") + b"\x87R"
    state = b"(K\x01" + shape + dtype + b"K\x00tb\x89" + string(pixels) + b"tb"
    if coarse is None:
        classes = string(b"labels") + numbers(labels)
    else:
        classes = string(b"coarse_labels") + numbers(coarse) + string(b"fine_labels") + numbers(labels)
    return b"\x80\x02}(" + string(b"data") + array + state + classes + b"u."


def batch(count: int, classes: int, seed: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, classes, count).tolist()


def cifar(classes: int, count: int = 7) -> tuple[Archive, bytes, dict[str, np.ndarray]]:
    """A miniature CIFAR-10 or CIFAR-100 archive of `count` images a batch."""
    train = [f"data_batch_{i}" for i in range(1, 6)] if classes == 10 else ["train"]
    test = "test_batch" if classes == 10 else "test"
    folder = "cifar-10-batches-py" if classes == 10 else "cifar-100-python"
    sets = {name: batch(count, classes, seed) for seed, name in enumerate([*train, test])}
    sets[test] = sets[test][0], sets[train[-1]][1]  # no class is in the test set alone
    files = {
        name: python2_batch(images, labels, None if classes == 10 else [label // 5 for label in labels])
        for name, (images, labels) in sets.items()
    }
    members = [
        Member(name=name, shape=(count, 3072), md5=hashlib.md5(data).hexdigest())
        for name, data in files.items()
    ]
    content = tar_bytes(files | {"batches.meta": b"never read"}, folder, "w:gz")
    name = f"cifar-{classes}-python.tar.gz"
    facts = {"data": f"cifar{classes}", "part": "clean", "layout": "cifar-batches", "folder": folder}
    archive = describe(content, name, members, **facts)
    arrays = {
        "train_images": np.concatenate([sets[name][0] for name in train]),
        "train_labels": np.concatenate([sets[name][1] for name in train]),
        "test_images": sets[test][0],
        "test_labels": np.array(sets[test][1], np.uint8),
    }
    return archive, content, arrays


def jpeg_arrays(count: int = 30) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays of a file of JPEG images, the same in both splits, and the images; the class is in red alone."""
    labels = np.arange(count) // 10  # grouped by class
    images = np.zeros((count, 16, 16, 3), np.uint8)
    images[..., 0] = 20 + 80 * labels[:, None, None]
    images[..., 2] = 128
    files = [cv2.imencode(".jpg", image[..., ::-1])[1] for image in images]
    arrays = {}
    for split in ("train", "test"):
        arrays[f"{split}_bytes"] = np.concatenate(files)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    return arrays, images
