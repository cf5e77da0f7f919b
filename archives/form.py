"""Write data sets in the common form on disk, that of the published CIFAR-10-C, completely or not at all.

`clean/{train,test}_{images,labels}.npy`, `c/<corruption>.npy` (severities 1 to 5 stacked) and `p/<perturbation>.npy`
(images x frames); images uint8 NHWC, labels uint8.
"""

import errno
import shutil
from pathlib import Path

import numpy as np


def save_clean(folder: Path, splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Check the clean images and labels of a set and write all of them or none, replacing an existing `folder`.

    Raises:
        OSError: the file system fails.
        ValueError: images that are not uint8 NHWC with 1 or 3 channels, a different number of labels, splits of
            different image shapes, a class that only the test set has, which no net could learn.
    """
    shapes = set()
    for split, (images, labels) in splits.items():
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
            raise ValueError(
                f"{split} images must be uint8 of shape (N, H, W, 1 or 3), got {images.dtype} {images.shape}"
            )
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{split} labels must be {len(images)} integers, one for each image, got {labels.dtype} {labels.shape}"
            )
        if not 0 <= labels.min() <= labels.max() <= 255:
            raise ValueError(f"{split} labels must be from 0 to 255, got {labels.min()} to {labels.max()}")
        shapes.add(images.shape[1:])
    if len(shapes) > 1:
        raise ValueError(f"training and test images differ in shape: {sorted(shapes)}")
    if strange := np.setdiff1d(splits["test"][1], splits["train"][1]).tolist():
        raise ValueError(f"test labels have classes without training images: {', '.join(map(str, strange))}")
    fresh = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed
    try:
        fresh.mkdir(parents=True)
        for split, (images, labels) in splits.items():
            save_array(fresh / f"{split}_images.npy", images)
            save_array(fresh / f"{split}_labels.npy", labels.astype(np.uint8))
        put_in_place(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def save_array(path: Path, array: np.ndarray) -> None:
    """Save like `np.save`, whose error for a full disk does not say that the disk is full."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


def put_in_place(source: Path, target: Path) -> None:
    """Move a complete folder of files to its final name, replacing what was there; copies it to another disk.

    Raises:
        OSError: the move or copy fails.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        near = target.with_name(f"{target.name}.partial")
        shutil.rmtree(near, ignore_errors=True)
        try:
            near.mkdir()
            # copytree continues after a file that does not fit, and its error is a list of all failures.
            for path in sorted(source.iterdir()):
                shutil.copyfile(path, near / path.name)
            near.rename(target)
        finally:
            shutil.rmtree(near, ignore_errors=True)
