"""The push-pull response as a function of an input and a push kernel (paper, section 3.1, and the 2024 variant)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pushpull import fast
from pushpull.arguments import SCALE, Rectifier, check_alpha, check_pull, rectifier_function
from pushpull.cache import KernelCache
from pushpull.execution import ordinary
from pushpull.geometry import Geometry, Sides, check_sides, numeric_padding, place, pull_sizes
from pushpull.upsampling import upsample

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def pull_kernel(weight: Tensor, scale: float = SCALE, *, pull: str = "upsampled") -> Tensor:
    """Return the pull kernel: the push kernel upsampled and negated (`-up(k)` in the paper's equation, section 3.1).

    Args:
        weight: push kernel, (out_channels, in_channels / groups, kH, kW); one or three spatial sides also work.
        scale: upsampling factor h of the paper; each side becomes `pull_size(side, scale)`.
        pull: "complementary" gives the 2024 variant `-k + (max k + min k)`, which has the size of the push kernel;
            max and min are over all values of each kernel.

    Returns:
        (out_channels, in_channels / groups, kH', kW'), upsampled bilinearly with aligned corners; differentiable.

    Raises:
        ValueError: a weight with no or more than three spatial sides, a scale that is not a positive finite number, an
            unknown pull, a scale with the complementary pull.
        TypeError: a scale that is not a number.
    """
    if not 3 <= weight.ndim <= 5:
        raise ValueError(
            "a push kernel must be (out_channels, in_channels / groups, one to three sides), "
            f"got {tuple(weight.shape)}"
        )
    check_pull(pull, scale, 0, False, False)
    if pull == "complementary":
        return _complement(weight)
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
    scale: float = SCALE,
    dual_output: bool = False,
    rectifier: Rectifier = "relu",
    pull: str = "upsampled",
    average_size: int = 0,
) -> Tensor:
    """Push-pull response `relu(x * k + b) - alpha relu(x * -up(k) - b)` (paper, section 3.1).

    With `pull="complementary"`, the 2024 variant: `relu(x * k) - alpha relu(mean(x * (max k + min k - k))) + b`.

    The arguments up to `groups` are those of `torch.nn.functional.conv2d`; padding is with zeros.

    Args:
        input: (N, in_channels, H, W) or (in_channels, H, W).
        weight: push kernel (out_channels, in_channels / groups, kH, kW), both sides odd.
        bias: (out_channels,) or None; added to the push response and subtracted from the pull response.
        alpha: inhibition strength, a number >= 0 or a tensor with one value per output channel; the values of a tensor
            are not checked.
        scale: upsampling factor of the pull kernel, see `pull_kernel`.
        dual_output: return the rectified push and pull responses concatenated along the channels, without alpha.
        rectifier: applied to both responses: "relu", "tanh" (mentioned in section 3.1), or a function of a tensor. An
            odd function such as tanh does not cut off negative values, so a pattern that excites the push response
            makes the pull response negative, which adds to the push response.
        pull: "upsampled", or "complementary" for the variant of Bennabhaktula et al. (ICPR 2024), see `pull_kernel`;
            the bias is then added after the subtraction.
        average_size: side of the square window over which the complementary pull response is averaged before it is
            rectified, 0 (no averaging) or odd; positions outside the response do not count.

    Returns:
        (N, out_channels, H', W'), the shape of the push convolution; 2 * out_channels channels if `dual_output`.

    Raises:
        ValueError: an even kernel, a stride or dilation below 1, a negative padding or alpha, a scale that is not
            positive, an alpha tensor of the wrong length, an unknown rectifier or pull, not one or two strides,
            paddings or dilations; with the complementary pull, a scale or a bias with `dual_output`; with the
            upsampled pull, an average.
        TypeError: an alpha that is neither a number nor a tensor, a scale that is not a number, a stride, padding,
            dilation or average size that is not an integer.
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
        pull=pull,
        average_size=average_size,
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
    pull: str = "upsampled",
    average_size: int = 0,
    cache: KernelCache | None = None,
) -> Tensor:
    """`push_pull_conv2d` for one, two or three spatial sides, as `weight` has; reuses the kernel held by `cache`."""
    check_alpha(alpha, len(weight))
    check_pull(pull, scale, average_size, dual_output, bias is not None)
    function = rectifier_function(rectifier)
    upsampled = pull == "upsampled"
    geometry = place(tuple(weight.shape[2:]), stride, padding, dilation, scale if upsampled else 1)
    if (
        upsampled
        and not dual_output
        and function is torch.relu_
        and fast.suits(input, weight, bias, alpha, groups, geometry)
    ):
        kernel = _derived(fast.separable_kernel, weight, geometry, cache)
        return fast.push_pull(input, weight, kernel, bias, alpha, geometry)
    kernel = _derived(_full_kernel if upsampled else _complement, weight, geometry, cache)
    inside = bias if upsampled else None
    responses = _plain(input, weight, kernel, inside, groups, geometry, average_size, function)
    if dual_output:
        return torch.cat(responses, dim=1 - weight.ndim)
    output = _difference(*responses, alpha, weight)
    return output if upsampled or bias is None else output + _as_channels(bias.to(output.dtype), weight)


def _full_kernel(weight: Tensor, geometry: Geometry) -> Tensor:
    return -upsample(weight, geometry.pull_size)


def _complement(weight: Tensor, geometry: Geometry | None = None) -> Tensor:
    """`-k + (max k + min k)`, with the extremes over all values and input channels of each kernel; same size as `k`."""
    values = weight.flatten(1)
    extremes = values.amax(1) + values.amin(1)
    return extremes.view(-1, *[1] * (weight.ndim - 1)) - weight


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
    average_size: int,
    rectifier: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Both rectified responses by two convolutions; works for every device, shape and transformation."""
    convolution = _CONVOLUTIONS[weight.ndim - 2]
    pull_input, pull_padding = input, geometry.pull_padding
    if min(pull_padding) < 0:  # scale < 1: the pull kernel is smaller than the push kernel
        crops = [
            min(p, 0) for p in reversed(pull_padding) for _ in range(2)
        ]  # F.pad starts with the last side
        pull_input = F.pad(input, crops)
        pull_padding = tuple(max(p, 0) for p in pull_padding)
    stride, dilation = geometry.stride, geometry.dilation
    pull_bias = None if bias is None else -bias
    push = rectifier(convolution(input, weight, bias, stride, geometry.padding, dilation, groups))
    pull = convolution(pull_input, kernel, pull_bias, stride, pull_padding, dilation, groups)
    if average_size > 1:
        average = _AVERAGES[weight.ndim - 2]
        pull = average(pull, average_size, 1, average_size // 2, count_include_pad=False)
    return push, rectifier(pull)


def _difference(push: Tensor, pull: Tensor, alpha: float | Tensor, weight: Tensor) -> Tensor:
    if not isinstance(alpha, Tensor):
        return torch.sub(push, pull, alpha=alpha)
    alpha = alpha.to(pull.dtype)  # under autocast the responses have another dtype than alpha
    return push - (_as_channels(alpha, weight) if alpha.ndim > 0 else alpha) * pull


def _as_channels(values: Tensor, weight: Tensor) -> Tensor:
    """Reshape one value per output channel to broadcast over the sides of the response."""
    return values.view(-1, *[1] * (weight.ndim - 2))
