"""The 19 corruptions of CIFAR-10-C (Hendrycks and Dietterich, ICLR 2019), for any small images.

The publication defines them for 32 x 32 x 3; there, `corrupt` follows it, accidents included (glass blur's exchange,
truncation instead of rounding). What goes beyond is our extension: other sizes, from 8 to 256 pixels, and one channel.
With the shorter side grow the constants that are lengths in pixels (not shares, counts, 3 x 3 stencils or the blocks of
JPEG) and the noise that such a length smooths, so that drops and displacements keep their place in the picture. In one
channel, a colour counts as its luma.
"""

import numpy as np

from common_corruptions.checks import check_images, check_seed, check_severity
from common_corruptions.recipes.corruptions import blur, digital, noise, weather  # noqa: F401 (declare the 19)
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import recipe

BLOCK_VALUES = 1 << 16  # values worked on at a time: as float64 they fit the cache


def corrupt(images: np.ndarray, name: str, severity: int = 3, seed: int = 0, *, start: int = 0) -> np.ndarray:
    """Corrupt images as CIFAR-10-C was made.

    Args:
        images: uint8 (N, H, W, C), sides of 8 to 256 pixels, C 1 or 3 (RGB).
        name: one of `common_corruptions.CORRUPTIONS`, or one declared with `common_corruptions.corruption`.
        severity: 1 (weakest) to 5.
        seed: any integer. The seed, the corruption, the severity and the image's index decide an image's noise.
        start: index of the first image in its data set; a set corrupted in parts is the same as one done at once.

    Returns:
        uint8 of the same shape.

    Raises:
        TypeError: images that are not a uint8 array; a seed or start that is not an integer.
        ValueError: an unknown name (the nearest is suggested), a shape, severity or start out of range; a corruption of
            your own that returns anything but uint8 images of the same shape.
    """
    check_images(images)
    made_by = recipe(name)
    check_severity(severity)
    check_seed(seed, start)
    out = np.empty(images.shape, dtype=np.uint8)
    step = max(1, BLOCK_VALUES // max(1, images[:1].size))
    for first in range(0, len(images), step):
        block = np.ascontiguousarray(images[first : first + step]).view()
        block.flags.writeable = False  # it may be the caller's own array
        draws = Draws(int(seed), ("corruption", name, int(severity)), int(start) + first, len(block))
        made = made_by.function(block, draws, *made_by.constants[severity - 1])
        _check_made(made, name, block.shape)
        out[first : first + step] = made
    return out


def _check_made(made: np.ndarray, name: str, shape: tuple[int, ...]) -> None:
    if not isinstance(made, np.ndarray):
        raise ValueError(
            f"{name} must return an array of uint8 {shape}, as it was given, not {type(made).__name__}"
        )
    if made.dtype != np.uint8 or made.shape != shape:
        raise ValueError(f"{name} must return uint8 {shape}, as it was given, not {made.dtype} {made.shape}")
