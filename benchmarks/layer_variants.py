"""Ways to compute the push-pull layer on a GPU, all with the same result, to be timed against each other.

Each takes the images (N, C, H, W) and a `PushPull2d` of a kernel with odd sides, one group, relu and one alpha, and
returns its response. One that the device cannot run raises, and the benchmark notes why.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

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
    "two convolutions, nvrtc": two_convolutions("nvrtc"),
    "two convolutions, triton": two_convolutions("triton"),
    "one convolution, nvrtc": one_convolution("nvrtc"),
    "one convolution, triton": one_convolution("triton"),
    "triton": triton_path,
}
EAGER: dict[str, Variant] = {  # what the variants compute, for a device that has no compiler of kernels
    "textbook": textbook,
    "plain": plain,
    "two convolutions, eager": two_convolutions("eager"),
    "one convolution, eager": one_convolution("eager"),
}


def variants(device: torch.device) -> dict[str, Variant]:
    """Those to be timed on the device."""
    return VARIANTS if device.type == "cuda" else EAGER


def _geometry(layer: PushPull2d) -> Geometry:
    return place(layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.scale)
