"""Recognise a net of an earlier run by a digest of what determines its predictions."""

import hashlib
import re
from typing import Any

import torch
from torch import Tensor, nn


def of_net(net: Any, name: str | None = None) -> str:
    """Digest of a Module's structure and weights and of the given name; for other nets of the name, or "" without one.

    What a function computes cannot be identified, nor what a Module does whose state holds anything but tensors:
    without a name, such a net never counts as that of an earlier run.
    """
    digest = hashlib.sha256(b"" if name is None else f"named {name}".encode())
    values = dict(net.state_dict()) | dict(net.named_buffers()) if isinstance(net, nn.Module) else {}
    if not values or not all(isinstance(value, Tensor) for value in values.values()):
        return "" if name is None else digest.hexdigest()
    described = re.sub(r" at 0x[0-9a-f]+", "", str(net))  # the address of a function that a module holds
    digest.update(f"{type(net).__module__}.{type(net).__qualname__} {described}".encode())
    for key, value in values.items():
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(data.data)
    return digest.hexdigest()
