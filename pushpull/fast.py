"""Push-pull response on a CPU, with fewer operations and fewer passes over memory than the plain path.

Three techniques make it fast; `docs/layer.md` shows the gain of each.

Separable pull. Each column of the pull kernel is a linear combination of kH hat functions. The pull response is
therefore a (kH, kW') convolution, with a vertical stride of kH, of images that hold kH filtered rows for each row of
the response: kH kW' products per input channel instead of kH' kW'.

The filter as a matrix product. The filtered rows are a banded matrix times the rows of the images. The matrix includes
stride, padding and dilation, and its product has the order in which the convolution reads it, in either layout.

In-place work. The responses are rectified in place, a few images at a time, and one pass subtracts them. (oneDNN's
convolutions can rectify as they write, which saves up to a tenth, but they turn NaN into 0.)

The gradients are those of the plain path, written out. Second derivatives and batches of gradients use the same
formula as recorded operations. In a product with a banded matrix, one non-finite value spoils all others. Arguments
that contain one therefore take the plain path; one in the gradient of a response spoils a column of the images'
gradient.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pushpull.execution import ordinary
from pushpull.geometry import Geometry, Sides, output_layout, output_size
from pushpull.rows import arranged, filter_rows, layout_inside, pull_places, push_places, through_pull
from pushpull.upsampling import upsample

# input, push kernel, separable pull kernel, bias, alpha
Arguments = tuple[Tensor, Tensor, Tensor, Tensor | None, float | Tensor]

# Values of a response processed at a time: smaller blocks need too many calls, larger ones new memory every time.
BLOCK = 2**21
LEAST_SAVED = 2**23  # products; saving fewer is not worth the additional calls

_backward = torch.ops.aten.convolution_backward
_rectifier_backward = torch.ops.aten.threshold_backward


def suits(
    input: Tensor, weight: Tensor, bias: Tensor | None, alpha: float | Tensor, groups: int, geometry: Geometry
) -> bool:
    """Whether this path supports the call and is the faster one, according to `benchmarks/layer.py`."""
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
    """Number of products that the smaller kernel saves, minus those of the filter.

    The latter grow with the image height, because the banded matrix is multiplied as a dense one.
    """
    images, channels, height, width = input.shape
    out_channels, _, rows, _ = weight.shape
    large, taps = geometry.pull_size
    saved = (large - rows) * taps * out_channels * size[1] - rows * height * width
    return saved * size[0] * channels * images


def separable_kernel(weight: Tensor, geometry: Geometry) -> Tensor:
    """The factor of the pull kernel besides the vertical hat functions: (out_channels, in_channels, kH, kW')."""
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
    """The response without storing anything for a gradient, a few images at a time."""
    size = output_size(tuple(input.shape[2:]), tuple(weight.shape[2:]), geometry)
    shape, layout = (len(input), len(weight), *size), output_layout(input, weight)
    count = max(1, BLOCK // math.prod(shape[1:]))
    if len(input) <= count:
        _, push, pull = _responses(input, weight, kernel, bias, geometry)
        return _difference(push, pull, alpha, push).contiguous(memory_format=layout)
    output = torch.empty(shape, dtype=torch.float32, device="cpu", memory_format=layout)
    for images, part in zip(input.split(count), output.split(count), strict=True):
        _, push, pull = _responses(images, weight, kernel, bias, geometry)
        # A subtraction with different layouts would go value by value: subtract first, then rearrange.
        if layout_inside(input, weight) == layout:
            _difference(push, pull, alpha, part)
        else:
            part.copy_(_difference(push, pull, alpha, push))
    return output


def _responses(
    input: Tensor, weight: Tensor, kernel: Tensor, bias: Tensor | None, geometry: Geometry
) -> tuple[Tensor, Tensor, Tensor]:
    """The filtered images, and the rectified push and pull responses."""
    images = arranged(input, layout_inside(input, weight))
    filtered = filter_rows(images, weight.shape[2], geometry)
    push = F.conv2d(images, weight, bias, *push_places(geometry)).relu_()
    pull = F.conv2d(filtered, kernel, None if bias is None else -bias, *pull_places(kernel, geometry)).relu_()
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
        # The gradient will itself be differentiated, or is a batch of gradients, whose layout cannot be queried.
        differentiated = torch.is_grad_enabled()
        if differentiated or torch._C._functorch.is_legacy_batchedtensor(gradient):
            return *_recorded(ctx, gradient, (input, weight, kernel, bias, alpha), differentiated), None
        return *_gradients(ctx, gradient, (input, weight, kernel, bias, alpha), *kept), None


@torch.enable_grad()
def _recorded(ctx: Any, gradient: Tensor, arguments: Arguments, differentiated: bool) -> list[Tensor | None]:
    # The kernel is a function of the weight, so the derivative with respect to the weight would include the path
    # through the kernel. Views count as separate inputs.
    input, weight, kernel = (tensor.view_as(tensor) for tensor in arguments[:3])
    bias = None if arguments[3] is None else arguments[3].view_as(arguments[3])
    alpha = arguments[4].view_as(arguments[4]) if isinstance(arguments[4], Tensor) else arguments[4]
    push = F.conv2d(input, weight, bias, *push_places(ctx.geometry)).relu()
    filtered = filter_rows(input, weight.shape[2], ctx.geometry)
    pull = F.conv2d(
        filtered, kernel, None if bias is None else -bias, *pull_places(kernel, ctx.geometry)
    ).relu()
    output = push - (_as_column(alpha) if isinstance(alpha, Tensor) else alpha) * pull
    views = (input, weight, kernel, bias, alpha)
    needed = [
        v for v, need in zip(views, ctx.needs_input_grad, strict=False) if need and isinstance(v, Tensor)
    ]
    found = iter(torch.autograd.grad(output, needed, gradient, create_graph=differentiated))
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
    # The gradient of the pull response has the factor -alpha. It multiplies the kernel and the sums, which are small,
    # instead of the response.
    factor = -alpha.detach().view(-1, 1, 1, 1) if isinstance(alpha, Tensor) else -alpha
    images, gradient = (arranged(t, layout_inside(input, weight)) for t in (input, gradient))

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
    to_input, to_weight, to_bias = backward(behind, images, weight, push_places(geometry), needs_input)
    del behind  # so that the next one reuses its memory, which is still in the cache
    behind = _rectifier_backward(gradient, pull, 0)
    _, to_kernel, to_pull_bias = backward(behind, filtered, kernel, pull_places(kernel, geometry), False)
    to_alpha = None
    if needs_input:
        to_input += through_pull(behind, kernel * factor, images, geometry)
    if needs_alpha:
        to_alpha = -(behind * pull).sum((0, 2, 3))
        if isinstance(alpha, Tensor) and alpha.ndim == 0:
            to_alpha = to_alpha.sum()
    return [
        to_input if needs_input else None,
        to_weight,
        to_kernel.mul_(factor),
        # The sign changes twice: the pull response uses -bias, and `factor` is -alpha.
        None if bias is None else to_bias.sub_(to_pull_bias.mul_(_flat(factor))),
        to_alpha,
    ]


def _as_column(alpha: Tensor) -> Tensor:
    return alpha.view(-1, 1, 1)


def _flat(factor: float | Tensor) -> float | Tensor:
    return factor.view(-1) if isinstance(factor, Tensor) else factor
