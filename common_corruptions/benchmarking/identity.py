"""What tells whether a net is that of an earlier run: a digest of what decides its answers."""

import hashlib
import re
from typing import Any

import torch
from torch import Tensor, nn


def of_net(net: Any, name: str | None = None) -> str:
    """A digest of a Module's structure and weights and of the name that was given for the net; "" for others.

    What a function computes cannot be known from it: without a name it is never taken for an earlier one. Nor can that
    of a Module whose state holds other things than tensors.
    """
    digest = hashlib.sha256(b"" if name is None else f"named {name}".encode())
    values = dict(net.state_dict()) | dict(net.named_buffers()) if isinstance(net, nn.Module) else {}
    if not values or not all(isinstance(value, Tensor) for value in values.values()):
        return "" if name is None else digest.hexdigest()
    described = re.sub(r" at 0x[0-9a-f]+", "", str(net))  # of a function that a module holds
    digest.update(f"{type(net).__module__}.{type(net).__qualname__} {described}".encode())
    for key, value in values.items():
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(data.data)
    return digest.hexdigest()
