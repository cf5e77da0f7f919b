"""What tells whether images are those of an earlier run: digests of what decides them."""

import hashlib
import os

import numpy as np

from common_corruptions.record import digest_of_images
from common_corruptions.sets.staging import Images

SAMPLED = 8  # images of a set that are looked at themselves


def of_images(images: Images) -> str:
    """Of files their names, sizes and times of change, of what is made what decides it, of an array its bytes."""
    if hasattr(images, "identity"):
        return str(images.identity())
    array = np.asanyarray(images[:])
    described = f"{array.dtype} {array.shape}"
    filename = getattr(array, "filename", None)
    if filename is not None and getattr(array, "mode", "") != "c":  # whose changes stay in memory
        status = os.stat(filename)
        return f"{described} {os.path.basename(filename)} {status.st_size} {status.st_mtime_ns}"
    return digest_of_images(described, array)


def of_sample(images: Images) -> str:
    """A digest of the shape of images (N, ...) and of some of them, the first, the last and others evenly between.

    As they are read or made now: of other images it is another where names, times and recipes tell nothing, such as
    after `cp -p`, or where a function changed that a corruption of one's own calls.
    """
    digest = hashlib.sha256(f"{images.dtype} {tuple(images.shape)}".encode())
    count = len(images)
    for index in np.unique(np.linspace(0, count - 1, SAMPLED).astype(int)).tolist():
        digest.update(np.ascontiguousarray(images[index : index + 1]).data)
    return digest.hexdigest()
