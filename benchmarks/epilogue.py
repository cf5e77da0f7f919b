"""`relu(push) - alpha relu(pull)` and its gradients as one kernel each way, for variants of the layer to be timed.

Eager torch needs three kernels forward and four backward. The same formula is compiled by NVRTC, which comes with torch
(`torch.cuda.jiterator`), or by Triton; `eager` writes it in torch, for devices that have neither.

The two responses are given as one tensor (N, 2, O, H, W) or as two of (N, O, H, W); alpha is a number.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pushpull.geometry import output_layout

# Of the one type T that a compiled function has; the arithmetic is float32, whatever T is.
FORWARD = """template <typename T> T epilogue(T push, T pull, T alpha) {
    float a = static_cast<float>(push), b = static_cast<float>(pull);
    return static_cast<T>((a > 0.f ? a : 0.f) - static_cast<float>(alpha) * (b > 0.f ? b : 0.f));
}"""
BACKWARD_TWO = """template <typename T>
void epilogue_backward(T gradient, T push, T pull, T alpha, T& to_push, T& to_pull) {
    float g = static_cast<float>(gradient), factor = -static_cast<float>(alpha);
    to_push = static_cast<T>(static_cast<float>(push) > 0.f ? g : 0.f);
    to_pull = static_cast<T>(static_cast<float>(pull) > 0.f ? factor * g : 0.f);
}"""
BACKWARD_ONE = """template <typename T> T epilogue_backward_one(T gradient, T response, T factor) {
    float g = static_cast<float>(gradient), f = static_cast<float>(factor);
    return static_cast<T>(static_cast<float>(response) > 0.f ? f * g : 0.f);
}"""


def by_two(push: Tensor, pull: Tensor, alpha: float, kind: str) -> Tensor:
    """`relu(push) - alpha relu(pull)`, both (N, O, H, W) of one layout; kind is eager, nvrtc or triton."""
    return _Two.apply(push, pull, alpha, kind)


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
        if ctx.kind == "nvrtc":
            to_push, to_pull = _compiled("two")(gradient, push, pull, alpha=ctx.alpha)
        elif ctx.kind == "triton":
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
        if ctx.kind == "nvrtc":
            found = _compiled("one")(gradient.unsqueeze(1), both, factors)
        else:
            found = gradient.unsqueeze(1) * (both > 0) * factors
        return found.flatten(1, 2), None, None


def _response(push: Tensor, pull: Tensor, alpha: float, kind: str) -> Tensor:
    if kind == "nvrtc":
        return _compiled("epilogue")(push, pull, alpha=alpha)
    if kind == "triton":
        return _triton().forward(push, pull, alpha)
    return push.relu().sub_(pull.relu(), alpha=alpha)


@functools.cache
def _factors(alpha: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(2, 1, 1, 1): what the gradient is multiplied by on its way to the push and to the pull response."""
    return torch.tensor([1.0, -alpha], device=device, dtype=dtype).view(2, 1, 1, 1)


@functools.cache
def _compiled(name: str) -> Any:
    from torch.cuda import jiterator

    if name == "two":
        return jiterator._create_multi_output_jit_fn(BACKWARD_TWO, num_outputs=2, alpha=1.0)
    if name == "one":
        return jiterator._create_jit_fn(BACKWARD_ONE)
    return jiterator._create_jit_fn(FORWARD, alpha=1.0)


def _triton() -> Any:
    from benchmarks import epilogue_triton

    return epilogue_triton
