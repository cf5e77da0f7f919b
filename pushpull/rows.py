"""Filter images with the vertical hat functions of a pull kernel, and compute the gradient through this filter.

`pushpull/fast.py` explains why; this module lays out its images and convolutions.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from pushpull.execution import without_modes
from pushpull.geometry import Geometry, Sides, output_layout
from pushpull.layout import channels_last
from pushpull.upsampling import hats

FLAT = 3  # channels up to which oneDNN's convolutions read contiguous images directly

_backward = torch.ops.aten.convolution_backward


def through_pull(gradient: Tensor, kernel: Tensor, images: Tensor, geometry: Geometry) -> Tensor:
    """Gradient of the images, given that of the separable kernel's convolution with the filtered images."""
    out_channels, channels, rows, taps = kernel.shape
    count, _, height, width = images.shape
    # No two rows of the kernel use the same row of the filtered images, so rows can be treated as channels.
    across = kernel.transpose(1, 2).reshape(out_channels, rows * channels, 1, taps)
    (_, stride), (_, padding), (_, dilation) = pull_places(kernel, geometry)
    reach = dilation * (taps - 1) - padding
    if stride == 1 and reach >= 0:  # a correlation with the flipped kernel is faster
        turned = across.transpose(0, 1).flip(3)
        to_rows = F.conv2d(gradient, turned, None, 1, (0, reach), (1, dilation))
    else:
        shape = gradient.new_empty((count, rows * channels, gradient.shape[2], width))
        sides = [1, stride], [0, padding], [1, dilation]
        to_rows = _backward(
            gradient,
            arranged(shape, _layout(images)),
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


def filter_rows(images: Tensor, rows: int, geometry: Geometry) -> Tensor:
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
    """Weights (outputs, rows, height) of the image rows in the `rows` filtered rows of each row of the response.

    They are `rows` hat functions over the side of the pull kernel.
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


def push_places(geometry: Geometry) -> tuple[Sides, Sides, Sides]:
    """Stride, padding and dilation of the push convolution."""
    return geometry.stride, geometry.padding, geometry.dilation


def pull_places(kernel: Tensor, geometry: Geometry) -> tuple[Sides, Sides, Sides]:
    """Stride, padding and dilation of the convolution of the filtered images with the separable kernel."""
    return (kernel.shape[2], geometry.stride[1]), (0, geometry.pull_padding[1]), (1, geometry.dilation[1])


def layout_inside(input: Tensor, weight: Tensor) -> torch.memory_format:
    """The layout used for all computations: channels last, unless oneDNN reads contiguous images directly."""
    return torch.channels_last if input.shape[1] > FLAT else output_layout(input, weight)


def _layout(images: Tensor) -> torch.memory_format:
    return output_layout(images, images)


def arranged(images: Tensor, layout: torch.memory_format) -> Tensor:
    return channels_last(images) if layout == torch.channels_last else images.contiguous()
