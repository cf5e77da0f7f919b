"""What tells whether a net and its images are those of an earlier run: digests of what decides the answers."""

import hashlib
import os
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common_corruptions.record import digest_of_images
from common_corruptions.staging import Images

SAMPLED = 8  # images of a set that are looked at themselves


def of_net(net: Any, name: str | None = None) -> str:
    """A digest of a Module's structure and weights, or of the name that was given for the net; "" for others.

    What a function computes cannot be known from it: without a name it is never taken for an earlier one.
    """
    if name is not None:
        return hashlib.sha256(f"named {name}".encode()).hexdigest()
    if not isinstance(net, nn.Module):
        return ""
    described = re.sub(r" at 0x[0-9a-f]+", "", str(net))  # of a function that a module holds
    digest = hashlib.sha256(f"{type(net).__module__}.{type(net).__qualname__} {described}".encode())
    values = dict(net.state_dict()) | dict(net.named_buffers())
    for key, value in values.items():
        if not isinstance(value, Tensor):
            return ""
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(data.data)
    return digest.hexdigest()


def of_images(images: Images) -> str:
    """Of files their names, sizes and times of change, of what is made what decides it, of an array its bytes."""
    if hasattr(images, "identity"):
        return str(images.identity())
    array = np.asanyarray(images[:])
    described = f"{array.dtype} {array.shape}"
    filename = getattr(array, "filename", None)
    if filename is not None:
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
