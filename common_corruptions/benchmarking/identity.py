"""What tells whether a net is that of an earlier run: a digest of what decides its answers."""

import hashlib
import re
from typing import Any

import torch
from torch import Tensor, nn


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
