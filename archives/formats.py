"""The two formats in which clean sets are published: CIFAR's pickled batches and MNIST's IDX files.

A pickle is a program. The batches are read by an unpickler that executes nothing: the names that a numpy array needs
resolve to stand-ins, which hold bytes and accept integer arrays only; every other name is an error. (numpy's own
classes are not safe: `dtype.__setstate__` accepts fields that lie outside of the array, and reading one crashes.)
"""

import gzip
import math
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

Splits = dict[str, tuple[np.ndarray, np.ndarray]]

# The folder of each set in the official "python version" layout, and its files.
CIFAR_FILES = {
    "cifar-10-batches-py": (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"),
    "cifar-100-python": ("train", "test"),
}
MNIST_FILES = tuple(
    f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)

_INTEGERS = {"u1", "i1", "i2", "i4", "i8"}
_MOST_IDX_BYTES = 1 << 30


class ArchiveError(ValueError):
    """A file that is unavailable or cannot be trusted; the message names it, its source and the remedy."""


def cifar_files(folder: Path) -> list[Path]:
    """The batches of CIFAR-10 or CIFAR-100 in a folder, or in its subfolder as extracted from the archive.

    Raises ArchiveError if there is no set or more than one.
    """
    found = [
        [place / name for name in names]
        for own, names in CIFAR_FILES.items()
        for place in (folder, folder / own)
        if all((place / name).is_file() for name in names)
    ]
    if not found:
        expected = " or ".join(", ".join(names) for names in CIFAR_FILES.values())
        raise ArchiveError(
            f"{folder} holds no CIFAR set in the official python layout: it needs the files {expected}."
        )
    if len(found) > 1:
        places = " and ".join(str(files[0].parent) for files in found)
        raise ArchiveError(f"{folder} holds several CIFAR sets, in {places}: choose one of them.")
    return found[0]


def read_cifar_batches(folder: Path) -> Splits:
    """Read CIFAR-10 or CIFAR-100, or a subset, in the official "python version" layout.

    `folder` contains the batches (`data_batch_1` ... `test_batch`, or `train` and `test`) or their subfolder.

    Returns images (N x 32 x 32 x 3) and labels (N), both uint8, for "train" and "test".
    Raises ArchiveError if a file is missing or is not a batch.
    """
    files = cifar_files(folder)
    return load_batches(files[0].parent, {file.name: None for file in files})


def mnist_files(folder: Path) -> list[Path]:
    """MNIST's four gzipped IDX files in a folder. Raises ArchiveError if one is missing."""
    if missing := [name for name in MNIST_FILES if not (folder / name).is_file()]:
        raise ArchiveError(
            f"{folder} lacks {', '.join(missing)}: MNIST needs all of {', '.join(MNIST_FILES)}."
        )
    return [folder / name for name in MNIST_FILES]


def read_mnist(folder: Path) -> Splits:
    """Read MNIST from its four gzipped IDX files, like `read_cifar_batches`; images are N x 28 x 28 x 1."""
    arrays = {idx_array_name(file.name): read_idx(file) for file in mnist_files(folder)}
    splits = {split: (arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in ("train", "test")}
    for split, (images, labels) in splits.items():
        if len(images) != len(labels):
            raise ArchiveError(f"{folder}: {len(images)} {split} images, but {len(labels)} labels.")
    return splits


def load_batches(folder: Path, sizes: Mapping[str, int | None]) -> Splits:
    """Return what `read_cifar_batches` does, from the batches in `sizes`, which maps names to image counts or None."""
    batches: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"train": [], "test": []}
    for name, size in sizes.items():
        images, labels = _read_batch(folder / name)
        if size is not None and len(images) != size:
            raise ArchiveError(f"{folder / name} holds {len(images)} images instead of {size}.")
        batches["test" if name.startswith("test") else "train"].append((images, labels))
    return {
        split: (
            np.concatenate([images for images, _ in found]),
            np.concatenate([labels for _, labels in found]),
        )
        for split, found in batches.items()
    }


def read_idx(path: Path) -> np.ndarray:
    """Read the uint8 array of a gzipped IDX file; images get a last axis of one channel. Raises ArchiveError."""
    try:
        with gzip.open(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08" or magic[3] not in (1, 3):
                raise ArchiveError(f"{path} is not an IDX file of bytes in one or three dimensions.")
            shape = tuple(int(side) for side in np.frombuffer(file.read(4 * magic[3]), ">u4"))
            size = math.prod(shape)
            data = file.read(size + 1) if len(shape) == magic[3] and size <= _MOST_IDX_BYTES else b""
    except ArchiveError:  # also a ValueError, but its message is clear already
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ArchiveError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if not data or len(data) != size:
        raise ArchiveError(f"{path} does not hold the {shape} bytes stated in its header. Fetch it again.")
    array = np.frombuffer(data, np.uint8).reshape(shape)
    return array[..., None] if array.ndim == 3 else array


def idx_array_name(file_name: str) -> str:
    """`test_images` for `t10k-images-idx3-ubyte.gz`."""
    split, kind = file_name.split("-")[:2]
    return f"{'test' if split == 't10k' else split}_{kind}"


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read images (N x 32 x 32 x 3) and labels (N), both uint8, from one pickled batch."""
    try:
        with path.open("rb") as file:
            batch = _BatchUnpickler(file, encoding="bytes").load()
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        fine = "fine_labels" in fields
        images = fields["data"].array
        labels = fields["fine_labels" if fine else "labels"]
        labels = np.asarray(labels.array if isinstance(labels, _PickledArray) else labels)
    except Exception as error:  # a hostile pickle can raise anything
        raise ArchiveError(
            f"{path} is not a CIFAR batch: {error}. Nothing in it was run. Use the published file."
        ) from error
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072 or len(images) == 0:
        raise ArchiveError(f"{path}: data must be N x 3072 bytes, not {images.dtype} {images.shape}.")
    classes = 100 if fine else 10
    if (
        labels.shape != (len(images),)
        or labels.dtype.kind not in "iu"
        or not 0 <= labels.min() <= labels.max() < classes
    ):
        raise ArchiveError(
            f"{path}: needs one label from 0 to {classes - 1} for each of its {len(images)} images."
        )
    planes = images.reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels.astype(np.uint8)


class _BatchUnpickler(pickle.Unpickler):
    """Unpickler for plain containers, numbers, strings and integer arrays; rejects every other name."""

    def find_class(self, module: str, name: str) -> object:
        try:
            return _STAND_INS[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise pickle.UnpicklingError(f"it uses {module}.{name}") from None


class _PickledDtype:
    """Stand-in for numpy.dtype."""

    def __init__(self, code: str | bytes, *_: object):
        code = code.decode() if isinstance(code, bytes) else code
        if code not in _INTEGERS:
            raise pickle.UnpicklingError(f"it has an array of dtype {code!r}")
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"it holds an array of byte order {order!r}")
        self.order = order


class _PickledArray:
    """Stand-in for numpy.ndarray, which builds an integer array from the pickled shape and bytes."""

    array: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        self._fill(data, dtype, shape, "F" if fortran else "C")

    def _fill(self, data: bytes, dtype: _PickledDtype, shape: tuple[int, ...], order: str) -> None:
        if (
            not isinstance(dtype, _PickledDtype)
            or not isinstance(data, bytes | bytearray)
            or order not in ("C", "F")
        ):
            raise pickle.UnpicklingError("it holds an array that is not made of plain bytes")
        self.array = np.frombuffer(data, dtype.order + dtype.code).reshape(shape, order=order)


def _reconstruct(*_: object) -> _PickledArray:
    """Stand-in for numpy's function of that name; the state that follows in the pickle fills the array."""
    return _PickledArray()


def _frombuffer(
    data: bytes, dtype: _PickledDtype, shape: tuple[int, ...], order: str, *_: object
) -> _PickledArray:
    """Stand-in for numpy's function of that name, which pickle protocol 5 uses."""
    array = _PickledArray()
    array._fill(data, dtype, shape, order)
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand-in for _codecs.encode, which Python 3 uses to write bytes in old pickle protocols."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it uses the codec {encoding!r}")
    return str.encode(text, "latin1")


_STAND_INS = {
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
}
