"""The push-pull response as functions of a tensor and a push kernel (paper, section 3.1; and the form of 2024)."""

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
    """The pull kernel: the push kernel upsampled and inverted (`-up(k)` of the paper's equation, section 3.1).

    Args:
        weight: push kernel, (out_channels, in_channels / groups, kH, kW); one or three sides do as well.
        scale: upsampling factor h of the paper; each side becomes `pull_size(side, scale)`.
        pull: "complementary" gives that of 2024, `-k + (max k + min k)` over all values of each kernel, of its size.

    Returns:
        (out_channels, in_channels / groups, kH', kW'), bilinear with the corners aligned; differentiable.

    Raises:
        ValueError: a weight with no or more than three sides, a scale that is not a positive finite number, an unknown
            pull, a scale with the complementary one.
        TypeError: a scale that is no number.
    """
    if not 3 <= weight.ndim <= 5:
        raise ValueError(
            "a push kernel has the shape (out_channels, in_channels / groups, one to three sides), "
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

    With `pull="complementary"`, that of 2024: `relu(x * k) - alpha relu(mean(x * (max k + min k - k))) + b`.

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
        pull: "upsampled", or "complementary" for the form of Bennabhaktula et al. (ICPR 2024), see `pull_kernel`: the
            bias is then added after the subtraction.
        average_size: side of the square of neighbours over which the complementary pull response is averaged before it
            is rectified, 0 (none) or odd; neighbours beyond its border do not count.

    Returns:
        (N, out_channels, H', W') with the shape of the push convolution; 2 * out_channels if `dual_output`.

    Raises:
        ValueError: an even kernel, a stride or dilation below 1, a negative padding or alpha, a scale that is not
            positive, an alpha tensor of another length, an unknown name of a rectifier or of a pull, another number of
            strides, paddings or dilations than 1 or 2, a scale or a bias with `dual_output` where the pull is
            complementary, an average where it is upsampled.
        TypeError: an alpha that is neither a number nor a tensor, a scale that is no number, a stride, padding,
            dilation or size of the average that is no integer.
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
    """`push_pull_conv2d` for one, two or three sides, as many as `weight` has; what a `cache` holds is used again."""
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
    """`-k + (max k + min k)`, the extremes over all values of a kernel, in every input channel; of the push size."""
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
    """Both rectified responses by two convolutions: right for every device, shape and transformation."""
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
    pull = convolution(pull_input, kernel, pull_bias, stride, pull_padding, dilation, groups)
    if average_size > 1:
        average = _AVERAGES[weight.ndim - 2]
        pull = average(pull, average_size, 1, average_size // 2, count_include_pad=False)
    return push, rectifier(pull)


def _difference(push: Tensor, pull: Tensor, alpha: float | Tensor, weight: Tensor) -> Tensor:
    if not isinstance(alpha, Tensor):
        return torch.sub(push, pull, alpha=alpha)
    alpha = alpha.to(pull.dtype)  # autocast lets the responses, and not alpha, be of another type
    return push - (_as_channels(alpha, weight) if alpha.ndim > 0 else alpha) * pull


def _as_channels(values: Tensor, weight: Tensor) -> Tensor:
    """One value for each output channel, shaped to be spread over the sides of the response."""
    return values.view(-1, *[1] * (weight.ndim - 2))
