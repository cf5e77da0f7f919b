"""The epilogue of `benchmarks.epilogue` as Triton kernels, over the memory of the responses in either layout.

Each of the two responses is a run of blocks of consecutive values, `stride` apart: a whole tensor, or a half of the
channels of one, whose blocks are the half's values of an image, or with the channels last, of a pixel.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

VALUES = 1024  # of a program


@triton.jit
def _forward(push, pull, output, count, block, push_stride, pull_stride, alpha, VALUES: tl.constexpr):
    i = tl.program_id(0) * VALUES + tl.arange(0, VALUES)
    there = i < count
    outer, inner = i // block, i % block
    a = tl.load(push + outer * push_stride + inner, mask=there, other=0.0).to(tl.float32)
    b = tl.load(pull + outer * pull_stride + inner, mask=there, other=0.0).to(tl.float32)
    response = tl.maximum(a, 0.0) - alpha * tl.maximum(b, 0.0)
    tl.store(output + i, response.to(output.dtype.element_ty), mask=there)


@triton.jit
def _backward(
    gradient,
    push,
    pull,
    to_push,
    to_pull,
    count,
    block,
    push_stride,
    pull_stride,
    alpha,
    VALUES: tl.constexpr,
):
    i = tl.program_id(0) * VALUES + tl.arange(0, VALUES)
    there = i < count
    outer, inner = i // block, i % block
    at_push, at_pull = outer * push_stride + inner, outer * pull_stride + inner
    g = tl.load(gradient + i, mask=there, other=0.0).to(tl.float32)
    a = tl.load(push + at_push, mask=there, other=0.0).to(tl.float32)
    b = tl.load(pull + at_pull, mask=there, other=0.0).to(tl.float32)
    tl.store(to_push + at_push, tl.where(a > 0, g, 0.0).to(to_push.dtype.element_ty), mask=there)
    tl.store(to_pull + at_pull, tl.where(b > 0, -alpha * g, 0.0).to(to_pull.dtype.element_ty), mask=there)


def forward(push: Tensor, pull: Tensor, alpha: float) -> Tensor:
    """`relu(push) - alpha relu(pull)`; both (N, O, H, W), whole or halves of the channels."""
    last = _channels_last(push)
    layout = torch.channels_last if last else torch.contiguous_format
    output = torch.empty(push.shape, dtype=push.dtype, device=push.device, memory_format=layout)
    block, strides = _blocks(push, pull)
    grid = (triton.cdiv(output.numel(), VALUES),)
    _forward[grid](push, pull, output, output.numel(), block, *strides, float(alpha), VALUES=VALUES)
    return output


def backward(
    gradient: Tensor, push: Tensor, pull: Tensor, alpha: float, to_push: Tensor, to_pull: Tensor
) -> None:
    """Write the gradients to both responses, whose memory has the places of the responses' own."""
    block, strides = _blocks(push, pull)
    grid = (triton.cdiv(gradient.numel(), VALUES),)
    arguments = (gradient, push, pull, to_push, to_pull, gradient.numel(), block, *strides, float(alpha))
    _backward[grid](*arguments, VALUES=VALUES)


def _channels_last(response: Tensor) -> bool:
    return response.stride(1) == 1 and response.shape[1] > 1


def _blocks(push: Tensor, pull: Tensor) -> tuple[int, tuple[int, int]]:
    """Length of the blocks, and how far apart they are in each of the responses."""
    if _channels_last(push):
        return push.shape[1], (push.stride(3), pull.stride(3))
    return push[0].numel(), (push.stride(0), pull.stride(0))
