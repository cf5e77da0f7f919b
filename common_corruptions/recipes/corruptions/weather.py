"""The weather corruptions: snow, frost, fog, spatter and brightness. Lengths are in pixels.

At the scale of CIFAR-10-C, snow, frost and spatter on a larger image are made at the published size and enlarged.
"""

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from common_corruptions.recipes.colour import (
    from_planes,
    in_channels,
    luma,
    shares_of_value,
    to_hsv,
    to_planes,
)
from common_corruptions.recipes.filters import (
    enlarged,
    gaussian_filter,
    motion_blur,
    to_uint8,
)
from common_corruptions.recipes.precipitation import lay_snow, lay_water, snow_layer, water_mask, whiten
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import corruption

FROST = Path(__file__).parent.parent / "frost"
# The recipe draws one of frost1 .. frost5; frost3 is the same picture as frost2, which is therefore twice as frequent.
FROST_PHOTOS = ("frost1.png", "frost2.png", "frost2.png", "frost4.jpg", "frost5.jpg")
MUD = (63, 42, 20)


def _coarser(factor: float, *constants: float) -> tuple[float, ...]:
    """Constants for a larger image; the last one is the size of a pixel of the layer, in pixels of the image."""
    return (*constants[:-1], factor * constants[-1])


def _coarse(images: np.ndarray, unit: float) -> tuple[int, int]:
    """Rows and columns of a layer whose pixels are `unit` pixels of the image wide and high."""
    height, width = images.shape[1:3]
    return max(1, round(height / unit)), max(1, round(width / unit))


def _at_size(layer: np.ndarray, images: np.ndarray) -> np.ndarray:
    """A layer (N, h, w) at the size of images (N, H, W, C)."""
    return layer if layer.shape == images.shape[:3] else enlarged(layer, *images.shape[1:3])


@corruption(
    "snow",
    group="weather",
    constants=(
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95, 1),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9, 1),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9, 1),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85, 1),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8, 1),
    ),
    imagenet=(
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8, 1),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7, 1),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7, 1),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65, 1),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55, 1),
    ),
    resized=_coarser,
)
def snow(
    images: np.ndarray,
    draws: Draws,
    mean: float,
    std: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    keep: float,
    unit: float,
) -> np.ndarray:
    """Flakes of thresholded noise, `zoom` pixels wide, blurred along an angle from -135 to -45 degrees.

    A pixel of the layer of flakes is `unit` pixels of the image wide and high.
    """
    flakes = draws.normal("flakes", _coarse(images, unit), mean, std)
    layer = snow_layer(flakes, zoom, threshold)
    layer = motion_blur(layer, radius, sigma, draws.uniform("angle", low=-135.0, high=-45.0))
    return lay_snow(whiten(images, keep), _at_size(layer, images))


