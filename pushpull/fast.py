"""The push-pull response on a CPU with fewer operations and fewer passes over memory than the plain path needs.

Three things make it fast; `docs/layer.md` shows what each is worth.

Separable pull. Column by column, the pull kernel is a combination of its kH hat functions, so its response is a
(kH, kW') convolution, with a stride of kH, of images in which kH filtered rows stand for each row of the response:
kH kW' products per input channel in place of kH' kW'.

The filter as a matrix product. The filtered rows are a banded matrix times the rows of the images. Stride, padding and
dilation are in the matrix, and the values come out where the convolution reads them, in either layout.

Worked on where they lie. The responses are rectified in place, some images at a time, and one pass subtracts. (oneDNN's
convolutions rectify as they write, which saves up to a tenth, but they make a 0 of what is not a number.)

The gradients are those of the plain path, written out; a second derivative goes through the same formula as recorded
operations. In a product with a banded matrix one value that is not finite spoils all others, so where there is one the
plain path is taken; in the gradient of a response it spoils a column of the gradient to the images.
"""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pushpull.execution import ordinary, without_modes
from pushpull.geometry import Geometry, Sides, output_layout, output_size
from pushpull.layout import channels_last
from pushpull.upsampling import hats, upsample

# input, push kernel, separable pull kernel, bias, alpha
Arguments = tuple[Tensor, Tensor, Tensor, Tensor | None, float | Tensor]

FLAT = 3  # channels up to which oneDNN's convolutions read contiguous images as they are
BLOCK = (
    2**21
)  # values of a response worked on at a time: less is too many calls, the memory of more is new every time
LEAST_SAVED = 2**23  # products; to save fewer is not worth the further calls

_backward = torch.ops.aten.convolution_backward
_rectifier_backward = torch.ops.aten.threshold_backward


def suits(
    input: Tensor, weight: Tensor, bias: Tensor | None, alpha: float | Tensor, groups: int, geometry: Geometry
) -> bool:
    """Whether this path takes the call and is the faster one, as far as `benchmarks/layer.py` has measured it."""
    tensors = [t for t in (input, weight, bias, alpha) if isinstance(t, Tensor)]
    if not ordinary(*tensors):
        return False
    if not all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors):
        return False
    if input.ndim != 4 or weight.ndim != 4 or input.numel() == 0:
        return False
    if input.shape[1] != weight.shape[1] or groups != 1 or min(geometry.pull_padding) < 0:
        return False
    size = output_size(tuple(input.shape[2:]), tuple(weight.shape[2:]), geometry)
    if min(size) == 0 or _saved(input, weight, size, geometry) < LEAST_SAVED:
        return False
    return not torch.is_autocast_enabled("cpu") and all(math.isfinite(t.sum().item()) for t in tensors)


def _saved(input: Tensor, weight: Tensor, size: Sides, geometry: Geometry) -> int:
    """Products that the smaller kernel saves, less those of the filter.

    The filter's grow with the height of the images: its matrix is banded, but the product is not told so.
    """
    images, channels, height, width = input.shape
    out_channels, _, rows, _ = weight.shape
    large, taps = geometry.pull_size
    saved = (large - rows) * taps * out_channels * size[1] - rows * height * width
    return saved * size[0] * channels * images


def separable_kernel(weight: Tensor, geometry: Geometry) -> Tensor:
    """What is left of the pull kernel after the vertical hats: (out_channels, in_channels, kH, kW')."""
    return -upsample(weight, (weight.shape[2], geometry.pull_size[1]))


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
    return _in_blocks(input, weight, kernel, bias, alpha, geometry)


