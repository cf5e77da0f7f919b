"""The 19 corruptions at two published scales, CIFAR-10-C's and ImageNet-C's (Hendrycks and Dietterich, ICLR 2019).

`corrupt` follows the publication, including its quirks (glass blur's exchange, truncation instead of rounding), at the
scale "cifar" for 32 x 32 x 3 and at "imagenet" for 224 x 224 x 3. ImageNet-C's files were then compressed as JPEG of
quality 85, which is left out. Everything beyond is our extension: one channel, where a colour is reduced to its luma,
and other sizes. There, ImageNet-C's constants are used as they are, in pixels. CIFAR-10-C's lengths grow with the
shorter side, so that the picture is corrupted in proportion (shares, counts and the blocks of JPEG do not grow).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from common_corruptions.checks import check_images, check_seed, check_severity
from common_corruptions.raising import reason, where
from common_corruptions.recipes.corruptions import blur, digital, noise, weather  # noqa: F401 (declare the 19)
from common_corruptions.recipes.names import CORRUPTIONS
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import recipe
from common_corruptions.recipes.scales import scale_of

BLOCK_VALUES = 1 << 16  # values processed at a time: as float64 they fit the cache
AT_LEAST = {"zoom_blur": 16}  # images at a time, if data larger than the images is read once for all of them


def corrupt(
    images: np.ndarray,
    name: str,
    severity: int = 3,
    seed: int = 0,
    *,
    start: int = 0,
    scale: str | None = None,
) -> np.ndarray:
    """Corrupt images as in CIFAR-10-C or ImageNet-C.

    Args:
        images: uint8 (N, H, W, C), sides of 16 to 1024 pixels, C 1 or 3 (RGB).
        name: one of `common_corruptions.CORRUPTIONS`, or one declared with `common_corruptions.corruption`.
        severity: 1 (weakest) to 5.
        seed: any integer. The seed, the corruption, the severity and the image's index decide an image's noise.
        start: index of the first image in its data set. Corrupting a data set in parts gives the same images as
            corrupting it at once.
        scale: whose constants to use, "cifar" or "imagenet"; by default "cifar" up to 64 pixels a side, else
            "imagenet".

    Returns:
        uint8 of the same shape.

    Raises:
        TypeError: images that are not a uint8 array; a seed or start that is not an integer.
        ValueError: an unknown name (the nearest is suggested) or scale; a shape, severity or start out of range; a
            corruption of your own that raises, or returns anything but uint8 images of the same shape.
    """
    check_images(images)
    made_by = recipe(name)
    check_severity(severity)
    check_seed(seed, start)
    scale = scale_of(scale, *images.shape[1:3])
    with _naming(name):
        constants = made_by.at(scale, severity, *images.shape[1:3])
    out = np.empty(images.shape, dtype=np.uint8)
    step = max(AT_LEAST.get(name, 1), BLOCK_VALUES // max(1, images[:1].size))
    for first in range(0, len(images), step):
        block = np.ascontiguousarray(images[first : first + step]).view()
        block.flags.writeable = False  # it may be the caller's own array
        draws = Draws(int(seed), ("corruption", name, int(severity)), int(start) + first, len(block))
        with _naming(name):
            made = made_by.function(block, draws, *constants)
        _check_made(made, name, block.shape)
        out[first : first + step] = made
    return out


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Add to errors of your own corruptions which one raised, and where."""
    try:
        yield
    except Exception as error:
        if name in CORRUPTIONS:
            raise
        raise ValueError(f"the corruption {name} raises {reason(error)} ({where(error)})") from error


def _check_made(made: np.ndarray, name: str, shape: tuple[int, ...]) -> None:
    if not isinstance(made, np.ndarray):
        raise ValueError(
            f"{name} must return an array of uint8 {shape}, like its input, not {type(made).__name__}"
        )
    if made.dtype != np.uint8 or made.shape != shape:
        raise ValueError(f"{name} must return uint8 {shape}, like its input, not {made.dtype} {made.shape}")
