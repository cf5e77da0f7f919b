"""Sizes and positions of the two kernels of a push-pull layer and of its response, for one, two or three sides."""

import math
import operator
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from pushpull.arguments import NUMBERS

Sides = tuple[int, ...]


class Geometry(NamedTuple):
    """How the two kernels are applied to the input, one entry per side, vertical before horizontal."""

    stride: Sides
    padding: Sides
    dilation: Sides
    pull_size: Sides
    pull_padding: Sides  # negative where the pull kernel is smaller than the push kernel


def pull_size(size: int, scale: float) -> int:
    """Side of the pull kernel for a push kernel of side `size`: `floor(size * scale)`, plus one if that is even.

    A scale of 1 keeps the size. Raises ValueError for a scale that is not a positive finite number, TypeError for one
    that is not a number.
    """
    if not isinstance(scale, NUMBERS):
        raise TypeError(f"scale must be a number, got {scale!r}")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be a positive number, got {scale}")
    if scale == 1:
        return size
    size = math.floor(size * scale)
    return size if size % 2 else size + 1


def pull_sizes(sides: Sides, scale: float) -> Sides:
    """`pull_size` of every side."""
    return tuple(pull_size(side, scale) for side in sides)


def check_sides(name: str, value: int | Sides, dimensions: int, least: int = 1) -> Sides:
    """Return `value` as one integer for each of `dimensions` sides; error messages call it `name`.

    Raises:
        ValueError: not one or `dimensions` integers, or one below `least`.
        TypeError: values that are not integers.
    """
    values = tuple(value) if isinstance(value, Iterable) else (value,) * dimensions
    if len(values) != dimensions:
        raise ValueError(f"{name} must be an integer or {dimensions} integers, got {value}")
    try:
        sides = tuple(map(operator.index, values))
    except TypeError:
        raise TypeError(f"{name} must be an integer or {dimensions} integers, got {value!r}") from None
    if any(side < least for side in sides):
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return sides


def numeric_padding(padding: int | Sides | str, kernel_size: Sides, stride: Sides, dilation: Sides) -> Sides:
    """Return the padding in pixels; the name "valid" means no padding, "same" one that keeps the size.

    Raises:
        ValueError: an unknown name, "same" with a stride, not one padding or one per side, a negative padding.
        TypeError: values that are not integers.
    """
    if padding == "valid":
        return (0,) * len(kernel_size)
    if padding == "same":
        if set(stride) != {1}:
            raise ValueError('padding="same" has no meaning with a stride')
        return tuple(d * (size // 2) for d, size in zip(dilation, kernel_size, strict=True))
    if isinstance(padding, str):
        raise ValueError(f'padding must be a number of pixels, "same" or "valid", got {padding!r}')
    return check_sides("padding", padding, len(kernel_size), least=0)


def check_odd(kernel_size: Sides) -> None:
    """Raise ValueError for an even kernel, whose pull and push responses could not have the same shape."""
    if any(size % 2 == 0 for size in kernel_size):
        raise ValueError(f"a push-pull kernel must have odd sides, got {' x '.join(map(str, kernel_size))}")


def place(kernel_size: Sides, stride: Sides, padding: Sides, dilation: Sides, scale: float) -> Geometry:
    """The geometry for a push kernel of `kernel_size`, with both kernels centred on the same position of the input.

    The distance of a kernel's centre from its corner grows with the dilation. The padding of the pull kernel includes
    this, as the two responses of a dilated layer would otherwise differ in shape.

    Raises:
        ValueError: an even kernel, or a scale that is not a positive number.
    """
    check_odd(kernel_size)
    sizes = pull_sizes(kernel_size, scale)
    pull_padding = tuple(
        p + d * (large // 2 - small // 2)
        for p, d, large, small in zip(padding, dilation, sizes, kernel_size, strict=True)
    )
    return Geometry(stride, padding, dilation, sizes, pull_padding)


def output_size(size: Sides, kernel_size: Sides, geometry: Geometry) -> Sides:
    """Sides of both responses to an input of sides `size`; 0 where the push kernel of `kernel_size` does not fit."""
    return tuple(
        max((side + 2 * p - d * (k - 1) - 1) // s + 1, 0)
        for side, k, s, p, d in zip(
            size, kernel_size, geometry.stride, geometry.padding, geometry.dilation, strict=True
        )
    )


def output_layout(input: Tensor, weight: Tensor) -> torch.memory_format:
    """The layout that conv2d would choose for its output."""
    for tensor in (input, weight):
        if tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous():
            return torch.channels_last
    return torch.contiguous_format
