"""Sources of clean images: the embedded digits, or a folder of the user."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from archives.catalogue import ARCHIVES, file_digest, read_archives
from archives.formats import ArchiveError, Splits, cifar_files, mnist_files, read_cifar_batches, read_mnist
from common_corruptions.npy import load_array

log = logging.getLogger(__name__)


def digits(seed: int) -> Splits:
    """Scikit-learn's handwritten digits as 32 x 32 RGB: 1,497 training and 300 test images, split by class.

    The 8 x 8 images of 17 grey levels are enlarged by cubic interpolation.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    grey = images.reshape(-1, 8, 8).astype(np.float64)
    # Sums of integers with weights that are multiples of 2^-11 are exact, and so the same on every processor.
    large = np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_CUBIC) for image in grey])
    levels = (large * (255 / 16)).clip(0, 255)
    rgb = np.repeat(np.rint(levels).astype(np.uint8)[..., None], 3, axis=3)
    train, test = train_test_split(np.arange(len(rgb)), test_size=300, stratify=labels, random_state=seed)
    return {"train": (rgb[train], labels[train]), "test": (rgb[test], labels[test])}


def from_folder(path: Path) -> Splits:
    """Read the set in a folder in one of three forms: our own, CIFAR's python batches, or MNIST's IDX files.

    Raises:
        ArchiveError: the folder does not exist or has none of these forms, or a file is missing or damaged.
    """
    if not path.is_dir():
        raise ArchiveError(f"data.path: no folder {path}")
    for base in (path, path / "clean"):
        if (base / "train_images.npy").exists():
            return npy_files(base)
    if (path / "train-images-idx3-ubyte.gz").exists():
        name_others(mnist_files(path))
        return read_mnist(path)
    if any(
        (base / name).is_file()
        for base in (path, *path.glob("cifar-10*-py*"))
        for name in ("test_batch", "test")
    ):
        name_others(cifar_files(path))
        return read_cifar_batches(path)
    raise ArchiveError(
        f"data.path: {path} holds none of: {{train,test}}_{{images,labels}}.npy (uint8 NHWC, integers), CIFAR's python "
        "batches (data_batch_1 ... test_batch, or train and test), MNIST's four IDX files (.gz); put an archive that "
        "is not unpacked into the folder set in data.archives"
    )


def name_others(files: Iterable[Path], archives: Path = ARCHIVES) -> None:
    """Log which files do not have the md5 of a published file, as they are a subset or the user's own set."""
    entries = read_archives(archives).values()
    published = {member.md5 for entry in entries for member in entry.members.values()}
    published |= {entry.md5 for entry in entries}
    others = [file for file in files if file_digest(file, "md5") not in published]
    if others:
        names = ", ".join(file.name for file in others)
        log.warning(
            "%s: %s are not the published files (md5 differs); used as they are", others[0].parent, names
        )


def npy_files(folder: Path) -> Splits:
    """Read a set in our own form, `{train,test}_{images,labels}.npy`.

    Raises:
        ArchiveError: a file is missing or is not an array, or the uint8 images have no value above 1.
    """
    splits = {}
    for split in ("train", "test"):
        arrays = []
        for part in ("images", "labels"):
            file = folder / f"{split}_{part}.npy"
            try:
                arrays.append(load_array(file))
            except FileNotFoundError:
                raise ArchiveError(f"{file} is missing; the set is incomplete") from None
            except ValueError as error:
                raise ArchiveError(f"data.path: {error}") from None
        splits[split] = tuple(arrays)
        images = arrays[0]
        if images.dtype == np.uint8 and images.size and images.max() <= 1:
            raise ArchiveError(
                f"data.path: {folder / f'{split}_images.npy'} holds no value above 1; images must have 0 to 255"
            )
    return splits


def count_shared(train: np.ndarray, test: np.ndarray) -> int:
    """Count the test images that are also, byte for byte, among the training images; both (N, H, W, C)."""
    learnt = {hashlib.md5(image.tobytes()).digest() for image in train}
    return sum(hashlib.md5(image.tobytes()).digest() in learnt for image in test)
