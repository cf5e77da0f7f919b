"""The push-pull response on a GPU as one Triton kernel, with its gradients.

The plain path writes and reads the responses several times: two convolutions, two rectifications, a subtraction. Here
a program computes both responses of a block of output pixels in registers, so the input is read from DRAM once and
the result is written once; with gradients, so is one byte an output value, which says what the rectifiers let through.

Values and gradients have been compared with the float64 reference in Triton's interpreter and on an H100. There it was
the fastest way for 1,024 images of three channels in float32 alone, and slower elsewhere (docs/layer.md), so the layer
does not choose it.

What bounds it is the arithmetic. In float32 a batch of 1024 x 3 x 32 x 32 to 16 channels (3 x 3 and 7 x 7) has 13 MB
to read and 67 MB to write, 0.02 ms at the 3.35 TB/s of an H100's data sheet; 174 multiply-adds for each of 16.8
million values are 5.8 GFLOP, 0.09 ms at its 67 TFLOP/s. Sums are float32 in IEEE arithmetic, whatever the input's type.

No atomics: the gradients are the same bits at every call. There is no second derivative.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
import triton  # type: ignore[import-untyped]
from torch import Tensor
from torch.autograd.function import once_differentiable

from benchmarks.triton_kernels import (
    PULL,
    PUSH,
    channel_sums_kernel,
    forward_kernel,
    input_gradient_kernel,
    kernel_gradient_kernel,
)
from pushpull.geometry import Geometry, Sides, output_layout, output_size

# A thread of the four warps has one pixel of a program's block and its sums of all channels in registers. With two
# pixels it loads neighbours, and they change threads through shared memory at every tap.
PIXELS = 128
CHANNELS = 16  # of a program's block, at most
ROW_SUMS = 128  # sums a thread has for the gradient to a row of taps
PROGRAMS = 2048  # of a sum over all pixels, at most about; each chunk of pixels fills a row of a buffer


def push_pull(
    input: Tensor,
    weight: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    alpha: float | Tensor,
    geometry: Geometry,
) -> Tensor:
    """Push-pull response of (N, C, H, W); `kernel` is the whole pull kernel (O, C, kH', kW').

    Input, weight and kernel are all float32, all float16 or all bfloat16; the response has their type. The rest is as
    in push_pull_conv2d, for one group and relu.
    """
    tensors = [t for t in (input, weight, kernel, bias, alpha) if isinstance(t, Tensor)]
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        output: Tensor = _PushPull.apply(input, weight, kernel, bias, alpha, geometry)
        return output
    return _forward(input, weight, kernel, bias, _per_channel(alpha, weight), geometry, False, False)[0]


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
        alphas = _per_channel(alpha, weight)
        output, bits, pull = _forward(
            input, weight, kernel, bias, alphas, geometry, True, ctx.needs_input_grad[4]
        )
        ctx.geometry = geometry
        ctx.one_alpha = isinstance(alpha, Tensor) and alpha.ndim == 0
        ctx.save_for_backward(input, weight, kernel, alphas, bits, pull)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, kernel, alphas, bits, pull = ctx.saved_tensors
        needs_input, needs_weight, needs_kernel, needs_bias, needs_alpha, _ = ctx.needs_input_grad
        # What was kept has the layout of the output: one offset serves all.
        gradient = gradient.contiguous(memory_format=output_layout(input, weight))
        to_input = to_weight = to_kernel = to_bias = to_alpha = None
        if needs_input:
            to_input = _input_gradient(input, weight, kernel, alphas, gradient, bits, ctx.geometry)
        if needs_weight:
            geometry = ctx.geometry
            to_weight = _kernel_gradient(input, weight, gradient, bits, PUSH, geometry.padding, geometry)
            to_weight = to_weight.to(weight.dtype)
        if needs_kernel:
            geometry = ctx.geometry
            to_kernel = _kernel_gradient(input, kernel, gradient, bits, PULL, geometry.pull_padding, geometry)
            # The gradient of the pull response has the factor -alpha. It is given to the sums, which are small.
            to_kernel = (to_kernel * -alphas.view(-1, 1, 1, 1)).to(kernel.dtype)
        if needs_bias or needs_alpha:
            push_sum, pull_sum, *alpha_sum = _channel_sums(gradient, bits, pull)
            if needs_bias:  # the pull response has the bias negated: twice a change of sign
                to_bias = (push_sum + alphas * pull_sum).to(weight.dtype)
            if needs_alpha:
                to_alpha = (-alpha_sum[0].sum() if ctx.one_alpha else -alpha_sum[0]).to(alphas.dtype)
        return to_input, to_weight, to_kernel, to_bias, to_alpha, None


def _forward(
    input: Tensor,
    weight: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    alphas: Tensor,
    geometry: Geometry,
    keep_bits: bool,
    keep_pull: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The response; what its rectifiers let through, and the rectified pull response, if they are to be kept."""
    shape = (len(input), len(weight), *output_size(tuple(input.shape[2:]), tuple(weight.shape[2:]), geometry))
    output = torch.empty(
        shape, dtype=input.dtype, device=input.device, memory_format=output_layout(input, weight)
    )
    bits = torch.empty_like(output, dtype=torch.uint8) if keep_bits else None
    pull = torch.empty_like(output) if keep_pull else None
    channels, pixels = _channel_block(len(weight)), _pixels(output)
    programs = triton.cdiv(pixels, PIXELS) * triton.cdiv(len(weight), channels)
    with torch.cuda.device_of(input):
        forward_kernel[(programs,)](
            input,
            _packed(weight, channels),
            _packed(kernel, channels),
            bias,
            alphas,
            output,
            bits,
            pull,
            pixels,
            tuple(input.shape),
            input.stride(),
            shape,
            output.stride(),
            alphas.stride(0),
            PUSH_SIZE=tuple(weight.shape[2:]),
            PUSH_PADDING=geometry.padding,
            PULL_SIZE=geometry.pull_size,
            PULL_PADDING=geometry.pull_padding,
            STRIDE=geometry.stride,
            DILATION=geometry.dilation,
            CHANNELS=channels,
            PIXELS=PIXELS,
            WIDE=_wide(input, output),
            num_warps=4,
            enable_fp_fusion=True,
        )
    return output, bits, pull


