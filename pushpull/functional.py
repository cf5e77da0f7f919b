"""The push-pull response as functions of a tensor and a push kernel (paper, section 3.1)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def pull_size(size: int, scale: float) -> int:
    """Side of the pull kernel for a push kernel of side `size`: `floor(size * scale)`, made odd by adding one.

    A scale of 1 keeps the size. Raises ValueError for a scale that is not a positive finite number.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive number, got {scale}")
    if scale == 1:
        return size
    size = math.floor(size * scale)
    return size if size % 2 else size + 1


def check_odd(kernel_size: tuple[int, int]) -> None:
    """Raise ValueError for an even kernel: its pull response cannot be given the shape of its push response."""
    if any(size % 2 == 0 for size in kernel_size):
        raise ValueError(f"a push-pull kernel must have odd sides, got {kernel_size[0]} x {kernel_size[1]}")


def pull_kernel(weight: Tensor, scale: float = 2.0) -> Tensor:
    """The pull kernel: the push kernel upsampled and inverted (`-up(k)` of the paper's equation, section 3.1).

    Args:
        weight: push kernel, (out_channels, in_channels / groups, kH, kW).
        scale: upsampling factor h of the paper; each side becomes `pull_size(side, scale)`.

    Returns:
        (out_channels, in_channels / groups, kH', kW'), bilinear with the corners aligned; differentiable.
    """
    size = tuple(pull_size(side, scale) for side in weight.shape[2:])
    if size == tuple(weight.shape[2:]):
        return -weight
    return -F.interpolate(weight, size=size, mode="bilinear", align_corners=True)


def push_pull_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    alpha: float | Tensor = 1.0,
    scale: float = 2.0,
    dual_output: bool = False,
) -> Tensor:
    """Push-pull response `relu(x * k + b) - alpha relu(x * -up(k) - b)` (paper, section 3.1).

    The arguments up to `groups` are those of `torch.nn.functional.conv2d`.

    Args:
        input: (N, in_channels, H, W) or (in_channels, H, W).
        weight: push kernel (out_channels, in_channels / groups, kH, kW), both sides odd.
        bias: (out_channels,) or None; added to the push response and subtracted from the pull response.
        alpha: inhibition strength, a number >= 0 or a tensor of one per output channel.
        scale: upsampling factor of the pull kernel, see `pull_kernel`.
        dual_output: return the rectified push and pull responses side by side, without alpha.

    Returns:
        (N, out_channels, H', W') with the shape of the push convolution; 2 * out_channels if `dual_output`.

    Raises:
        ValueError: an even kernel, a scale that is not positive, a negative alpha, an alpha tensor of another length.
    """
    check_odd(tuple(weight.shape[2:]))
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    kernel = pull_kernel(weight, scale)
    # Both kernels are centred on the same pixel. Without the dilation here the two responses of a dilated layer
    # would differ in shape.
    pull_padding = tuple(
        p + d * (large // 2 - small // 2)
        for p, d, large, small in zip(padding, dilation, kernel.shape[2:], weight.shape[2:], strict=True)
    )
    pull_input = input
    if min(pull_padding) < 0:  # scale < 1: the small pull kernel reaches less far than the push kernel
        crop_y, crop_x = (min(p, 0) for p in pull_padding)
        pull_input = F.pad(input, (crop_x, crop_x, crop_y, crop_y))
        pull_padding = tuple(max(p, 0) for p in pull_padding)

    push = F.relu(F.conv2d(input, weight, bias, stride, padding, dilation, groups))
    pull_bias = None if bias is None else -bias
    pull = F.relu(F.conv2d(pull_input, kernel, pull_bias, stride, pull_padding, dilation, groups))
    if dual_output:
        return torch.cat((push, pull), dim=-3)
    return push - _per_channel(alpha, weight.shape[0]) * pull


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def check_alpha(alpha: float | Tensor, out_channels: int) -> None:
    """Raise ValueError unless `alpha` is a finite number >= 0, or a tensor of `out_channels` values."""
    if isinstance(alpha, Tensor) and alpha.ndim > 0:
        if alpha.shape != (out_channels,):
            raise ValueError(
                f"alpha must be a number or a tensor of shape ({out_channels},), got {tuple(alpha.shape)}"
            )
    elif not isinstance(alpha, Tensor) and not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"alpha must be a finite number >= 0, got {alpha}")


def _per_channel(alpha: float | Tensor, out_channels: int) -> float | Tensor:
    check_alpha(alpha, out_channels)
    return alpha.view(-1, 1, 1) if isinstance(alpha, Tensor) and alpha.ndim > 0 else alpha
