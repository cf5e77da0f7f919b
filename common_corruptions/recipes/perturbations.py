"""The 14 perturbations of CIFAR-10-P and the stronger variants of its three noises, batched over images.

A perturbation turns an image into a short sequence, over which a robust network keeps its prediction. The
published recipes (Hendrycks and Dietterich, *Benchmarking neural network robustness to common corruptions and
perturbations*, ICLR 2019) are for images of 32 x 32 x 3. Other sizes and one channel are our extension: lengths
in pixels (the width of a blur, the step of a translation, the fall of a drop) grow with the image; angles and
ratios stay the same.
"""

import functools
import math
from collections.abc import Callable

import numpy as np

from common_corruptions.checks import check_images, check_name, check_seed
from common_corruptions.recipes.colour import from_planes, shares_of_value, to_hsv
from common_corruptions.recipes.filters import (
    gaussian_filter,
    length_scale,
    motion_blur,
    noise_gain,
    to_uint8,
    whole_length,
)
from common_corruptions.recipes.names import FRAMES
from common_corruptions.recipes.noise import add_noise, gaussian_table, shot_table, speckle_table
from common_corruptions.recipes.precipitation import lay_snow, lay_water, snow_layer, water_mask, whiten
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.warps import geometric_frames

PERTURBED_LARGEST = 256  # pixels a side
BLOCK_BYTES = 1 << 17  # images worked on at a time: the float temporaries of one frame then stay in the cache

Recipe = Callable[[np.ndarray, Draws, np.ndarray], None]
"""Takes images (n, H, W, C) and their draws, and fills the sequences (n, T, H, W, C); all uint8."""