def _input_gradient(
    input: Tensor,
    weight: Tensor,
    kernel: Tensor,
    alphas: Tensor,
    gradient: Tensor,
    bits: Tensor,
    geometry: Geometry,
) -> Tensor:
    result = torch.empty_like(input)
    scaled = kernel * -alphas.view(-1, 1, 1, 1)
    channels, pixels = _channel_block(input.shape[1]), _pixels(input)
    programs = triton.cdiv(pixels, PIXELS) * triton.cdiv(input.shape[1], channels)
    with torch.cuda.device_of(input):
        input_gradient_kernel[(programs,)](
            result,
            _packed(weight.transpose(0, 1), channels),
            _packed(scaled.transpose(0, 1), channels),
            gradient,
            bits,
            pixels,
            tuple(result.shape),
            result.stride(),
            tuple(gradient.shape),
            gradient.stride(),
            PUSH_SIZE=tuple(weight.shape[2:]),
            PUSH_PADDING=geometry.padding,
            PULL_SIZE=geometry.pull_size,
            PULL_PADDING=geometry.pull_padding,
            STRIDE=geometry.stride,
            DILATION=geometry.dilation,
            CHANNELS=channels,
            PIXELS=PIXELS,
            WIDE=_wide(result, gradient),
            num_warps=4,
            enable_fp_fusion=True,
        )
    return result


