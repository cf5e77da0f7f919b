"""Ways to compute the push-pull layer on a GPU, all with the same result, to be timed against each other.

Each takes the images (N, C, H, W) and a `PushPull2d` of a kernel with odd sides, one group, relu and one alpha, and
returns its response. One that the device cannot run raises, and the benchmark notes why.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from benchmarks import epilogue
from pushpull import PushPull2d, pull_kernel
from pushpull.geometry import Geometry, place

Variant = Callable[[Tensor, PushPull2d], Tensor]


def textbook(images: Tensor, layer: PushPull2d) -> Tensor:
    """The reference of all ratios: an interpolation each forward, two convolutions, two relu, a subtraction."""
    geometry = _geometry(layer)
    kernel = -F.interpolate(layer.weight, size=geometry.pull_size, mode="bilinear", align_corners=True)
    push = F.relu(F.conv2d(images, layer.weight, None, geometry.stride, geometry.padding))
    pull = F.relu(F.conv2d(images, kernel, None, geometry.stride, geometry.pull_padding))
    return push - layer.alpha * pull


def plain(images: Tensor, layer: PushPull2d) -> Tensor:
    """The layer as it is: two convolutions, the pull kernel by a product with a constant matrix."""
    return layer(images)


def two_convolutions(kind: str) -> Variant:
    """Two convolutions and one kernel for all that comes after them; `kind` as in `benchmarks.epilogue`."""

    def variant(images: Tensor, layer: PushPull2d) -> Tensor:
        geometry = _geometry(layer)
        kernel = pull_kernel(layer.weight, layer.scale)
        push = F.conv2d(images, layer.weight, layer.bias, geometry.stride, geometry.padding)
        bias = None if layer.bias is None else -layer.bias
        pull = F.conv2d(images, kernel, bias, geometry.stride, geometry.pull_padding)
        return epilogue.by_two(push, pull, layer.alpha, kind)

    return variant


def one_convolution(kind: str) -> Variant:
    """One convolution by both kernels, the push kernel padded to the size of the pull kernel, and an epilogue."""

    def variant(images: Tensor, layer: PushPull2d) -> Tensor:
        geometry = _geometry(layer)
        kernel = pull_kernel(layer.weight, layer.scale)
        border = [
            (large - small) // 2
            for large, small in zip(reversed(geometry.pull_size), reversed(layer.kernel_size), strict=True)
            for _ in range(2)
        ]
        both = torch.cat((F.pad(layer.weight, border), kernel))
        bias = None if layer.bias is None else torch.cat((layer.bias, -layer.bias))
        responses = F.conv2d(images, both, bias, geometry.stride, geometry.pull_padding)
        return epilogue.by_one(responses, layer.alpha, kind)

    return variant


class _Unfolding(torch.autograd.Function):
    """A convolution whose gradient to the kernel is a product of the images' patches, unfolded, and the gradient.

    Of few channels cuDNN's deterministic algorithms for it are slow.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, kernel: Tensor, bias: Tensor | None, stride: Any, padding: Any
    ) -> Tensor:
        ctx.save_for_backward(images, kernel)
        ctx.stride, ctx.padding, ctx.biased = stride, padding, bias is not None
        return F.conv2d(images, kernel, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, kernel = ctx.saved_tensors
        to_images = None
        if ctx.needs_input_grad[0]:
            to_images = torch.nn.grad.conv2d_input(images.shape, kernel, gradient, ctx.stride, ctx.padding)
        patches = F.unfold(
            images, kernel.shape[2:], padding=ctx.padding, stride=ctx.stride
        )  # (N, C kH kW, L)
        to_kernel = torch.bmm(gradient.flatten(2), patches.to(gradient.dtype).mT).sum(0).view_as(kernel)
        to_bias = gradient.sum((0, 2, 3)) if ctx.biased else None
        return to_images, to_kernel, to_bias, None, None


def unfolded(images: Tensor, layer: PushPull2d) -> Tensor:
    """Two convolutions whose gradients to the kernels are products of unfolded patches."""
    geometry = _geometry(layer)
    kernel, weight, bias = pull_kernel(layer.weight, layer.scale), layer.weight, layer.bias
    if torch.is_autocast_enabled(images.device.type):
        dtype = torch.get_autocast_dtype(images.device.type)
        images, weight, kernel = images.to(dtype), weight.to(dtype), kernel.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    push = _Unfolding.apply(images, weight, bias, geometry.stride, geometry.padding)
    pull = _Unfolding.apply(
        images, kernel, None if bias is None else -bias, geometry.stride, geometry.pull_padding
    )
    return push.relu() - layer.alpha * pull.relu()


def triton_path(images: Tensor, layer: PushPull2d) -> Tensor:
    """Convolutions and epilogue in one Triton kernel."""
    from benchmarks.triton_path import push_pull

    kernel = pull_kernel(layer.weight, layer.scale)
    weight = layer.weight
    if torch.is_autocast_enabled(images.device.type):
        dtype = torch.get_autocast_dtype(images.device.type)
        images, weight, kernel = images.to(dtype), weight.to(dtype), kernel.to(dtype)
    return push_pull(images, weight, kernel, layer.bias, layer.alpha, _geometry(layer))


VARIANTS: dict[str, Variant] = {
    "textbook": textbook,
    "plain": plain,
    "unfolded gradient": unfolded,
    "two convolutions, triton": two_convolutions("triton"),
    "one convolution, eager": one_convolution("eager"),
    "one convolution, triton": one_convolution("triton"),
    "triton": triton_path,
}
EAGER: dict[str, Variant] = {  # what the variants compute, for a device that has no compiler of kernels
    "textbook": textbook,
    "plain": plain,
    "unfolded gradient": unfolded,
    "two convolutions, eager": two_convolutions("eager"),
    "one convolution, eager": one_convolution("eager"),
}


def variants(device: torch.device) -> dict[str, Variant]:
    """Those to be timed on the device."""
    return VARIANTS if device.type == "cuda" else EAGER


def _geometry(layer: PushPull2d) -> Geometry:
    return place(layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.scale)
