"""Linear upsampling of kernels with aligned corners, as a product with a constant matrix.

`F.interpolate` computes the same. A product is one operation forward and one backward, has a deterministic gradient on
every device, and is faster for the few values of a kernel.
"""

import contextlib
import functools
import math

import torch
from torch import Tensor

from pushpull.execution import ordinary, without_modes
from pushpull.geometry import Sides

# Queried once: torch.compile of torch 2.11 cannot trace this call.
AUTOCAST = frozenset(torch._C._autocast_supported_devices())


def upsample(kernels: Tensor, size: Sides) -> Tensor:
    """Kernels (O, C, *sides) upsampled to (O, C, *size), linear in each of their one to three sides; differentiable.

    The product has the full precision of its dtype, also under autocast and TF32.
    """
    sides = tuple(kernels.shape[2:])
    if sides == size:
        return kernels
    device, dtype, keep = kernels.device, kernels.dtype, ordinary(kernels)
    if device.type == "cuda":
        if dtype == torch.float32:
            dtype = torch.float64  # unaffected by TF32, whatever is set while the gradient is computed
        keep = keep and not torch.cuda.is_current_stream_capturing()  # captured tensors hold no values yet
    make = _kept_matrix if keep else _matrix
    with _without_autocast(device.type):
        flat = kernels.flatten(2).to(dtype) @ make(sides, size, dtype, device)
    upsampled: Tensor = flat.to(kernels.dtype).unflatten(2, size)
    return upsampled


def hats(side: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weight (side, size) of each of `side` knots in each of `size` values between the first and the last knot."""
    numerators, denominator = _numerators(side, size, device)
    return numerators.to(dtype) / denominator


def _matrix(sides: Sides, size: Sides, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weight (values of a kernel, values of the upsampled kernel) of each old value in each new value."""
    numerators, denominators = zip(
        *(_numerators(old, new, device) for old, new in zip(sides, size, strict=True)), strict=True
    )
    matrix: Tensor = functools.reduce(torch.kron, numerators).to(dtype) / math.prod(denominators)
    return matrix


@functools.lru_cache(maxsize=64)
def _kept_matrix(sides: Sides, size: Sides, dtype: torch.dtype, device: torch.device) -> Tensor:
    with without_modes():
        return _matrix(sides, size, dtype, device)


def _numerators(side: int, size: int, device: torch.device) -> tuple[Tensor, int]:
    """The hat functions as integers over a common denominator, so that only the final division rounds."""
    denominator = max(size - 1, 1)
    knots = torch.arange(side, device=device)[:, None] * denominator
    values = torch.arange(size, device=device) * (side - 1)
    return (denominator - (values - knots).abs()).clamp(min=0), denominator


def _without_autocast(device_type: str) -> contextlib.AbstractContextManager[object]:
    if device_type in AUTOCAST and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
