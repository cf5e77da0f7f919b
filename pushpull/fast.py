"""The push-pull response on a CPU with fewer operations and fewer passes over memory than two convolutions need.

Four things make it fast; `docs/layer.md` shows what each is worth.

Separable pull. Row by row, the pull kernel is a combination of the kW rows of its hat functions, so its response is a
(kH', 1) convolution of kW copies of the input, each filtered by one hat of kW' taps: kH' kW products per input
channel in place of kH' kW', after a depthwise filter.

Rectified as they are written. oneDNN's convolutions do that without a pass of its own; torch has an operator for it,
which torch.compile uses, but no function.

Blocks of images. All steps are done for a few images at a time, so that what one step writes is still in the cache
when the next reads it, and what is allocated stays small.

Channels last inside. The convolutions read and write that layout as it is; a result in the other layout is
rearranged once, not once a convolution.

The gradients are those of the plain path, written out; a second derivative goes through the same formula as recorded
operations.
"""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from pushpull.geometry import Geometry, Sides, output_layout, output_size
from pushpull.layout import channels_last

# input, push kernel, separable pull kernel, bias, alpha
Arguments = tuple[Tensor, Tensor, Tensor, Tensor | None, float | Tensor]

BLOCK_BYTES = 2**21  # of one response, for each thread: more leaves the caches, less is too many calls
SMALLEST = 2**16  # values of the output; below, the calls cost more than the arithmetic

_backward = torch.ops.aten.convolution_backward
_rectifier_backward = torch.ops.aten.threshold_backward


