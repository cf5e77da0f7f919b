"""The image filters behind the published corruptions and perturbations, batched over images.

Images are (N, H, W) or (N, H, W, C): uint8, or float64 in [0, 1] as in the published scripts. A filter gives the same
bits on every processor, in one of two ways. Either it consists of NumPy operations on whole arrays, each of which IEEE
754 rounds the same everywhere, in the order of the 2018 library that it replaces. Or its weights lie on so coarse a
grid that no product and no sum is rounded; then a library may add them in any order, with fused multiplications or
without.
"""

import functools
import math
from collections.abc import Callable

import cv2
import numpy as np

from common_corruptions.recipes.elementary import cos_sin, exp

NARROW = 4  # taps on a side of a Gaussian, up to which it is computed step by step
CACHED = 3 << 13  # values processed at a time in filters of many steps, so that they stay in the cache

Places = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of an axis read between pixels: the two between which each place lies, and the share of the second."""


def length_scale(images: np.ndarray) -> float:
    """Factor by which lengths in pixels, published for 32 x 32, grow for images (N, H, W, ...): shorter side / 32."""
    shorter: int = min(images.shape[1:3])
    return shorter / 32


def whole_length(length: float, scale: float) -> int:
    """A length times `scale`, rounded to a whole number of pixels, at least 1."""
    return max(1, round(length * scale))


def to_uint8(unit: np.ndarray) -> np.ndarray:
    """Clip floats to 0..1 and truncate 255 times them to uint8, as the published sets were written."""
    levels: np.ndarray = np.clip(unit, 0.0, 1.0)
    levels *= 255
    return levels.astype(np.uint8)


@functools.cache
def gaussian_kernel(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """A sampled Gaussian of unit sum, float64 (2r + 1,) with r = round(truncate * sigma)."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    taps = exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1.0) ** 2)
    taps /= taps.sum()
    return taps


def noise_gain(sigma: float, scale: float, truncate: float = 4.0) -> float:
    """Factor by which white noise must be stronger for a Gaussian `scale` times as wide to leave the same field.

    The wider the smoothing, the less of white noise remains. Without this gain, effects made from smoothed noise at
    32 x 32 (drops, mud, elastic displacement) would fade away on larger images.
    """
    published, here = (gaussian_kernel(width, truncate) for width in (sigma, sigma * scale))
    return float((published**2).sum() / (here**2).sum())


@functools.cache
def wider_sigma(sigma: float, factor: float) -> float:
    """The sigma of a Gaussian that blurs pixels `factor` times smaller as far as `sigma` does, on the pixel grid.

    It matches the standard deviation of the taps. Below one pixel this is less than sigma, so sigma times `factor`
    itself would blur a larger picture more.
    """
    return solve(lambda width: variance(gaussian_kernel(width)), factor**2 * variance(gaussian_kernel(sigma)))


@functools.cache
def wider_motion(radius: int, sigma: float, factor: float) -> tuple[int, float]:
    """Radius and sigma of a motion blur that moves pixels `factor` times smaller equally far, on average."""

    def mean(radius: int, sigma: float) -> float:
        taps, weights = half_gaussian(radius, sigma)
        return float((taps * weights).sum() / weights.sum())

    wider = whole_length(radius, factor)
    return wider, solve(lambda width: mean(wider, width), factor * mean(radius, sigma))


def variance(kernel: np.ndarray) -> float:
    """Variance of the taps (2r + 1,) about the middle one, in square pixels."""
    taps = np.arange(len(kernel)) - len(kernel) // 2
    return float((kernel * taps**2).sum())


def solve(growing: Callable[[float], float], wanted: float) -> float:
    """The width between 0.01 and 1,000 pixels at which an increasing function has this value."""
    low, high = 0.01, 1000.0
    for _ in range(50):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if growing(middle) < wanted else (low, middle)
    return high


