"""Contrast, elastic transform, pixelate, JPEG compression and saturate."""

import functools
import math

import cv2
import numpy as np

from common_corruptions.recipes.boxes import enlarged_by_box, shrunk_by_box
from common_corruptions.recipes.colour import from_planes, luma, shares_of_value, to_hsv, to_planes
from common_corruptions.recipes.filters import noise_gain, smoothing_matrix, to_uint8
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import corruption


@corruption(
    "contrast",
    group="digital",
    constants=((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
    imagenet=((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
)
def contrast(images: np.ndarray, draws: Draws, factor: float) -> np.ndarray:
    """Move each channel towards its mean over the image."""
    count, height, width, channels = images.shape
    rows = images.reshape(count, height, width * channels)
    total = rows.sum(axis=1, dtype=np.int64).reshape(count, width, channels).sum(axis=1)
    mean = np.tile(total / (255 * height * width), width)[:, None]
    unit = rows / 255.0
    unit -= mean
    unit *= factor
    unit += mean
    return to_uint8(unit).reshape(images.shape)


def _in_pixels(side: int, *shares: tuple[float, float, float]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(side * share for share in of_severity) for of_severity in shares)


def farther_waves(factor: float, amplitude: float, sigma: float, jitter: float) -> tuple[float, float, float]:
    """Waves `factor` times as long and high. Their noise is smoothed more, and must be stronger to compensate."""
    gain = 1.0 if amplitude == 0 else noise_gain(sigma, factor, truncate=3.0)
    return factor * amplitude * gain, factor * sigma, factor * jitter


@corruption(
    "elastic_transform",
    group="digital",
    constants=_in_pixels(
        32, (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)
    ),
    # 244, not 224, in the published code.
    imagenet=_in_pixels(
        244, (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)
    ),
    resized=farther_waves,
)
def elastic_transform(
    images: np.ndarray, draws: Draws, amplitude: float, sigma: float, jitter: float
) -> np.ndarray:
    """A small random affine map, then a smooth random displacement of every pixel.

    Args, in pixels:
        amplitude: how far unit noise moves a pixel, once the noise is smoothed.
        sigma: of the smoothing.
        jitter: how far the three points that define the affine map are moved at most.
    """
    height, width = images.shape[1:3]
    moves = draws.uniform("affine", (3, 2), low=-jitter, high=jitter)
    warped = _warp(images, moves)
    if amplitude == 0:
        return warped.astype(np.uint8)
    noise = draws.uniform("displacement", (2, height, width), low=-1.0, high=1.0).astype(np.float64)
    noise @= smoothing_matrix(width, sigma, 3.0).T  # exact; then back to multiples of 2^-23 for the columns
    noise *= 2.0**23
    np.rint(noise, out=noise)
    noise *= 2.0**-23
    fields = smoothing_matrix(height, sigma, 3.0) @ noise
    fields *= amplitude
    fields += np.mgrid[:height, :width]
    return from_planes(_read(to_planes(warped), fields[:, 0], fields[:, 1], reach=math.ceil(amplitude)))


def _warp(images: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """The affine map that moves three points around the centre by `moves` (N, 3, 2), x before y; levels, float32.

    As in OpenCV of 2018, an image is read at multiples of 1/32 pixel, so that results are exact: multiples of 2^-10.
    """
    height, width = images.shape[1:3]
    centre_x, centre_y, reach = width // 2, height // 2, min(height, width) // 3
    # The points (q, q), (q, -q) and (-q, -q) from the centre: the map's columns are differences of their moves.
    moves = moves.astype(np.float64)
    along_x, along_y = ((moves[:, i] - moves[:, i + 1]) / (2 * reach) for i in (1, 0))
    a, c = 1 + along_x[:, :1], along_x[:, 1:]
    b, d = along_y[:, :1], 1 + along_y[:, 1:]
    area = (a * d - b * c) / 32  # of the inverse, in 32nds of a pixel
    shift = (moves[:, 0] + moves[:, 2]) / 2
    x = np.arange(width) - centre_x - shift[:, :1]
    y = np.arange(height) - centre_y - shift[:, 1:]
    from_x = (32 * centre_x + d * x / area)[:, None, :] - (b * y / area)[:, :, None]
    from_y = (32 * centre_y + a * y / area)[:, :, None] - (c * x / area)[:, None, :]
    from_x, from_y = (np.rint(place).astype(np.float32) / np.float32(32) for place in (from_x, from_y))
    warped = np.empty(images.shape, dtype=np.float32)
    for source, target, map_x, map_y in zip(images.astype(np.float32), warped, from_x, from_y, strict=True):
        cv2.remap(source, map_x, map_y, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REFLECT_101)
    return warped


def _read(planes: np.ndarray, y: np.ndarray, x: np.ndarray, *, reach: int) -> np.ndarray:
    """Read planes (C, N, H, W) of levels at points (N, H, W), bilinear and truncated; uint8.

    Up to `reach` pixels outside, the image is mirrored, with the edge repeated.
    """
    count, height, width = planes.shape[1:]
    top, left = np.floor(y), np.floor(x)
    down, right = ((place - floor).astype(np.float32) for place, floor in ((y, top), (x, left)))
    rows, columns = (
        [mirrored(size, reach + 1).take(floor.astype(np.intp) + (reach + 1 + step)) for step in (0, 1)]
        for floor, size in ((top, height), (left, width))
    )
    first_pixels = height * width * np.arange(count)[:, None, None]
    places = [[row * width + first_pixels + column for column in columns] for row in rows]
    out = np.empty(planes.shape, dtype=np.uint8)
    for plane, target in zip(planes.reshape(len(planes), -1), out, strict=True):
        above, below = (_between(plane.take(one), plane.take(other), right) for one, other in places)
        target[...] = _between(above, below, down)
    return out


def _between(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate from `first` to `second` by `share`; overwrites both."""
    second -= first
    second *= share
    first += second
    return first


@functools.cache
def mirrored(size: int, reach: int) -> np.ndarray:
    """The indices of an axis, with `reach` mirrored ones before and after, (size + 2 * reach,)."""
    return np.pad(np.arange(size), reach, mode="symmetric")


@corruption(
    "pixelate",
    group="digital",
    constants=((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
    imagenet=((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    resized=lambda factor, share: (share / max(factor, 1.0),),
)
def pixelate(images: np.ndarray, draws: Draws, share: float) -> np.ndarray:
    """Shrink to a `share` of each side and enlarge again, as with Pillow's box filter."""
    tall, wide = (int(side * share) for side in images.shape[1:3])
    return enlarged_by_box(shrunk_by_box(images, tall, wide), *images.shape[1:3])


@corruption(
    "jpeg_compression",
    group="digital",
    constants=((80,), (65,), (58,), (50,), (40,)),
    imagenet=((25,), (18,), (15,), (10,), (7,)),
)
def jpeg_compression(images: np.ndarray, draws: Draws, quality: int) -> np.ndarray:
    """Encode as JPEG and decode. OpenCV's default encoding (4:2:0, baseline) gives the same bytes as Pillow's."""
    settings = (cv2.IMWRITE_JPEG_QUALITY, quality)
    colour = images.shape[-1] == 3
    flag = cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE
    out = np.empty_like(images)
    for source, target in zip(images, out, strict=True):
        if colour:
            source = cv2.cvtColor(source, cv2.COLOR_RGB2BGR)  # as the encoder expects it
        _, encoded = cv2.imencode(".jpg", source, settings)
        target[:] = np.asarray(cv2.imdecode(encoded, flag)).reshape(target.shape)
    return out


@corruption(
    "saturate",
    group="digital",
    constants=((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    imagenet=((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
)
def saturate(images: np.ndarray, draws: Draws, factor: float, offset: float) -> np.ndarray:
    """HSV saturation times `factor` plus `offset`, clipped to [0, 1].

    Grey, which has no hue, gets that of red. A one-channel image is treated as grey in three channels and returned as
    luma.
    """
    colour = images if images.shape[-1] == 3 else np.repeat(images, 3, axis=-1)
    hue, saturation, value = to_hsv(colour)
    unit = value * shares_of_value(hue, np.clip(saturation * factor + offset, 0.0, 1.0))
    if images.shape[-1] == 1:
        unit = luma(unit)[None]
    return from_planes(to_uint8(unit))