def _kernel_gradient(
    input: Tensor,
    kernel: Tensor,
    gradient: Tensor,
    bits: Tensor,
    bit: Any,
    padding: Sides,
    geometry: Geometry,
) -> Tensor:
    """Float32 gradient to one of the two kernels, for output values whose `bit` is set."""
    out_channels, in_channels, height, width = kernel.shape
    taps = triton.next_power_of_2(width)
    channels = min(_channel_block(out_channels), max(1, ROW_SUMS // taps))
    rows = triton.cdiv(out_channels, channels) * in_channels * height
    chunks, blocks = _chunks(_pixels(gradient), rows)
    partial = torch.empty((chunks, *kernel.shape), dtype=torch.float32, device=input.device)
    with torch.cuda.device_of(input):
        kernel_gradient_kernel[(chunks * rows,)](
            input,
            gradient,
            bits,
            partial,
            _pixels(gradient),
            blocks,
            tuple(input.shape),
            input.stride(),
            tuple(gradient.shape),
            gradient.stride(),
            BIT=bit,
            SIZE=(height, width),
            PADDING=padding,
            STRIDE=geometry.stride,
            DILATION=geometry.dilation,
            TAPS=taps,
            CHANNELS=channels,
            PIXELS=PIXELS,
            WIDE=_wide(input, gradient),
            num_warps=4,
            enable_fp_fusion=True,
        )
    return partial.sum(0)


def _channel_sums(gradient: Tensor, bits: Tensor, pull: Tensor | None) -> Tensor:
    """Sums of the gradient over all pixels of each channel: where the push response passed, where the pull response
    did, and, if `pull` is given, weighted by it: (2 or 3, O) in float32."""
    channels = _channel_block(gradient.shape[1])
    rows = triton.cdiv(gradient.shape[1], channels)
    chunks, blocks = _chunks(_pixels(gradient), rows)
    kinds = 2 if pull is None else 3
    partial = torch.empty((chunks, kinds, gradient.shape[1]), dtype=torch.float32, device=gradient.device)
    with torch.cuda.device_of(gradient):
        channel_sums_kernel[(chunks * rows,)](
            gradient,
            bits,
            pull,
            partial,
            _pixels(gradient),
            blocks,
            tuple(gradient.shape),
            gradient.stride(),
            KINDS=kinds,
            CHANNELS=channels,
            PIXELS=PIXELS,
            WIDE=_wide(gradient),
            num_warps=4,
            enable_fp_fusion=True,
        )
    return partial.sum(0)


def _wide(*tensors: Tensor) -> bool:
    """Whether offsets into these tensors, those of a last block's masked places as well, may not fit 32 bits."""
    reach = (
        sum(size * abs(stride) for size, stride in zip(t.shape, t.stride(), strict=True)) for t in tensors
    )
    return max(reach) >= 2**30


def _chunks(pixels: int, programs_each: int) -> tuple[int, int]:
    """Into how many chunks the pixels are cut for sums over them, and the blocks of a chunk."""
    blocks = triton.cdiv(pixels, PIXELS)
    each = max(1, triton.cdiv(blocks, max(1, PROGRAMS // programs_each)))
    return max(1, triton.cdiv(blocks, each)), each


def _pixels(tensor: Tensor) -> int:
    """Pixels of all images of (N, C, H, W)."""
    return len(tensor) * math.prod(tensor.shape[2:])


def _channel_block(channels: int) -> int:
    power: int = triton.next_power_of_2(channels)
    return min(power, CHANNELS)


def _packed(kernel: Tensor, block: int) -> Tensor:
    """(O, C, kH, kW) as (C, kH, kW, O), with zeros up to whole blocks: a tap's weights are read at once, unmasked."""
    return F.pad(kernel.permute(1, 2, 3, 0), (0, -len(kernel) % block)).contiguous()


def _per_channel(alpha: float | Tensor, weight: Tensor) -> Tensor:
    """Alpha as (O,), without a copy of one value."""
    if not isinstance(alpha, Tensor):
        alpha = torch.full((), alpha, dtype=torch.float32, device=weight.device)
    return alpha.detach().expand(len(weight))