def _in_blocks(
    input: Tensor,
    weight: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    alpha: float | Tensor,
    geometry: Geometry,
) -> Tensor:
    """The response where nothing is kept for a gradient, some images at a time."""
    size = output_size(tuple(input.shape[2:]), tuple(weight.shape[2:]), geometry)
    shape, layout = (len(input), len(weight), *size), output_layout(input, weight)
    count = max(1, BLOCK // math.prod(shape[1:]))
    if len(input) <= count:
        _, push, pull = _responses(input, weight, kernel, bias, geometry)
        return _difference(push, pull, alpha, push).contiguous(memory_format=layout)
    output = torch.empty(shape, dtype=torch.float32, device="cpu", memory_format=layout)
    for images, part in zip(input.split(count), output.split(count), strict=True):
        _, push, pull = _responses(images, weight, kernel, bias, geometry)
        # Sources and destination in two layouts would be read value by value: subtract first, rearrange then.
        if _layout_inside(input, weight) == layout:
            _difference(push, pull, alpha, part)
        else:
            part.copy_(_difference(push, pull, alpha, push))
    return output


def _responses(
    input: Tensor, weight: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry
) -> tuple[Tensor, Tensor, Tensor]:
    """The filtered images, and the rectified push and pull responses."""
    images = _arranged(input, _layout_inside(input, weight))
    filtered = _filtered(images, weight.shape[2], geometry)
    push = F.conv2d(images, weight, bias, *_push(geometry)).relu_()
    pull = F.conv2d(filtered, kernel, None if bias is None else -bias, *_pull(kernel, geometry)).relu_()
    return filtered, push, pull


def _difference(push: Tensor, pull: Tensor, alpha: float | Tensor, out: Tensor | None) -> Tensor:
    if isinstance(alpha, Tensor):
        return torch.addcmul(push, _as_column(alpha), pull, value=-1, out=out)
    return torch.sub(push, pull, alpha=alpha, out=out)


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
        filtered, push, pull = _responses(input, weight, kernel, bias, geometry)
        ctx.number, kept_alpha = (None, alpha) if isinstance(alpha, Tensor) else (alpha, None)
        ctx.geometry = geometry
        ctx.save_for_backward(input, weight, kernel, bias, kept_alpha, filtered, push, pull)
        return _difference(push, pull, alpha, None).contiguous(memory_format=output_layout(input, weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, kernel, bias, alpha, *kept = ctx.saved_tensors
        if alpha is None:
            alpha = ctx.number
        if torch.is_grad_enabled():  # the gradient is to be differentiated itself
            return *_recorded(ctx, gradient, (input, weight, kernel, bias, alpha)), None
        return *_gradients(ctx, gradient, (input, weight, kernel, bias, alpha), *kept), None


def _recorded(ctx: Any, gradient: Tensor, arguments: Arguments) -> list[Tensor | None]:
    # The kernel is a function of the weight, so the derivative to the weight would contain the kernel's. Views are
    # inputs of their own.
    input, weight, kernel = (tensor.view_as(tensor) for tensor in arguments[:3])
    bias = None if arguments[3] is None else arguments[3].view_as(arguments[3])
    alpha = arguments[4].view_as(arguments[4]) if isinstance(arguments[4], Tensor) else arguments[4]
    push = F.conv2d(input, weight, bias, *_push(ctx.geometry)).relu()
    filtered = _filtered(input, weight.shape[2], ctx.geometry)
    pull = F.conv2d(filtered, kernel, None if bias is None else -bias, *_pull(kernel, ctx.geometry)).relu()
    output = push - (_as_column(alpha) if isinstance(alpha, Tensor) else alpha) * pull
    views = (input, weight, kernel, bias, alpha)
    needed = [
        v for v, need in zip(views, ctx.needs_input_grad, strict=False) if need and isinstance(v, Tensor)
    ]
    found = iter(torch.autograd.grad(output, needed, gradient, create_graph=True))
    return [next(found) if need else None for need in ctx.needs_input_grad[:5]]


def _gradients(
    ctx: Any,
    gradient: Tensor,
    arguments: Arguments,
    filtered: Tensor,
    push: Tensor,
    pull: Tensor,
) -> list[Tensor | None]:
    input, weight, kernel, bias, alpha = arguments
    geometry = ctx.geometry
    needs_input, needs_alpha = ctx.needs_input_grad[0], ctx.needs_input_grad[4]
    # The gradient of the pull response has the factor -alpha. It is given to the kernel and to the sums, which are
    # small, and not to the response.
    factor = -alpha.detach().view(-1, 1, 1, 1) if isinstance(alpha, Tensor) else -alpha
    images, gradient = (_arranged(t, _layout_inside(input, weight)) for t in (input, gradient))

    def backward(
        behind: Tensor, source: Tensor, kernel: Tensor, placed: tuple[Sides, Sides, Sides], to_source: bool
    ) -> list[Tensor]:
        stride, padding, dilation = (list(sides) for sides in placed)
        sizes = None if bias is None else [len(bias)]
        wanted = [to_source, True, bias is not None]
        found: list[Tensor] = _backward(
            behind, source, kernel, sizes, stride, padding, dilation, False, [0, 0], 1, wanted
        )
        return found

    behind = _rectifier_backward(gradient, push, 0)
    to_input, to_weight, to_bias = backward(behind, images, weight, _push(geometry), needs_input)
    del behind  # the next one takes its memory, which is still in the cache
    behind = _rectifier_backward(gradient, pull, 0)
    _, to_kernel, to_pull_bias = backward(behind, filtered, kernel, _pull(kernel, geometry), False)
    to_alpha = None
    if needs_input:
        to_input += _through_pull(behind, kernel * factor, images, geometry)
    if needs_alpha:
        to_alpha = -(behind * pull).sum((0, 2, 3))
        if isinstance(alpha, Tensor) and alpha.ndim == 0:
            to_alpha = to_alpha.sum()
    return [
        to_input if needs_input else None,
        to_weight,
        to_kernel.mul_(factor),
        # The pull response has the bias negated: twice a change of sign.
        None if bias is None else to_bias.sub_(to_pull_bias.mul_(_flat(factor))),
        to_alpha,
    ]


def _through_pull(gradient: Tensor, kernel: Tensor, images: Tensor, geometry: Geometry) -> Tensor:
    """Gradient to the images from that of the convolution of the filtered ones with the separable kernel."""
    out_channels, channels, rows, taps = kernel.shape
    count, _, height, width = images.shape
    # No two rows of the kernel meet the same row of the filtered images, so rows can stand as channels.
    across = kernel.transpose(1, 2).reshape(out_channels, rows * channels, 1, taps)
    (_, stride), (_, padding), (_, dilation) = _pull(kernel, geometry)
    reach = dilation * (taps - 1) - padding
    if stride == 1 and reach >= 0:  # a correlation with the turned kernel, which is the faster way
        turned = across.transpose(0, 1).flip(3)
        to_rows = F.conv2d(gradient, turned, None, 1, (0, reach), (1, dilation))
    else:
        shape = gradient.new_empty((count, rows * channels, gradient.shape[2], width))
        sides = [1, stride], [0, padding], [1, dilation]
        to_rows = _backward(
            gradient,
            _arranged(shape, _layout(images)),
            across,
            None,
            *sides,
            False,
            [0, 0],
            1,
            [True, False, False],
        )[0]
    to_rows = to_rows.unflatten(1, (rows, channels))
    band = _band(rows, geometry, height, gradient.shape[2]).permute(2, 1, 0).flatten(1)  # (H, rows * H')
    if _layout(images) == torch.channels_last:
        flat = to_rows.permute(0, 1, 3, 4, 2).reshape(count, -1, width * channels)
        return torch.matmul(band, flat).view(count, height, width, channels).permute(0, 3, 1, 2)
    return torch.matmul(band, to_rows.transpose(1, 2).reshape(count, channels, -1, width))


def _filtered(images: Tensor, rows: int, geometry: Geometry) -> Tensor:
    """The images filtered by each of `rows` vertical hats at the rows of the response: (N, C, H' * rows, W)."""
    count, channels, height, width = images.shape
    reach = geometry.dilation[0] * (geometry.pull_size[0] - 1)
    outputs = (height + 2 * geometry.pull_padding[0] - reach - 1) // geometry.stride[0] + 1
    band = _band(rows, geometry, height, outputs).flatten(0, 1)
    if _layout(images) == torch.channels_last:
        flat = images.permute(0, 2, 3, 1).reshape(count, height, width * channels)
        return torch.matmul(band, flat).view(count, -1, width, channels).permute(0, 3, 1, 2)
    return torch.matmul(band, images)


@functools.lru_cache(maxsize=32)
def _band(rows: int, geometry: Geometry, height: int, outputs: int) -> Tensor:
    """The weight (outputs, rows, height) of each row of the images in the filtered rows of each row of the response.

    They are hat functions, `rows` of them over the side of the pull kernel.
    """
    taps, stride = geometry.pull_size[0], geometry.stride[0]
    padding, dilation = geometry.pull_padding[0], geometry.dilation[0]
    with without_modes():
        values = hats(rows, taps, torch.float32, torch.device("cpu"))
        padded = torch.zeros((outputs, rows, height + 2 * padding), dtype=torch.float32, device="cpu")
        for output, weights in enumerate(padded):
            first = output * stride
            weights[:, first : first + dilation * (taps - 1) + 1 : dilation] = values
        return padded[:, :, padding : padding + height].contiguous()


def _push(geometry: Geometry) -> tuple[Sides, Sides, Sides]:
    """Stride, padding and dilation of the push convolution."""
    return geometry.stride, geometry.padding, geometry.dilation


def _pull(kernel: Tensor, geometry: Geometry) -> tuple[Sides, Sides, Sides]:
    """Stride, padding and dilation of the convolution of the filtered images with the separable kernel."""
    return (kernel.shape[2], geometry.stride[1]), (0, geometry.pull_padding[1]), (1, geometry.dilation[1])


def _layout_inside(input: Tensor, weight: Tensor) -> torch.memory_format:
    """The layout that all work is done in: channels last, unless oneDNN reads contiguous images as they are."""
    return torch.channels_last if input.shape[1] > FLAT else output_layout(input, weight)


def _layout(images: Tensor) -> torch.memory_format:
    return output_layout(images, images)


def _arranged(images: Tensor, layout: torch.memory_format) -> Tensor:
    return channels_last(images) if layout == torch.channels_last else images.contiguous()


def _as_column(alpha: Tensor) -> Tensor:
    return alpha.view(-1, 1, 1)


def _flat(factor: float | Tensor) -> float | Tensor:
    return factor.view(-1) if isinstance(factor, Tensor) else factor