def perturb(images: np.ndarray, name: str, seed: int = 0, *, start: int = 0) -> np.ndarray:
    """Make one perturbation sequence from each image.

    The random draws for an image depend only on `seed`, `name` and the index of the image in its data set: a
    set made in blocks, each with its `start`, equals one made at once.

    Args:
        images: uint8 (N, H, W, C), 16 to 256 pixels a side, square or not; C is 3 (RGB) or 1. A memory map
            is read block by block.
        name: one of `PERTURBATIONS` or `NOISE_VARIANTS`.
        seed: any integer.
        start: index of the first image in its data set.

    Returns:
        uint8 (N, T, H, W, C); T is 31, except 21 for motion_blur and 16 for translate. One frame is the image
        itself in the noises and zoom_blur (the first), translate (the 8th), rotate, scale and shear (the 16th).

    Raises:
        TypeError: images that are not a uint8 array, or a seed or start that is not an integer.
        ValueError: images of another shape, an unknown name, a negative start.
    """
    check_name(name, FRAMES, "perturbation")
    check_images(images, largest=PERTURBED_LARGEST)
    check_seed(seed, start)
    sequences = np.empty((len(images), FRAMES[name], *images.shape[1:]), dtype=np.uint8)
    block = max(1, BLOCK_BYTES // math.prod(images.shape[1:]))
    for first in range(0, len(images), block):
        part = np.ascontiguousarray(images[first : first + block])
        draws = Draws(int(seed), ("perturbation", name), int(start) + first, len(part))
        RECIPES[name](part, draws, sequences[first : first + block])
    return sequences


def frames_of_noise(
    images: np.ndarray, draws: Draws, out: np.ndarray, table: Callable[[], np.ndarray]
) -> None:
    """The image, then the image with new noise in each frame."""
    out[:, 0] = images
    for frame in range(1, out.shape[1]):
        out[:, frame] = add_noise(images, table(), draws.words(f"frame {frame}", images.shape[1:]))


def turning_motion_blur(images: np.ndarray, draws: Draws, out: np.ndarray) -> None:
    """Motion blur of radius 6 and sigma 1.8 whose direction turns by 9 degrees per frame, from -180 to 0."""
    scale = length_scale(images)
    for frame in range(out.shape[1]):
        out[:, frame] = motion_blur(images, whole_length(6, scale), 1.8 * scale, 9 * (frame - 20))


def growing_zoom_blur(images: np.ndarray, draws: Draws, out: np.ndarray) -> None:
    """Frame i is the mean of the image and its zooms by 1.004 to 1 + 0.004 i, each an 8-bit image."""
    geometric_frames(images, "zoom_blur", out)
    total = np.zeros(images.shape, dtype=np.float32)
    for frame in range(out.shape[1]):  # in the order and precision of the published script
        total += out[:, frame] / np.float32(255)
        out[:, frame] = to_uint8(total / np.float32(frame + 1))


def growing_gaussian_blur(images: np.ndarray, draws: Draws, out: np.ndarray) -> None:
    """Gaussian blur whose sigma grows from 0.3 pixels by 0.015 per frame."""
    unit = images / 255.0
    for frame in range(out.shape[1]):
        sigma = (0.3 + 0.015 * frame) * length_scale(images)
        out[:, frame] = to_uint8(gaussian_filter(unit, sigma, truncate=7.0))


def drifting_snow(images: np.ndarray, draws: Draws, out: np.ndarray) -> None:
    """One layer of flakes over a whitened image; the direction of its motion blur turns by 4 degrees per frame."""
    scale = length_scale(images)
    noise = draws.normal("flakes", images.shape[1:3], mean=0.05, std=0.3)
    whitened = whiten(images, keep=0.85)
    flakes = snow_layer(noise, zoom=max(2 * scale, 1.0), threshold=0.5)
    for frame in range(out.shape[1]):
        layer = motion_blur(flakes, whole_length(10, scale), 2 * scale, 4 * frame - 150)
        out[:, frame] = lay_snow(whitened, layer)


def running_spatter(images: np.ndarray, draws: Draws, out: np.ndarray) -> None:
    """One layer of water, which runs down by 0.8 pixels per frame."""
    scale = length_scale(images)
    noise = draws.normal("drops", images.shape[1:3], mean=0.6, std=0.265 * noise_gain(1.75, scale))
    layer = gaussian_filter(noise.astype(np.float64), 1.75 * scale)
    layer[layer < 0.7] = 0.0
    fall = 0.8 * scale
    whole, part = int(fall), fall % 1
    for frame in range(out.shape[1]):
        out[:, frame] = lay_water(images, *water_mask(layer, 0.6, reach=20 * scale))
        layer = (1 - part) * _moved_down(layer, whole) + part * _moved_down(layer, whole + 1)


def brightening(images: np.ndarray, draws: Draws, out: np.ndarray) -> None:
    """The HSV value changes by 0.015 per frame, from -0.225 to 0.225."""
    if images.shape[-1] == 1:
        value, shares = images[..., 0] / 255.0, np.ones((1, 1, 1, 1))  # grey
    else:
        hue, saturation, value = to_hsv(images)
        shares = shares_of_value(hue, saturation)
    for frame in range(out.shape[1]):
        changed = np.clip(value + 1.5 * (frame - 15) / 100, 0.0, 1.0)
        out[:, frame] = from_planes(to_uint8(changed * shares))


def _moved_down(layer: np.ndarray, rows: int) -> np.ndarray:
    """Images (N, H, W) moved down by `rows`, with zeros above."""
    moved = np.zeros_like(layer)
    moved[:, rows:] = layer[:, : layer.shape[1] - rows]
    return moved


def _geometric(name: str) -> Recipe:
    return lambda images, draws, out: geometric_frames(images, name, out)


RECIPES: dict[str, Recipe] = {
    "gaussian_noise": functools.partial(frames_of_noise, table=lambda: gaussian_table(0.02)),
    "gaussian_noise_2": functools.partial(frames_of_noise, table=lambda: gaussian_table(0.04)),
    "gaussian_noise_3": functools.partial(frames_of_noise, table=lambda: gaussian_table(0.06)),
    "shot_noise": functools.partial(frames_of_noise, table=lambda: shot_table(700)),
    "shot_noise_2": functools.partial(frames_of_noise, table=lambda: shot_table(400)),
    "shot_noise_3": functools.partial(frames_of_noise, table=lambda: shot_table(200)),
    "speckle_noise": functools.partial(frames_of_noise, table=lambda: speckle_table(0.05)),
    "speckle_noise_2": functools.partial(frames_of_noise, table=lambda: speckle_table(0.07)),
    "speckle_noise_3": functools.partial(frames_of_noise, table=lambda: speckle_table(0.1)),
    "motion_blur": turning_motion_blur,
    "zoom_blur": growing_zoom_blur,
    "gaussian_blur": growing_gaussian_blur,
    "snow": drifting_snow,
    "spatter": running_spatter,
    "brightness": brightening,
    **{name: _geometric(name) for name in ("translate", "rotate", "tilt", "scale", "shear")},
}
"""How each is made; the keys are those of `FRAMES`."""
