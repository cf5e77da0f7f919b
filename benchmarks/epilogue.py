"""`relu(push) - alpha relu(pull)` and its gradients as one kernel each way, for variants of the layer to be timed.

Eager torch needs three kernels forward and four backward. Triton compiles the same formula; `eager` writes it in torch,
for devices without it.

The two responses are given as one tensor (N, 2, O, H, W) or as two of (N, O, H, W); alpha is a number.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pushpull.geometry import output_layout


def by_two(push: Tensor, pull: Tensor, alpha: float, kind: str) -> Tensor:
    """`relu(push) - alpha relu(pull)`, both (N, O, H, W); kind is eager or triton.

    Of images with one channel, whose layout is ambiguous, cuDNN may give the two responses in different ones.
    """
    return _Two.apply(push, pull.contiguous(memory_format=output_layout(push, push)), alpha, kind)


def by_one(responses: Tensor, alpha: float, kind: str) -> Tensor:
    """The same of (N, 2 O, H, W), the push responses before the pull responses."""
    return _One.apply(responses, alpha, kind)


class _Two(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, push: Tensor, pull: Tensor, alpha: float, kind: str) -> Tensor:
        ctx.save_for_backward(push, pull)
        ctx.alpha, ctx.kind = alpha, kind
        return _response(push, pull, alpha, kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        push, pull = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=output_layout(push, push))
        if ctx.kind == "triton":
            to_push, to_pull = torch.empty_like(push), torch.empty_like(pull)
            _triton().backward(gradient, push, pull, ctx.alpha, to_push, to_pull)
        else:
            to_push, to_pull = gradient * (push > 0), gradient * (pull > 0) * -ctx.alpha
        return to_push, to_pull, None, None


class _One(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, responses: Tensor, alpha: float, kind: str) -> Tensor:
        ctx.save_for_backward(responses)
        ctx.alpha, ctx.kind = alpha, kind
        return _response(*responses.chunk(2, dim=1), alpha, kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (responses,) = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=output_layout(responses, responses))
        if ctx.kind == "triton":
            found = torch.empty_like(responses)
            push, pull = responses.chunk(2, dim=1)
            _triton().backward(gradient, push, pull, ctx.alpha, *found.chunk(2, dim=1))
            return found, None, None
        factors = _factors(ctx.alpha, responses.device, responses.dtype)
        both = responses.unflatten(1, (2, -1))
        found = gradient.unsqueeze(1) * (both > 0) * factors
        return found.flatten(1, 2), None, None


def _response(push: Tensor, pull: Tensor, alpha: float, kind: str) -> Tensor:
    if kind == "triton":
        return _triton().forward(push, pull, alpha)
    return push.relu().sub_(pull.relu(), alpha=alpha)


@functools.cache
def _factors(alpha: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(2, 1, 1, 1): what the gradient is multiplied by on its way to the push and to the pull response."""
    return torch.tensor([1.0, -alpha], device=device, dtype=dtype).view(2, 1, 1, 1)


def _triton() -> Any:
    from benchmarks import epilogue_triton

    return epilogue_triton
