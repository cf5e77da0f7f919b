"""The weather: snow, frost, fog, spatter and brightness. Lengths are pixels of a 32 x 32 image and grow with it."""

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
    gaussian_filter,
    length_scale,
    motion_blur,
    noise_gain,
    to_uint8,
    whole_length,
)
from common_corruptions.recipes.precipitation import lay_snow, snow_layer, spatter_water, whiten
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import corruption

FROST = Path(__file__).parent.parent / "frost"
# The recipe draws one of frost1 .. frost5; frost3 is the same picture as frost2, which therefore comes twice as often.
FROST_PHOTOS = ("frost1.png", "frost2.png", "frost2.png", "frost4.png", "frost5.png")
MUD = (63, 42, 20)


@corruption(
    "snow",
    group="weather",
    constants=(
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
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
) -> np.ndarray:
    """Flakes of thresholded noise, `zoom` pixels wide, blown along an angle from -135 to -45 degrees."""
    scale = length_scale(images)
    flakes = draws.normal("flakes", images.shape[1:3], mean, std)
    layer = snow_layer(flakes, max(zoom * scale, 1.0), threshold)
    angles = draws.uniform("angle", low=-135.0, high=-45.0)
    layer = motion_blur(layer, whole_length(radius, scale), sigma * scale, angles)
    return lay_snow(whiten(images, keep), layer)


@corruption("frost", group="weather", constants=((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)))
def frost(images: np.ndarray, draws: Draws, image_share: float, frost_share: float) -> np.ndarray:
    """A random crop of one of five photographs of frosted glass, added to the image."""
    height, width, channels = images.shape[1:]
    which = draws.integers("photograph", (), len(FROST_PHOTOS))
    place = draws.uniform("place", (2,))
    crops = np.empty(images.shape)
    for i, target in enumerate(crops):
        photo = frost_photo(FROST_PHOTOS[which[i]], height, width, channels)
        top = int(place[i, 0] * (photo.shape[0] - height))
        left = int(place[i, 1] * (photo.shape[1] - width))
        target[:] = photo[top : top + height, left : left + width]
    crops *= frost_share
    crops += image_share * images
    return np.clip(crops, 0.0, 255.0, out=crops).astype(np.uint8)


@functools.lru_cache(maxsize=20)
def frost_photo(name: str, height: int, width: int, channels: int) -> np.ndarray:
    """A photograph at the size at which an image of this size is cropped from it, float64 (h, w, C), 0 to 255.

    The packaged photographs are those for 32 x 32. For other sizes they are resized, and never smaller than the image.
    """
    if not (FROST / name).is_file():
        raise FileNotFoundError(f"{FROST / name} is missing: install the package with its data")
    photo = Image.open(FROST / name).convert("RGB")
    wide, tall = photo.size
    factor = max(min(height, width) / 32, (height + 1) / tall, (width + 1) / wide)
    if factor != 1.0:
        size = (max(round(wide * factor), width + 1), max(round(tall * factor), height + 1))
        photo = photo.resize(size, Image.Resampling.BILINEAR)
    levels = np.asarray(photo, dtype=np.float64)
    return luma(levels.transpose(2, 0, 1))[..., None] if channels == 1 else levels


@corruption("fog", group="weather", constants=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)))
def fog(images: np.ndarray, draws: Draws, amount: float, decay: float) -> np.ndarray:
    """A plasma fractal added to the image, which is then darkened to its former range."""
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
    `decay` each time that the step is halved.
    """
    cells = draws.uniform("plasma", (size, size), low=-1.0, high=1.0)
    cells[:, 0, 0] = 0.0
    step, wobble = size, 100.0
    while step >= 2:
        half = step // 2
        corners = cells[:, ::step, ::step]
        centres = cells[:, half::step, half::step]
        centres *= np.float32(wobble**2)
        across = corners + np.roll(corners, -1, axis=2)
        centres += np.float32(0.25) * (across + np.roll(across, -1, axis=1))
        # The diamonds: a cell between two corners of a row, and one between two corners of a column.
        in_row, in_column = cells[:, ::step, half::step], cells[:, half::step, ::step]
        in_row *= np.float32(wobble**2)
        in_row += np.float32(0.25) * (across + centres + np.roll(centres, 1, axis=1))
        in_column *= np.float32(wobble**2)
        down = corners + np.roll(corners, -1, axis=1)
        in_column += np.float32(0.25) * (down + centres + np.roll(centres, 1, axis=2))
        step, wobble = half, wobble / decay
    cells -= cells.min(axis=(1, 2), keepdims=True)
    cells /= cells.max(axis=(1, 2), keepdims=True)
    return cells


@corruption(
    "spatter",
    group="weather",
    constants=(
        (0.62, 0.1, 0.7, 0.7, 0.5, False),
        (0.65, 0.1, 0.8, 0.7, 0.5, False),
        (0.65, 0.3, 1, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True),
        (0.65, 0.1, 0.5, 0.68, 0.6, True),
    ),
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
) -> np.ndarray:
    """Drops of water of opacity `strength`, or splashes of mud whose outline is smoothed by `strength` pixels."""
    scale = length_scale(images)
    noise = draws.normal("layer", images.shape[1:3], mean, std * noise_gain(sigma, scale))
    layer = gaussian_filter(noise.astype(np.float64), sigma * scale)
    layer[layer < threshold] = 0.0
    if not mud:
        return spatter_water(images, layer, strength, reach=20.0 * scale)
    mask = gaussian_filter((layer > threshold).astype(np.float64), strength * scale)
    mask[mask < 0.8] = 0.0
    unit = to_planes(images) / 255.0
    unit *= 1 - mask
    unit += mask * in_channels(MUD, images.shape[-1])
    return from_planes(to_uint8(unit))


@corruption("brightness", group="weather", constants=((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)))
def brightness(images: np.ndarray, draws: Draws, amount: float) -> np.ndarray:
    """`amount` added to the HSV value; hue and saturation are kept, and black becomes grey."""
    if images.shape[-1] == 1:
        return to_uint8(images / 255.0 + amount)
    hue, saturation, value = to_hsv(images)
    unit = np.clip(value + amount, 0.0, 1.0) * shares_of_value(hue, saturation)
    return from_planes(to_uint8(unit))
