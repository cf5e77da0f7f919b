"""The push-pull response as functions of a tensor and a push kernel (paper, section 3.1)."""

import math
import numbers
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pushpull import fast
from pushpull.cache import KernelCache
from pushpull.execution import ordinary
from pushpull.geometry import Geometry, Sides, check_sides, numeric_padding, place, pull_sizes
from pushpull.upsampling import upsample

Rectifier = str | Callable[[Tensor], Tensor]
NUMBERS = (numbers.Real, torch.SymFloat, torch.SymInt)  # the last two where torch.export reads a number

# They write over the responses, which nothing else holds: a new tensor of that size costs more than the rectification.
RECTIFIERS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "tanh": torch.tanh_}

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def pull_kernel(weight: Tensor, scale: float = 2.0) -> Tensor:
    """The pull kernel: the push kernel upsampled and inverted (`-up(k)` of the paper's equation, section 3.1).

    Args:
        weight: push kernel, (out_channels, in_channels / groups, kH, kW); one or three sides do as well.
        scale: upsampling factor h of the paper; each side becomes `pull_size(side, scale)`.

    Returns:
        (out_channels, in_channels / groups, kH', kW'), bilinear with the corners aligned; differentiable.

    Raises:
        ValueError: a weight with no or more than three sides, a scale that is not a positive finite number.
    """
    if not 3 <= weight.ndim <= 5:
        raise ValueError(
            "a push kernel has the shape (out_channels, in_channels / groups, one to three sides), "
            f"got {tuple(weight.shape)}"
        )
    return -upsample(weight, pull_sizes(tuple(weight.shape[2:]), scale))


def push_pull_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    *,
    alpha: float | Tensor = 1.0,
    scale: float = 2.0,
    dual_output: bool = False,
    rectifier: Rectifier = "relu",
) -> Tensor:
    """Push-pull response `relu(x * k + b) - alpha relu(x * -up(k) - b)` (paper, section 3.1).

    The arguments up to `groups` are those of `torch.nn.functional.conv2d`; beyond the image are zeros.

    Args:
        input: (N, in_channels, H, W) or (in_channels, H, W).
        weight: push kernel (out_channels, in_channels / groups, kH, kW), both sides odd.
        bias: (out_channels,) or None; added to the push response and subtracted from the pull response.
        alpha: inhibition strength, a number >= 0 or a tensor of one per output channel; the values of a tensor are
            taken as they are.
        scale: upsampling factor of the pull kernel, see `pull_kernel`.
        dual_output: return the rectified push and pull responses side by side, without alpha.
        rectifier: what is applied to both responses: "relu", "tanh" (section 3.1 names it), or a function of a
            tensor. With an odd function such as tanh nothing is cut off, and the pull response adds to the push
            response of a pattern that both kernels like.

    Returns:
        (N, out_channels, H', W') with the shape of the push convolution; 2 * out_channels if `dual_output`.

    Raises:
        ValueError: an even kernel, a scale that is not positive, a negative alpha, an alpha tensor of another length,
            an unknown name of a rectifier, another number of strides, paddings or dilations than 1 or 2.
        TypeError: an alpha that is neither a number nor a tensor, a stride, padding or dilation that is no integer.
    """
    if weight.ndim != 4:
        raise ValueError(
            f"weight must be (out_channels, in_channels / groups, kH, kW), got {tuple(weight.shape)}"
        )
    strides, dilations = check_sides("stride", stride, 2), check_sides("dilation", dilation, 2)
    return push_pull_conv(
        input,
        weight,
        bias,
        strides,
        numeric_padding(padding, tuple(weight.shape[2:]), strides, dilations),
        dilations,
        groups,
        alpha=alpha,
        scale=scale,
        dual_output=dual_output,
        rectifier=rectifier,
    )