def gaussian_filter(images: np.ndarray, sigma: float, *, truncate: float = 4.0) -> np.ndarray:
    """Smooth each channel of float64 images with a Gaussian of `sigma` pixels; the edge is repeated outside.

    Follows `skimage.filters.gaussian` step by step: first the columns, then the rows, from the outermost pair of taps
    inwards.
    """
    kernel = gaussian_kernel(sigma, truncate)
    if len(kernel) == 1:
        return images.copy()
    count = min(len(images), max(1, CACHED // images[0].size))
    height, width, *channels = images.shape[1:]
    border = 2 * (len(kernel) // 2)
    tall, wide = (
        np.empty((count, *side, *channels)) for side in ((height + border, width), (height, width + border))
    )
    between, pair, out = np.empty_like(images[:count]), np.empty_like(images[:count]), np.empty_like(images)
    for first in range(0, len(images), count):
        source, target = images[first : first + count], out[first : first + count]
        part = slice(len(source))
        _correlate_symmetric(source, kernel, 1, tall[part], pair[part], between[part])
        _correlate_symmetric(between[part], kernel, 2, wide[part], pair[part], target)
    return out


def _correlate_symmetric(
    images: np.ndarray, kernel: np.ndarray, axis: int, framed: np.ndarray, pair: np.ndarray, out: np.ndarray
) -> None:
    """Correlate along `axis` into `out`; `framed` and `pair` are overwritten."""
    radius, size = len(kernel) // 2, images.shape[axis]

    def part(start: int, stop: int) -> tuple[slice, ...]:
        return (slice(None),) * axis + (slice(start, stop),)

    framed[part(radius, radius + size)] = images
    framed[part(0, radius)] = images[part(0, 1)]
    framed[part(radius + size, size + 2 * radius)] = images[part(size - 1, size)]
    np.multiply(images, kernel[radius], out=out)
    for reach in range(radius, 0, -1):
        before, after = (framed[part(radius + shift, radius + shift + size)] for shift in (-reach, reach))
        np.add(before, after, out=pair)
        pair *= kernel[radius + reach]
        out += pair


def gaussian_blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth uint8 images (N, H, W, C) with a Gaussian of `sigma` pixels, the edge repeated outside; uint8, truncated.

    A wide Gaussian has weights on a grid of 2^-22, so that OpenCV's sums are exact.
    """
    kernel = gaussian_kernel(sigma)
    middle = len(kernel) // 2
    if middle <= NARROW:
        return to_uint8(gaussian_filter(images / 255.0, sigma))
    whole = np.rint(kernel * 2.0**22)
    whole[middle] += 2.0**22 - whole.sum()
    whole *= 2.0**-22
    out = np.empty_like(images)
    for source, target in zip(images, out, strict=True):
        blurred = cv2.sepFilter2D(source, cv2.CV_64F, whole, whole, borderType=cv2.BORDER_REPLICATE)
        target[...] = blurred.reshape(target.shape)
    return out


@functools.cache
def smoothing_matrix(size: int, sigma: float, truncate: float) -> np.ndarray:
    """A Gaussian of `sigma` pixels along an axis, with SciPy's border "reflect", as a matrix, float64 (size, size).

    Its weights are multiples of 2^-27, so products with multiples of 2^-23 between -1 and 1 are exact.
    """
    kernel = np.rint(gaussian_kernel(sigma, truncate) * 2.0**27) * 2.0**-27
    radius = len(kernel) // 2
    places = np.pad(np.arange(size), radius, mode="symmetric")
    matrix = np.zeros((size, size))
    for row in range(size):
        np.add.at(matrix[row], places[row : row + len(kernel)], kernel)
    return matrix


def half_gaussian(radius: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """The taps of a motion blur, as distances from the pixel, and their weights, the first one 1; (2r + 1,) each."""
    taps = np.arange(2 * radius + 1.0)
    return taps, exp(-(taps**2) / (2 * sigma**2))


def motion_blur(images: np.ndarray, radius: int, sigma: float, angles: np.ndarray | float) -> np.ndarray:
    """Blur uint8 images (N, H, W[, C]), each along its angle (degrees, scalar or (N,)); uint8.

    This is ImageMagick's motion blur: ``2 * radius + 1`` taps on one side of the pixel, weighted by half a Gaussian of
    `sigma` pixels, each read at the nearest pixel; outside the image the edge repeats. ImageMagick rounds to 16 bits,
    which the published scripts then truncate to 8. The weights are rounded to 2^-23.
    """
    width = 2 * radius + 1
    taps, weights = half_gaussian(radius, sigma)
    weights = np.rint(weights / weights.sum() * 2.0**23)  # whole, so that the sums below are exact
    weights[0] += 2.0**23 - weights.sum()
    cosine, sine = cos_sin(math.pi * np.atleast_1d(angles).astype(np.float64)[:, None] / 180)
    down, across = width * sine, width * cosine
    length = np.sqrt(down * down + across * across)
    taps, weights = taps[weights > 0], weights[weights > 0].astype(int)
    # The form of these expressions decides on which side a tap half-way between two pixels falls.
    rows = np.ceil(taps * down / length - 0.5).astype(int)
    columns = np.ceil(taps * across / length - 0.5).astype(int)

    # With a frame as wide as the reach of the taps, a tap is the same distance in memory for every row.
    tall, wide = images.shape[1:3]
    top, bottom, left, right = -rows.min(), rows.max(), -columns.min(), columns.max()
    frame = ((0, 0), (top, bottom), (left, right), (0, 0))[: images.ndim]
    framed = np.pad(images, frame, mode="edge").astype(np.int32)
    line, pixel = (math.prod(framed.shape[axis:]) for axis in (2, 3))
    size, before, after = framed[0].size, top * line + left * pixel, bottom * line + right * pixel
    distances = (rows * line + columns * pixel).tolist()
    at_once = max(1, CACHED // size) if len(rows) == 1 else 1
    source, total = framed.reshape(-1), np.zeros(framed.size, dtype=np.int32)
    product = np.empty(size * at_once, dtype=np.int32)
    for first in range(0, len(images), at_once):
        start = first * size + before
        stop = min(first + at_once, len(images)) * size - after
        target, scaled = total[start:stop], product[: stop - start]
        for weight, distance in zip(weights.tolist(), distances[first % len(rows)], strict=True):
            np.multiply(source[start + distance : stop + distance], weight, out=scaled)
            target += scaled
    total += round(0.5 / 257 * 2**23)  # half of the last of 16 bits
    total >>= 23
    blurred = total.reshape(framed.shape)[:, top : top + tall, left : left + wide]
    return blurred.astype(np.uint8, order="C")


def zoom_places(size: int, factor: float) -> Places:
    """The clipped zoom of one axis: crop the centre, stretch it linearly, trim it.

    This is `scipy.ndimage.zoom` of order 1, whose end points are the centres of the outer pixels.

    Returns:
        For each pixel, the two source pixels around it, and the weight of the second; (size,) each.
    """
    crop = math.ceil(size / factor)
    stretched = round(crop * factor)
    first, offset = (stretched - size) // 2, (size - crop) // 2
    position = np.arange(first, first + size) * ((crop - 1) / max(stretched - 1, 1))
    left = np.minimum(position.astype(np.intp), max(crop - 2, 0))
    return offset + left, np.minimum(offset + left + 1, size - 1), position - left


def clipped_zoom(images: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge the centre of images (N, H, W) by `factor` (at least 1); float64 of the same shape."""
    return _read_between(images, *(zoom_places(size, factor) for size in images.shape[1:]))


def enlarged(planes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Read planes (N, h, w) bilinearly at the centres of height x width pixels, with the edge repeated; float64."""
    sizes = zip(planes.shape[1:], (height, width), strict=True)
    return _read_between(planes, *(_between_pixels(*size) for size in sizes))


def _read_between(planes: np.ndarray, rows: Places, columns: Places) -> np.ndarray:
    """Interpolate planes (N, H, W) between rows, then between columns."""
    above, below, share = rows
    lines = planes.take(above, axis=1) * (1 - share)[:, None] + planes.take(below, axis=1) * share[:, None]
    left, right, share = columns
    read: np.ndarray = lines.take(left, axis=2) * (1 - share) + lines.take(right, axis=2) * share
    return read


def _between_pixels(size: int, enlarged: int) -> Places:
    """For each of `enlarged` pixels, the two of `size` between whose centres it lies, and the weight of the second."""
    position = np.clip((np.arange(enlarged) + 0.5) * (size / enlarged) - 0.5, 0, size - 1)
    left = np.minimum(position.astype(np.intp), max(size - 2, 0))
    return left, np.minimum(left + 1, size - 1), position - left
