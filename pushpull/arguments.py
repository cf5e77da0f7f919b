"""Arguments of a push-pull response besides its kernels (alpha, rectifier, form of the pull), and their checks."""

import math
import numbers
import operator
from collections.abc import Callable

import torch
from torch import Tensor

Rectifier = str | Callable[[Tensor], Tensor]
NUMBERS = (numbers.Real, torch.SymFloat, torch.SymInt)  # torch.export passes the last two in place of numbers

# In place, as nothing else holds the responses: allocating a tensor of that size costs more than the rectification.
RECTIFIERS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "tanh": torch.tanh_}

PULLS = ("upsampled", "complementary")
SCALE = 2.0  # default upsampling factor of the pull kernel


def check_alpha(alpha: float | Tensor, out_channels: int) -> None:
    """Raise ValueError unless `alpha` is a finite number >= 0, or a tensor of one or `out_channels` values.

    Raise TypeError for any other type. The values of a tensor are not checked: that would wait for the GPU.
    """
    if isinstance(alpha, Tensor):
        if alpha.ndim > 0 and alpha.shape != (out_channels,):
            raise ValueError(
                f"alpha must be a number or a tensor of shape ({out_channels},), got {tuple(alpha.shape)}"
            )
    elif isinstance(alpha, bool) or not isinstance(alpha, NUMBERS):
        raise TypeError(f"alpha must be a number or a tensor of shape ({out_channels},), got {alpha!r}")
    elif not 0 <= alpha < math.inf:  # false for nan; torch.compile cannot follow math.isfinite
        raise ValueError(f"alpha must be a finite number >= 0, got {alpha}")


def rectifier_function(rectifier: Rectifier) -> Callable[[Tensor], Tensor]:
    """Return the function that `rectifier` names, or `rectifier` itself if callable; ValueError for an unknown name."""
    if callable(rectifier):
        return rectifier
    if rectifier not in RECTIFIERS:
        raise ValueError(f"rectifier must be a function or one of {', '.join(RECTIFIERS)}, got {rectifier!r}")
    return RECTIFIERS[rectifier]


def check_pull(pull: str, scale: float, average_size: int, dual_output: bool, bias: bool) -> None:
    """Raise ValueError for an unknown pull, a bad average size, or an option that this pull would silently ignore.

    Raise TypeError if `average_size` is not an integer.
    """
    if pull not in PULLS:
        raise ValueError(f"pull must be one of {', '.join(PULLS)}, got {pull!r}")
    try:
        size = operator.index(average_size)
    except TypeError:
        raise TypeError(f"average_size must be an integer, got {average_size!r}") from None
    if size < 0 or (size > 0 and size % 2 == 0):
        raise ValueError(f"average_size must be 0 or an odd number of pixels, got {size}")
    if pull == "upsampled":
        if size > 0:
            raise ValueError(f'average_size={size} needs pull="complementary"; the upsampled pull has none')
    elif scale != SCALE:
        raise ValueError(f'scale={scale} needs pull="upsampled"; the complementary kernel has the push size')
    elif dual_output and bias:
        raise ValueError(
            'pull="complementary" adds the bias after the subtraction, which dual_output omits; leave out bias'
        )
