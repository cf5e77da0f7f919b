"""Contrast, elastic transform, pixelate, JPEG compression and saturate."""

import functools

import cv2
import numpy as np
from PIL import Image

from robustness.filters import channel_max, gaussian_filter, grey, noise_gain, to_uint8
from robustness.random import Draws


def contrast(images: np.ndarray, draws: Draws, factor: float) -> np.ndarray:
    """Each channel moved towards its mean over the image."""
    levels = images.astype(np.float32)
    mean = np.einsum("nhwc->nc", levels) / np.float32(levels[0, ..., 0].size)
    levels *= np.float32(factor)
    levels += (np.float32(1 - factor) * mean)[:, None, None, :]
    return to_uint8(levels)


def elastic_transform(
    images: np.ndarray, draws: Draws, amplitude: float, sigma: float, jitter: float
) -> np.ndarray:
    """A small random affine map, then a smooth random displacement of every pixel.

    All three constants are shares of the shorter side: how far the smoothed unit noise moves a pixel, how far it is
    smoothed, and how far the three points that fix the affine map are moved.
    """
    height, width = images.shape[1:3]
    side = min(height, width)
    centre, reach = np.array([width // 2, height // 2]), side // 3
    points = centre + np.array([[reach, reach], [reach, -reach], [-reach, -reach]])
    moved = points + draws.uniform("affine", (3, 2), low=-jitter * side, high=jitter * side)
    maps = (np.linalg.inv(np.column_stack([points, np.ones(3)])) @ moved).transpose(0, 2, 1)
    warped = np.empty(images.shape, dtype=np.float32)
    for source, target, affine in zip(images.astype(np.float32), warped, maps, strict=True):
        cv2.warpAffine(source, affine, (width, height), dst=target, borderMode=cv2.BORDER_REFLECT_101)
    if amplitude == 0:
        return to_uint8(warped)
    amplitude *= noise_gain(sigma * 32, side / 32, truncate=3.0)
    noise = draws.uniform("displacement", (height, width, 2), low=-1.0, high=1.0)
    places = gaussian_filter(noise, sigma * side, truncate=3.0, border=cv2.BORDER_REFLECT)
    places *= np.float32(amplitude * side)
    places += np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    out = np.empty_like(warped)
    for source, target, place in zip(warped, out, places, strict=True):
        cv2.remap(source, place, None, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REFLECT)
    return to_uint8(out)


def pixelate(images: np.ndarray, draws: Draws, share: float) -> np.ndarray:
    """Shrunk to a `share` of each side and enlarged again, as by Pillow's box filter: along the rows, then the columns.

    Shrunk by less than two, a coarse pixel is one pixel or the mean of two, and enlarging repeats it, so each direction
    averages two selections of the image.
    """
    count, height, width, channels = images.shape
    first, last = box_ends(width, share)
    # A pixel is `channels` neighbouring values of a flat row.
    rows = images.reshape(count * height, width * channels)
    first, last = ((end[:, None] * channels + np.arange(channels)).ravel() for end in (first, last))
    out = round_mean(rows.take(first, axis=1), rows.take(last, axis=1)).reshape(images.shape)
    first, last = box_ends(height, share)
    return round_mean(out.take(first, axis=1), out.take(last, axis=1))


@functools.cache
def box_ends(size: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of an axis, the first and the last of the one or two that its coarse pixel is the mean of.

    Pillow itself is asked, by a ramp, as it decides by rounding where a pixel lies between two boxes.
    """
    ramp = Image.fromarray(np.arange(size, dtype=np.float32)[None])
    coarse = ramp.resize((int(size * share), 1), Image.Resampling.BOX)
    twice = np.rint(2 * np.asarray(coarse.resize((size, 1), Image.Resampling.BOX))[0]).astype(np.intp)
    return twice // 2, (twice + 1) // 2


def round_mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a + b + 1) // 2 of uint8, without leaving 8 bits."""
    return (a | b) - ((a ^ b) >> 1)


def jpeg_compression(images: np.ndarray, draws: Draws, quality: int) -> np.ndarray:
    """JPEG and back. OpenCV's default encoding (4:2:0, baseline) gives the same bytes as Pillow's."""
    settings = (cv2.IMWRITE_JPEG_QUALITY, quality)
    colour = images.shape[-1] == 3
    sources = np.ascontiguousarray(images[..., ::-1]) if colour else images  # the encoder expects BGR
    flag = cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE
    out = np.empty_like(images)
    for source, target in zip(sources, out, strict=True):
        _, encoded = cv2.imencode(".jpg", source, settings)
        target[:] = cv2.imdecode(encoded, flag).reshape(target.shape)
    return out


def saturate(images: np.ndarray, draws: Draws, factor: float, offset: float) -> np.ndarray:
    """HSV saturation times `factor` plus `offset`, clipped to [0, 1].

    At constant hue and value, a channel's distance from the value is proportional to the saturation. Grey, which has no
    hue, takes that of red. A one-channel image is treated as grey in three channels and given back as luma.
    """
    if images.shape[-1] == 1:
        return to_uint8(grey(_saturate(np.repeat(images, 3, axis=-1), factor, offset)))
    return to_uint8(_saturate(images, factor, offset))


def _saturate(images: np.ndarray, factor: float, offset: float) -> np.ndarray:
    levels = images.astype(np.float32)
    value = channel_max(levels)
    distance = value - levels
    spread = channel_max(distance)
    saturation = spread / np.maximum(value, 1.0)
    wanted = np.clip(np.float32(factor) * saturation + np.float32(offset), 0.0, 1.0) * value
    distance *= wanted / np.maximum(spread, 1.0)
    grey_pixels = spread[..., 0] == 0
    distance[grey_pixels, 1:] = wanted[grey_pixels]
    return value - distance