def plain_tensors(*tensors: Tensor | None) -> bool:
    """Whether these are ordinary tensors met in ordinary execution: nothing traces, compiles or transforms the call."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors if tensor is not None)
    )


def suits(
    input: Tensor, weight: Tensor, bias: Tensor | None, alpha: float | Tensor, groups: int, geometry: Geometry
) -> bool:
    """Whether this path takes the call and is the faster one, as far as `benchmarks/layer.py` has measured it."""
    tensors = [t for t in (input, weight, bias, alpha) if isinstance(t, Tensor)]
    if not plain_tensors(*tensors):
        return False
    if not all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors):
        return False
    if input.ndim != 4 or weight.ndim != 4:
        return False
    if input.shape[1] != weight.shape[1] or groups != 1:
        return False
    if geometry.pull_size[1] <= weight.shape[3] or min(geometry.pull_padding) < 0:
        return False
    values = math.prod(_output_shape(input, weight, geometry))
    if values < SMALLEST or values == 0:
        return False
    mkldnn = torch.backends.mkldnn
    return mkldnn.is_available() and bool(mkldnn.enabled) and not torch.is_autocast_enabled("cpu")


def separable_kernel(weight: Tensor, geometry: Geometry) -> Tensor:
    """What is left of the pull kernel after the horizontal hats: (out_channels, kW * in_channels, kH', 1).

    Its input channels are ordered as `_filtered` gives them.
    """
    out_channels, channels, _, width = weight.shape
    size = (geometry.pull_size[0], width)
    upsampled = -F.interpolate(weight, size=size, mode="bilinear", align_corners=True)
    kernel = upsampled.permute(0, 3, 1, 2).reshape(out_channels, width * channels, size[0], 1)
    return kernel.contiguous()  # of one channel it is a view, with strides that some gradients refuse


def push_pull(
    input: Tensor,
    weight: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    alpha: float | Tensor,
    geometry: Geometry,
) -> Tensor:
    """Push-pull response of (N, C, H, W); `kernel` is `separable_kernel(weight)`, the rest as in push_pull_conv2d."""
    tensors = [t for t in (input, weight, kernel, bias, alpha) if isinstance(t, Tensor)]
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        output: Tensor = _PushPull.apply(input, weight, kernel, bias, alpha, geometry)
        return output
    return _forward(input, weight, kernel, bias, alpha, geometry, None)


def _forward(
    input: Tensor,
    weight: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    alpha: float | Tensor,
    geometry: Geometry,
    kept: list[Tensor] | None,
) -> Tensor:
    """The response.

    Pull response, filtered images and push response of every block are appended to `kept`, if it is a list.
    """
    shape = _output_shape(input, weight, geometry)
    count, width = _block(shape), weight.shape[3]
    pull_bias = None if bias is None else -bias
    output = torch.empty(shape, dtype=input.dtype, memory_format=output_layout(input, weight))
    same = output.is_contiguous(memory_format=torch.channels_last)
    for images, part in zip(input.split(count), output.split(count), strict=True):
        images = channels_last(images)
        filtered = _filtered(images, width, geometry)
        pull = _rectified_convolution(filtered, kernel, pull_bias, _vertical(geometry))
        if kept is not None:
            kept += (pull, filtered)
        del filtered  # the push response can take its memory, which is still in the cache
        push = _rectified_convolution(images, weight, bias, _push(geometry))
        if kept is not None:
            kept.append(push)
        # Sources and destination in two layouts would be read value by value: subtract first, rearrange then.
        target = part if same else push if kept is None else None
        if isinstance(alpha, Tensor):
            result = torch.addcmul(push, _as_column(alpha), pull, value=-1, out=target)
        else:
            result = torch.sub(push, pull, alpha=alpha, out=target)
        if not same:
            part.copy_(result)
    return output


def _rectified_convolution(
    images: Tensor, weight: Tensor, bias: Tensor | None, placed: tuple[Sides, Sides, Sides]
) -> Tensor:
    """`relu(conv2d(images, weight, bias, *placed))` without a gradient."""
    stride, padding, dilation = placed
    response: Tensor = torch.ops.mkldnn._convolution_pointwise(
        images, weight, bias, padding, stride, dilation, 1, "relu", [], ""
    )
    return response


class _PushPull(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        kernel: Tensor,
        bias: Tensor | None,
        alpha: float | Tensor,
        geometry: Geometry,
    ) -> Tensor:
        kept: list[Tensor] = []
        output = _forward(input, weight, kernel, bias, alpha, geometry, kept)
        ctx.number = None if isinstance(alpha, Tensor) else alpha
        ctx.geometry = geometry
        ctx.save_for_backward(
            input, weight, kernel, bias, alpha if isinstance(alpha, Tensor) else None, *kept
        )
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, kernel, bias, alpha, *kept = ctx.saved_tensors
        if alpha is None:
            alpha = ctx.number
        if torch.is_grad_enabled():  # the gradient is to be differentiated itself
            return *_recorded(ctx, gradient, (input, weight, kernel, bias, alpha)), None
        return *_gradients(ctx, gradient, (input, weight, kernel, bias, alpha), kept), None


def _recorded(ctx: Any, gradient: Tensor, arguments: Arguments) -> list[Tensor | None]:
    # The kernel is a function of the weight, so the derivative to the weight would contain the kernel's. Views are
    # inputs of their own.
    input, weight, kernel = (tensor.view_as(tensor) for tensor in arguments[:3])
    bias = None if arguments[3] is None else arguments[3].view_as(arguments[3])
    alpha = arguments[4].view_as(arguments[4]) if isinstance(arguments[4], Tensor) else arguments[4]
    push = F.conv2d(input, weight, bias, *_push(ctx.geometry)).relu()
    filtered = _filtered(input, weight.shape[3], ctx.geometry)
    pull = F.conv2d(filtered, kernel, None if bias is None else -bias, *_vertical(ctx.geometry)).relu()
    output = push - (_as_column(alpha) if isinstance(alpha, Tensor) else alpha) * pull
    views = (input, weight, kernel, bias, alpha)
    needed = [
        v for v, need in zip(views, ctx.needs_input_grad, strict=False) if need and isinstance(v, Tensor)
    ]
    found = iter(torch.autograd.grad(output, needed, gradient, create_graph=True))
    return [next(found) if need else None for need in ctx.needs_input_grad[:5]]


def _gradients(ctx: Any, gradient: Tensor, arguments: Arguments, kept: list[Tensor]) -> list[Tensor | None]:
    input, weight, kernel, bias, alpha = arguments
    geometry = ctx.geometry
    needs_input, needs_alpha = ctx.needs_input_grad[0], ctx.needs_input_grad[4]
    # The gradient of the pull response has the factor -alpha. It is given to the kernel and to the sums, which are
    # small, and not to the responses.
    factor = -alpha.detach().view(-1, 1, 1, 1) if isinstance(alpha, Tensor) else -alpha
    scaled_kernel = kernel * factor
    sizes = None if bias is None else [len(bias)]
    wanted = [needs_input, True, bias is not None]
    push_geometry = [list(g) for g in _push(geometry)]
    pull_geometry = [list(g) for g in _vertical(geometry)]

    input_gradient = torch.empty_like(input) if needs_input else None
    weight_gradient, kernel_gradient = torch.zeros_like(weight), torch.zeros_like(kernel)
    push_sum, pull_sum, alpha_gradient = (weight.new_zeros(len(weight)) for _ in range(3))
    count = _block(gradient.shape)
    blocks = zip(
        range(0, len(input), count),
        input.split(count),
        gradient.split(count),
        kept[::3],
        kept[1::3],
        kept[2::3],
        strict=True,
    )
    for start, images, part, pull, filtered, push in blocks:
        images, part = channels_last(images), channels_last(part)
        behind_push = _rectifier_backward(part, push, 0)
        to_input, to_weight, to_bias = _backward(
            behind_push, images, weight, sizes, *push_geometry, False, [0, 0], 1, wanted
        )
        weight_gradient += to_weight
        behind_pull = _rectifier_backward(part, pull, 0)
        to_filtered, to_kernel, to_pull_bias = _backward(
            behind_pull, filtered, scaled_kernel, sizes, *pull_geometry, False, [0, 0], 1, wanted
        )
        kernel_gradient += to_kernel
        if bias is not None:
            push_sum += to_bias
            pull_sum += to_pull_bias
        if needs_alpha:
            alpha_gradient -= (behind_pull * pull).sum((0, 2, 3))
        if input_gradient is not None:
            to_input += _filtered_backward(to_filtered, images, weight.shape[3], geometry)
            input_gradient[start : start + count] = to_input
    if isinstance(alpha, Tensor) and alpha.ndim == 0:
        alpha_gradient = alpha_gradient.sum()
    return [
        input_gradient,
        weight_gradient,
        kernel_gradient.mul_(factor),
        # The pull response has the bias negated: twice a change of sign.
        None if bias is None else push_sum.sub_(pull_sum.mul_(_flat(factor))),
        alpha_gradient if needs_alpha else None,
    ]


def _filtered(images: Tensor, width: int, geometry: Geometry) -> Tensor:
    """The images filtered by each of the `width` horizontal hats: (n, width * C, H, W'), channels last."""
    filters = _hats(images.shape[1], width, geometry.pull_size[1])
    # Copies of the channels and one filter for each are several times as fast as several filters for each channel.
    return F.conv2d(torch.cat([images] * width, 1), filters, None, *_horizontal(geometry), len(filters))


def _filtered_backward(gradient: Tensor, images: Tensor, width: int, geometry: Geometry) -> Tensor:
    """Gradient to the images from that of `_filtered`: through each hat, then added up."""
    channels, taps = images.shape[1], geometry.pull_size[1]
    filters = _hats(channels, width, taps)
    stride, padding, dilation = _horizontal(geometry)
    reach = dilation[1] * (taps - 1) - padding[1]
    if stride == (1, 1) and reach >= 0:  # a correlation with the turned hats, which is the faster way
        each = F.conv2d(gradient, filters.flip(3), None, 1, (0, reach), dilation, len(filters))
    else:
        shape = torch.empty((len(images), len(filters), *images.shape[2:]), memory_format=torch.channels_last)
        options = [list(stride), list(padding), list(dilation)]
        each = _backward(
            gradient, shape, filters, None, *options, False, [0, 0], len(filters), [True, False, False]
        )[0]
    first, *others = each.split(channels, 1)
    total: Tensor = first.clone()
    for other in others:
        total += other
    return total


@functools.cache
def _hats(channels: int, width: int, taps: int) -> Tensor:
    """The depthwise filters (width * channels, 1, 1, taps): hat functions of `width` knots at `taps` places."""
    # A tensor made in inference mode could not be used in a graph later.
    with torch.inference_mode(False):
        knots = torch.eye(width, dtype=torch.float32, device="cpu")
        hats: Tensor = F.interpolate(knots[None], size=taps, mode="linear", align_corners=True)[0]
        return hats.repeat_interleave(channels, 0).view(-1, 1, 1, taps)


def _push(geometry: Geometry) -> tuple[Sides, Sides, Sides]:
    """Stride, padding and dilation of the push convolution."""
    return geometry.stride, geometry.padding, geometry.dilation


def _horizontal(geometry: Geometry) -> tuple[Sides, Sides, Sides]:
    """Stride, padding and dilation of the horizontal hats."""
    return (1, geometry.stride[1]), (0, geometry.pull_padding[1]), (1, geometry.dilation[1])


def _vertical(geometry: Geometry) -> tuple[Sides, Sides, Sides]:
    """Stride, padding and dilation of the convolution that follows them."""
    return (geometry.stride[0], 1), (geometry.pull_padding[0], 0), (geometry.dilation[0], 1)


def _output_shape(input: Tensor, weight: Tensor, geometry: Geometry) -> tuple[int, ...]:
    """(N, out_channels, H', W') of the response."""
    size = output_size(tuple(input.shape[2:]), tuple(weight.shape[2:]), geometry)
    return input.shape[0], weight.shape[0], *size


def _block(shape: Sides) -> int:
    """How many images are worked on at a time for a float32 response of this shape."""
    image = 4 * math.prod(shape[1:])
    return min(max(1, BLOCK_BYTES * torch.get_num_threads() // image), shape[0])


def _as_column(alpha: Tensor) -> Tensor:
    return alpha.view(-1, 1, 1)


def _flat(factor: float | Tensor) -> float | Tensor:
    return factor.view(-1) if isinstance(factor, Tensor) else factor
