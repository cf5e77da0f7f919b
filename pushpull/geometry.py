"""Sizes and places of the two kernels of a push-pull layer, for one, two or three sides, and of its response."""

import math
import operator
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from pushpull.arguments import NUMBERS

Sides = tuple[int, ...]


class Geometry(NamedTuple):
    """How the two kernels are laid over the input, an entry per side, the vertical before the horizontal."""

    stride: Sides
    padding: Sides
    dilation: Sides
    pull_size: Sides
    pull_padding: Sides  # negative where the pull kernel reaches less far than the push kernel


def pull_size(size: int, scale: float) -> int:
    """Side of the pull kernel for a push kernel of side `size`: `floor(size * scale)`, made odd by adding one.

    A scale of 1 keeps the size. Raises ValueError for a scale that is not a positive finite number, TypeError for what
    is no number.
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
    """An integer for each of `dimensions` sides, `least` or more; `name` is what they are.

    Raises:
        ValueError: another number of them than one or `dimensions`, or a smaller one.
        TypeError: something else than integers.
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
    """The padding in pixels, of which convolutions take two by name: "valid" is none, "same" keeps the size.

    Raises:
        ValueError: another name, "same" with a stride, another number of paddings than sides, a negative one.
        TypeError: something else than integers.
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
    """Raise ValueError for an even kernel: its pull response cannot be given the shape of its push response."""
    if any(size % 2 == 0 for size in kernel_size):
        raise ValueError(f"a push-pull kernel must have odd sides, got {' x '.join(map(str, kernel_size))}")


def place(kernel_size: Sides, stride: Sides, padding: Sides, dilation: Sides, scale: float) -> Geometry:
    """The geometry for a push kernel of `kernel_size`, both kernels centred on the same place of the input.

    The distance of the centres from the corner grows with the dilation; without it in the padding of the pull
    kernel, the two responses of a dilated layer would differ in shape.

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
    """Sides of both responses to an input of these sides; 0 where the push kernel of `kernel_size` finds no place."""
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
