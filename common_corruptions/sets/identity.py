"""Recognise the images of an earlier run by digests of what determines them."""

import hashlib
import os

import numpy as np

from common_corruptions.record import digest_of_images
from common_corruptions.sets.staging import Images

SAMPLED = 8  # images of a set whose bytes are compared


def of_images(images: Images) -> str:
    """The identity of images: names, sizes and modification times of files, recipes of made images, bytes of arrays."""
    if hasattr(images, "identity"):
        return str(images.identity())
    array = np.asanyarray(images[:])
    described = f"{array.dtype} {array.shape}"
    filename = getattr(array, "filename", None)
    if filename is not None and getattr(array, "mode", "") != "c":  # copy-on-write: changes stay in memory
        status = os.stat(filename)
        return f"{described} {os.path.basename(filename)} {status.st_size} {status.st_mtime_ns}"
    return digest_of_images(described, array)


def of_sample(images: Images) -> str:
    """A digest of the shape of images (N, ...) and of some of them: the first, the last and others evenly in between.

    The images are read or made now. So it detects changes that names, times and recipes miss, such as after `cp -p`, or
    of a function that your own corruption calls.
    """
    digest = hashlib.sha256(f"{images.dtype} {tuple(images.shape)}".encode())
    count = len(images)
    for index in np.unique(np.linspace(0, count - 1, SAMPLED).astype(int)).tolist():
        digest.update(np.ascontiguousarray(images[index : index + 1]).data)
    return digest.hexdigest()
