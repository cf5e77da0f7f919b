"""Low-pass filtering before subsampling (Zhang, *Making convolutional networks shift-invariant again*, ICML 2019)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LowPass(nn.Module):
    """Binomial blur of each channel, followed by subsampling with `stride`; borders are padded by reflection.

    (N, channels, H, W) to (N, channels, ceil(H / stride), ceil(W / stride)). H and W must exceed `size // 2`.

    Args:
        channels: channels of the input.
        size: side of the filter, 1 to 7; 1 subsamples without a filter, 3 is [1, 2, 1] / 4 in each direction.
        stride: subsampling factor.

    Raises:
        ValueError: a size outside 1 to 7.
    """

    kernel: Tensor

    def __init__(self, channels: int, size: int, stride: int = 2) -> None:
        super().__init__()
        if not isinstance(size, int) or not 1 <= size <= 7:
            raise ValueError(f"the low-pass filter must have a side of 1 to 7 pixels, got {size!r}")
        self.size = size
        self.stride = stride
        row = torch.tensor([math.comb(size - 1, k) for k in range(size)], dtype=torch.get_default_dtype())
        kernel = torch.outer(row, row) / row.sum() ** 2
        # A constant, which moves with the net but is not part of its state_dict.
        self.register_buffer("kernel", kernel.repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        if self.size == 1:
            return input[..., :: self.stride, :: self.stride]
        before, after = (self.size - 1) // 2, self.size // 2
        padded = _reflected(_reflected(input, before, after, 2), before, after, 3)
        return F.conv2d(padded, self.kernel, stride=self.stride, groups=input.shape[1])

    def extra_repr(self) -> str:
        return f"{self.kernel.shape[0]}, size={self.size}, stride={self.stride}"


def _reflected(input: Tensor, before: int, after: int, side: int) -> Tensor:
    """Pad one side by reflection, like F.pad, whose gradient on a GPU varies between runs."""
    length = input.shape[side]
    if length <= max(before, after):
        raise ValueError(f"a low-pass filter reaching {after} pixels needs more than {length} input pixels")
    head = input.narrow(side, 1, before).flip(side)
    tail = input.narrow(side, length - 1 - after, after).flip(side)
    return torch.cat((head, input, tail), side)
