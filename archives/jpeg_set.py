"""A clean set whose images are concatenated JPEG files in one `.npz`, such as `cifar10-jpeg.npz`.

| array | holds |
|---|---|
| `{train,test}_bytes` uint8 (B,) | the files, one after the other |
| `{train,test}_offsets` integers (N + 1,) | start of each file, and finally B |
| `{train,test}_labels` integers (N,) | class of each image |

The images are lossy copies of their originals, so results on one set do not apply to the other.
"""

import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np

from archives.formats import ArchiveError, Splits

KINDS = ("bytes", "offsets", "labels")
ORDER_SEED = 0  # for the order in which the images are returned


def read_jpeg_set(path: Path) -> Splits:
    """Read images (N, H, W, 3) uint8 RGB and labels (N,) for "train" and "test".

    They are shuffled in a fixed order, because the file may group them by class, and the first images of a set are
    used as a sample of it.

    Raises:
        ArchiveError: the file is missing or does not have this form; the message names the array or the image.
    """
    splits = {}
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):  # np.load accepts other files, and suggests trusting a pickle
                raise ArchiveError(f"{path} cannot be read: not an .npz file, or truncated")
        with np.load(path) as file:
            for split in ("train", "test"):
                missing = [f"{split}_{kind}" for kind in KINDS if f"{split}_{kind}" not in file]
                if missing:
                    raise ArchiveError(f"{path} lacks {', '.join(missing)}: it is not a set of JPEG images.")
                splits[split] = _decoded(path, split, *(file[f"{split}_{kind}"] for kind in KINDS))
    except ArchiveError:  # also a ValueError, but its message is clear already
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from error
    return splits


def _decoded(
    path: Path, split: str, content: np.ndarray, offsets: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    for array, kind in zip((content, offsets, labels), KINDS, strict=True):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ArchiveError(
                f"{path}: {split}_{kind} must be a 1-D integer array, not {array.dtype} {array.shape}."
            )
    count = len(labels)
    rising = (
        len(offsets) > 1
        and offsets[0] == 0
        and offsets[-1] == len(content)
        and (offsets[1:] > offsets[:-1]).all()
    )
    if content.dtype != np.uint8 or not rising or len(offsets) != count + 1:
        raise ArchiveError(
            f"{path}: {split}_offsets must rise from 0 to {len(content)} bytes, one more value than the {count} labels."
        )
    images = None
    order = np.random.default_rng(ORDER_SEED).permutation(count)
    for place, source in enumerate(order):
        image = cv2.imdecode(content[offsets[source] : offsets[source + 1]], cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise ArchiveError(f"{path}: image {source} of {split} is not a JPEG file.")
        if images is None:
            images = np.empty((count, *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            raise ArchiveError(
                f"{path}: image {source} of {split} is {image.shape[:2]}, others are {images.shape[1:3]}."
            )
        images[place] = image
    return images, labels[order]
