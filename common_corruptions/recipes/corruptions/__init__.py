"""The 19 corruptions of CIFAR-10-C (Hendrycks and Dietterich, ICLR 2019), for any small images.

The publication defines them for 32 x 32 x 3; there, `corrupt` follows it, accidents included (glass blur's exchange,
truncation instead of rounding). What goes beyond is our extension: other sizes, from 8 to 256 pixels, and one channel.
With the shorter side grow the constants that are lengths in pixels (not shares, counts, 3 x 3 stencils or the blocks of
JPEG) and the noise that such a length smooths, so that drops and displacements keep their place in the picture. In one
channel, a colour counts as its luma.
"""

from collections.abc import Callable

import numpy as np

from common_corruptions.checks import check_images, check_name, check_seed, check_severity
from common_corruptions.recipes.corruptions import blur, digital, noise, weather
from common_corruptions.recipes.names import CORRUPTIONS
from common_corruptions.recipes.random import Draws

BLOCK_VALUES = 1 << 16  # values worked on at a time: as float64 they fit the cache

# Each corruption with its constants for severities 1 to 5.
RECIPES: dict[str, tuple[Callable[..., np.ndarray], tuple[tuple[float, ...], ...]]] = {
    "gaussian_noise": (noise.gaussian_noise, ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,))),
    "shot_noise": (noise.shot_noise, ((500,), (250,), (100,), (75,), (50,))),
    "impulse_noise": (noise.impulse_noise, ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,))),
    "speckle_noise": (noise.speckle_noise, ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,))),
    "defocus_blur": (blur.defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": (blur.glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))),
    "motion_blur": (blur.motion_blur_at_random, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": (blur.zoom_blur, ((1.06,), (1.11,), (1.16,), (1.21,), (1.26,))),
    "gaussian_blur": (blur.gaussian_blur, ((0.4,), (0.6,), (0.7,), (0.8,), (1,))),
    "snow": (
        weather.snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "frost": (weather.frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "fog": (weather.fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "spatter": (
        weather.spatter,
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
    ),
    "brightness": (weather.brightness, ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,))),
    "contrast": (digital.contrast, ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,))),
    "elastic_transform": (
        digital.elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": (digital.pixelate, ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,))),
    "jpeg_compression": (digital.jpeg_compression, ((80,), (65,), (58,), (50,), (40,))),
    "saturate": (digital.saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))),
}


def corrupt(images: np.ndarray, name: str, severity: int = 3, seed: int = 0, *, start: int = 0) -> np.ndarray:
    """Corrupt images as CIFAR-10-C was made.

    Args:
        images: uint8 (N, H, W, C), sides of 8 to 256 pixels, C 1 or 3 (RGB).
        name: one of `common_corruptions.CORRUPTIONS`.
        severity: 1 (weakest) to 5.
        seed: any integer. The seed, the corruption, the severity and the image's index decide an image's noise.
        start: index of the first image in its data set; a set corrupted in parts is the same as one done at once.

    Returns:
        uint8 of the same shape.

    Raises:
        TypeError: images that are not a uint8 array; a seed or start that is not an integer.
        ValueError: an unknown name (the nearest is suggested), a shape, severity or start out of range.
    """
    check_images(images)
    check_name(name, CORRUPTIONS, "corruption")
    check_severity(severity)
    check_seed(seed, start)
    function, constants = RECIPES[name]
    out = np.empty(images.shape, dtype=np.uint8)
    step = max(1, BLOCK_VALUES // max(1, images[:1].size))
    for first in range(0, len(images), step):
        block = np.ascontiguousarray(images[first : first + step])
        draws = Draws(int(seed), ("corruption", name, int(severity)), int(start) + first, len(block))
        out[first : first + step] = function(block, draws, *constants[severity - 1])
    return out