@corruption(
    "frost",
    group="weather",
    constants=((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
    imagenet=((1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)),
    resized=_coarser,
)
def frost(
    images: np.ndarray, draws: Draws, image_share: float, frost_share: float, factor: float
) -> np.ndarray:
    """A random crop of one of five photographs of frosted glass, `factor` times as large, added to the image."""
    height, width, channels = images.shape[1:]
    which = draws.integers("photograph", (), len(FROST_PHOTOS))
    place = draws.uniform("place", (2,))
    crops = np.empty(images.shape)
    for i, target in enumerate(crops):
        photo = frost_photo(FROST_PHOTOS[which[i]], factor, height, width, channels)
        top = int(place[i, 0] * (photo.shape[0] - height))
        left = int(place[i, 1] * (photo.shape[1] - width))
        target[:] = photo[top : top + height, left : left + width]
    crops *= frost_share
    crops += image_share * images
    return np.clip(crops, 0.0, 255.0, out=crops).astype(np.uint8)


@functools.lru_cache(maxsize=20)
def frost_photo(name: str, factor: float, height: int, width: int, channels: int) -> np.ndarray:
    """A photograph scaled by `factor`, or by more to exceed an image of this size; (h, w, C), 0 to 255.

    uint8, but float64 in one channel.
    """
    if not (FROST / name).is_file():
        raise FileNotFoundError(f"{FROST / name} is missing: install the package with its data")
    photo = Image.open(FROST / name).convert("RGB")
    wide, tall = photo.size
    factor = max(factor, (height + 1) / tall, (width + 1) / wide)
    if factor == 0.2:  # every fifth pixel, as OpenCV shrinks without smoothing
        levels = np.asarray(photo)[2::5, 2::5]
    elif factor == 1:
        levels = np.asarray(photo)
    else:
        size = (max(round(wide * factor), width + 1), max(round(tall * factor), height + 1))
        levels = np.asarray(photo.resize(size, Image.Resampling.BILINEAR))
    return luma(levels.transpose(2, 0, 1).astype(np.float64))[..., None] if channels == 1 else levels


@corruption(
    "fog",
    group="weather",
    constants=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    imagenet=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
)
def fog(images: np.ndarray, draws: Draws, amount: float, decay: float) -> np.ndarray:
    """A plasma fractal added to the image, which is then darkened to its original range."""
    height, width = images.shape[1:3]
    plasma = plasma_fractal(draws, 1 << (max(height, width) - 1).bit_length(), decay)
    brightest = images.reshape(len(images), -1).max(axis=1)[:, None, None] / 255.0
    unit = to_planes(images) / 255.0
    unit += amount * plasma[:, :height, :width].astype(np.float64)
    unit *= brightest
    unit /= brightest + amount
    return from_planes(to_uint8(unit))


def plasma_fractal(draws: Draws, size: int, decay: float) -> np.ndarray:
    """Diamond-square clouds on a torus of `size` (a power of two) pixels a side, float32 (N, size, size) in [0, 1].

    A cell is the mean of four neighbours plus wobble * U(-wobble, wobble); the wobble starts at 100 and is divided by
    `decay` each time the step is halved.
    """
    cells = draws.uniform("plasma", (size, size), low=-1.0, high=1.0)
    cells[:, 0, 0] = 0.0
    step, wobble = size, 100.0
    while step >= 2:
        half = step // 2
        corners = cells[:, ::step, ::step]
        centres = cells[:, half::step, half::step]
        centres *= np.float32(wobble**2)
        across = corners + _rolled(corners, 1, axis=2)
        centres += np.float32(0.25) * (across + _rolled(across, 1, axis=1))
        # The diamonds: a cell between two corners of a row, and one between two corners of a column.
        in_row, in_column = cells[:, ::step, half::step], cells[:, half::step, ::step]
        in_row *= np.float32(wobble**2)
        in_row += np.float32(0.25) * (across + centres + _rolled(centres, -1, axis=1))
        in_column *= np.float32(wobble**2)
        down = corners + _rolled(corners, 1, axis=1)
        in_column += np.float32(0.25) * (down + centres + _rolled(centres, -1, axis=2))
        step, wobble = half, wobble / decay
    cells -= cells.min(axis=(1, 2), keepdims=True)
    cells /= cells.max(axis=(1, 2), keepdims=True)
    return cells


def _rolled(cells: np.ndarray, first: int, axis: int) -> np.ndarray:
    """Cells (N, H, W) on a torus, beginning with the one of index `first`; faster than `np.roll` on small arrays."""
    parts = (cells[:, first:], cells[:, :first]) if axis == 1 else (cells[..., first:], cells[..., :first])
    return np.concatenate(parts, axis)


@corruption(
    "spatter",
    group="weather",
    constants=(
        (0.62, 0.1, 0.7, 0.7, 0.5, False, 1),
        (0.65, 0.1, 0.8, 0.7, 0.5, False, 1),
        (0.65, 0.3, 1, 0.69, 0.5, False, 1),
        (0.65, 0.1, 0.7, 0.69, 0.6, True, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, True, 1),
    ),
    imagenet=(
        (0.65, 0.3, 4, 0.69, 0.6, False, 1),
        (0.65, 0.3, 3, 0.68, 0.6, False, 1),
        (0.65, 0.3, 2, 0.68, 0.5, False, 1),
        (0.65, 0.3, 1, 0.65, 1.5, True, 1),
        (0.67, 0.4, 1, 0.65, 1.5, True, 1),
    ),
    resized=_coarser,
)
def spatter(
    images: np.ndarray,
    draws: Draws,
    mean: float,
    std: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: bool,
    unit: float,
) -> np.ndarray:
    """Drops of water of opacity `strength`, or splashes of mud whose outline is smoothed by `strength` pixels.

    A pixel of the layer is `unit` pixels of the image wide and high.
    """
    noise = draws.normal("layer", _coarse(images, unit), mean, std)
    layer = gaussian_filter(noise.astype(np.float64), sigma)
    layer[layer < threshold] = 0.0
    if not mud:
        mask, dry = water_mask(layer, strength)
        return lay_water(images, _at_size(mask, images), dry)
    mask = gaussian_filter((layer > threshold).astype(np.float64), strength)
    mask[mask < 0.8] = 0.0
    mask = _at_size(mask, images)
    unit_planes = to_planes(images) / 255.0
    unit_planes *= 1 - mask
    unit_planes += mask * in_channels(MUD, images.shape[-1])
    return from_planes(to_uint8(unit_planes))


@corruption(
    "brightness",
    group="weather",
    constants=((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
    imagenet=((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
)
def brightness(images: np.ndarray, draws: Draws, amount: float) -> np.ndarray:
    """Add `amount` to the HSV value; hue and saturation are kept, and black becomes grey."""
    if images.shape[-1] == 1:
        return to_uint8(images / 255.0 + amount)
    hue, saturation, value = to_hsv(images)
    unit = np.clip(value + amount, 0.0, 1.0) * shares_of_value(hue, saturation)
    return from_planes(to_uint8(unit))