def push_pull_conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sides,
    padding: Sides,
    dilation: Sides,
    groups: int,
    *,
    alpha: float | Tensor,
    scale: float,
    dual_output: bool,
    rectifier: Rectifier,
    cache: KernelCache | None = None,
) -> Tensor:
    """`push_pull_conv2d` for one, two or three sides, as many as `weight` has; what a `cache` holds is used again."""
    check_alpha(alpha, len(weight))
    function = rectifier_function(rectifier)
    geometry = place(tuple(weight.shape[2:]), stride, padding, dilation, scale)
    if (
        not dual_output
        and function is torch.relu_
        and fast.suits(input, weight, bias, alpha, groups, geometry)
    ):
        kernel = _derived(fast.separable_kernel, weight, geometry, cache)
        return fast.push_pull(input, weight, kernel, bias, alpha, geometry)
    kernel = _derived(_full_kernel, weight, geometry, cache)
    return _plain(input, weight, kernel, bias, groups, geometry, alpha, function, dual_output)


def _full_kernel(weight: Tensor, geometry: Geometry) -> Tensor:
    return -upsample(weight, geometry.pull_size)


def _derived(
    make: Callable[[Tensor, Geometry], Tensor], weight: Tensor, geometry: Geometry, cache: KernelCache | None
) -> Tensor:
    if cache is None or not ordinary(weight):
        return make(weight, geometry)
    return cache.get(make, weight, geometry)


def _plain(
    input: Tensor,
    weight: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    groups: int,
    geometry: Geometry,
    alpha: float | Tensor,
    rectifier: Callable[[Tensor], Tensor],
    dual_output: bool,
) -> Tensor:
    """Two convolutions, two rectifications and a subtraction: right for every device, shape and transformation."""
    convolution = _CONVOLUTIONS[weight.ndim - 2]
    pull_input, pull_padding = input, geometry.pull_padding
    if min(pull_padding) < 0:  # scale < 1: the small pull kernel reaches less far than the push kernel
        crops = [
            min(p, 0) for p in reversed(pull_padding) for _ in range(2)
        ]  # F.pad begins with the last side
        pull_input = F.pad(input, crops)
        pull_padding = tuple(max(p, 0) for p in pull_padding)
    stride, dilation = geometry.stride, geometry.dilation
    pull_bias = None if bias is None else -bias
    push = rectifier(convolution(input, weight, bias, stride, geometry.padding, dilation, groups))
    pull = rectifier(convolution(pull_input, kernel, pull_bias, stride, pull_padding, dilation, groups))
    if dual_output:
        return torch.cat((push, pull), dim=1 - weight.ndim)
    if not isinstance(alpha, Tensor):
        return torch.sub(push, pull, alpha=alpha)
    alpha = alpha.to(pull.dtype)  # autocast lets the responses, and not alpha, be of another type
    return push - (alpha.view(-1, *[1] * (weight.ndim - 2)) if alpha.ndim > 0 else alpha) * pull


def check_alpha(alpha: float | Tensor, out_channels: int) -> None:
    """Raise ValueError unless `alpha` is a finite number >= 0, or a tensor of one or `out_channels` values.

    TypeError for what is neither. The values of a tensor are not looked at: a GPU would have to be waited for.
    """
    if isinstance(alpha, Tensor):
        if alpha.ndim > 0 and alpha.shape != (out_channels,):
            raise ValueError(
                f"alpha must be a number or a tensor of shape ({out_channels},), got {tuple(alpha.shape)}"
            )
    elif not isinstance(alpha, NUMBERS):
        raise TypeError(f"alpha must be a number or a tensor of shape ({out_channels},), got {alpha!r}")
    elif not 0 <= alpha < math.inf:  # false for nan; torch.compile cannot follow math.isfinite
        raise ValueError(f"alpha must be a finite number >= 0, got {alpha}")


def rectifier_function(rectifier: Rectifier) -> Callable[[Tensor], Tensor]:
    """The function a rectifier's name stands for, or the function itself; ValueError for another name."""
    if callable(rectifier):
        return rectifier
    if rectifier not in RECTIFIERS:
        raise ValueError(f"rectifier must be a function or one of {', '.join(RECTIFIERS)}, got {rectifier!r}")
    return RECTIFIERS[rectifier]
