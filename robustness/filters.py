"""The image filters that the published corruptions and perturbations are made of, batched over images.

Images are (N, H, W) or (N, H, W, C): uint8, or float64 in [0, 1] as in the published scripts. A filter gives the same
bits on every processor, by one of two ways. It is written as NumPy operations on whole arrays, each of which IEEE 754
rounds alike everywhere, in the order of the library of 2018 that it stands for. Or its weights lie on so coarse a grid
that no product and no sum is rounded at all; then a library may add them up in any order, with fused multiplications
or without.
"""

import functools
import math

import cv2
import numpy as np

from robustness.elementary import cos_sin, exp

MOTION_IMAGES = 8  # blurred along one angle at once: they fit the cache


def length_scale(images: np.ndarray) -> float:
    """By how much a length in pixels, published for 32 x 32, grows for images (N, H, W, ...): shorter side / 32."""
    return min(images.shape[1:3]) / 32


def whole_length(length: float, scale: float) -> int:
    """A length that has to be a whole number of pixels, at least 1, times `scale`."""
    return max(1, round(length * scale))


def to_uint8(unit: np.ndarray) -> np.ndarray:
    """Clip floats to 0..1 and truncate 255 times them to uint8, as the published sets were written."""
    levels = np.clip(unit, 0.0, 1.0)
    levels *= 255
    return levels.astype(np.uint8)


@functools.cache
def gaussian_kernel(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """A sampled Gaussian of unit sum, float64 (2r + 1,) with r = round(truncate * sigma)."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    taps = exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1.0) ** 2)
    return taps / taps.sum()


def noise_gain(sigma: float, scale: float, truncate: float = 4.0) -> float:
    """How much stronger white noise has to be for a Gaussian `scale` times as wide to leave the same field.

    Smoothing by `sigma` pixels leaves less of white noise the wider it is; without this gain, what is made of smoothed
    noise at 32 x 32 (drops, mud, elastic displacement) would fade away on larger images.
    """
    published, here = (gaussian_kernel(width, truncate) for width in (sigma, sigma * scale))
    return float((published**2).sum() / (here**2).sum())


def gaussian_filter(images: np.ndarray, sigma: float, *, truncate: float = 4.0) -> np.ndarray:
    """Smooth each channel of float64 images with a Gaussian of `sigma` pixels; the edge repeats outside.

    This is `skimage.filters.gaussian`, to the last bit: first the columns, then the rows, from the outermost pair of
    taps inwards.
    """
    kernel = gaussian_kernel(sigma, truncate)
    if len(kernel) == 1:
        return images.copy()
    return _correlate_symmetric(_correlate_symmetric(images, kernel, axis=1), kernel, axis=2)


def gaussian_blur_levels(images: np.ndarray, sigma: float, *, truncate: float = 4.0) -> np.ndarray:
    """Smooth uint8 images as `gaussian_filter` smooths them in units of 1, several times faster; uint8, truncated.

    The weights are rounded to 2^-22, which is seen in one of about fifty thousand values.
    """
    kernel = gaussian_kernel(sigma, truncate)
    if len(kernel) == 1:
        return images.copy()
    kernel = np.rint(kernel * 2.0**22) * 2.0**-22
    kernel[len(kernel) // 2] += 1.0 - kernel.sum()
    blurred = np.empty(images.shape)
    for source, target in zip(images, blurred, strict=True):
        cv2.sepFilter2D(source, cv2.CV_64F, kernel, kernel, dst=target, borderType=cv2.BORDER_REPLICATE)
    levels = blurred.astype(np.uint8)
    return np.where(blurred == levels, flat_levels(sigma, truncate).take(levels), levels)


@functools.cache
def flat_levels(sigma: float, truncate: float) -> np.ndarray:
    """What becomes of each level in a flat part of an image, uint8 (256,).

    A sum that should give the level again may fall short of it in double precision, and is truncated to the one below.
    """
    return to_uint8(
        gaussian_filter(np.arange(256.0).reshape(-1, 1, 1) / 255, sigma, truncate=truncate)
    ).ravel()


def _correlate_symmetric(images: np.ndarray, kernel: np.ndarray, axis: int) -> np.ndarray:
    radius, size = len(kernel) // 2, images.shape[axis]

    def part(start: int, stop: int) -> tuple[slice, ...]:
        return (slice(None),) * axis + (slice(start, stop),)

    shape = list(images.shape)
    shape[axis] += 2 * radius
    framed = np.empty(shape)
    framed[part(radius, radius + size)] = images
    framed[part(0, radius)] = images[part(0, 1)]
    framed[part(radius + size, size + 2 * radius)] = images[part(size - 1, size)]
    total = images * kernel[radius]
    pair = np.empty_like(total)
    for reach in range(radius, 0, -1):
        before, after = (framed[part(radius + shift, radius + shift + size)] for shift in (-reach, reach))
        np.add(before, after, out=pair)
        pair *= kernel[radius + reach]
        total += pair
    return total


@functools.cache
def smoothing_matrix(size: int, sigma: float, truncate: float) -> np.ndarray:
    """A Gaussian of `sigma` pixels along an axis, SciPy's border "reflect", as a matrix, float64 (size, size).

    Its weights are multiples of 2^-27: a product with multiples of 2^-23 between -1 and 1 is exact.
    """
    kernel = np.rint(gaussian_kernel(sigma, truncate) * 2.0**27) * 2.0**-27
    radius = len(kernel) // 2
    places = np.pad(np.arange(size), radius, mode="symmetric")
    matrix = np.zeros((size, size))
    for row in range(size):
        np.add.at(matrix[row], places[row : row + len(kernel)], kernel)
    return matrix


def motion_blur(images: np.ndarray, radius: int, sigma: float, angles: np.ndarray | float) -> np.ndarray:
    """Blur uint8 images (N, H, W[, C]), each along its angle (degrees, scalar or (N,)); uint8.

    This is ImageMagick's motion blur: ``2 * radius + 1`` taps on one side of the pixel, weighted by half a Gaussian of
    `sigma` pixels, each read at the nearest pixel; outside the image the edge repeats. ImageMagick rounds to 16 bits,
    which the published scripts then truncate to 8. The weights are rounded to 2^-23.
    """
    width = 2 * radius + 1
    taps = np.arange(float(width))
    weights = exp(-(taps**2) / (2 * sigma**2))
    weights = np.rint(weights / weights.sum() * 2.0**23)  # whole, so that the sums below are exact
    weights[0] += 2.0**23 - weights.sum()
    cosine, sine = cos_sin(math.pi * np.atleast_1d(angles).astype(np.float64)[:, None] / 180)
    down, across = width * sine, width * cosine
    length = np.sqrt(down * down + across * across)
    taps, weights = taps[weights > 0], weights[weights > 0].astype(int)
    # The form decides on which side a tap half-way between two pixels falls.
    rows = np.ceil(taps * down / length - 0.5).astype(int)
    columns = np.ceil(taps * across / length - 0.5).astype(int)

    # With a frame as wide as the taps reach, a tap is one distance in memory, whatever the row.
    tall, wide = images.shape[1:3]
    top, bottom, left, right = -rows.min(), rows.max(), -columns.min(), columns.max()
    frame = ((0, 0), (top, bottom), (left, right), (0, 0))[: images.ndim]
    framed = np.pad(images, frame, mode="edge").astype(np.int32)
    line, pixel = (math.prod(framed.shape[axis:]) for axis in (2, 3))
    size, before, after = framed[0].size, top * line + left * pixel, bottom * line + right * pixel
    distances = (rows * line + columns * pixel).tolist()
    at_once = MOTION_IMAGES if len(rows) == 1 else 1
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


def zoom_places(size: int, factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clipped zoom of one axis: crop the centre, stretch it linearly, trim it.

    This is `scipy.ndimage.zoom` of order 1, whose end points are the centres of the outer pixels.

    Returns:
        For each pixel the two between which it lies, and the share of the second; (size,) each.
    """
    crop = math.ceil(size / factor)
    stretched = round(crop * factor)
    first, offset = (stretched - size) // 2, (size - crop) // 2
    position = np.arange(first, first + size) * ((crop - 1) / max(stretched - 1, 1))
    left = np.minimum(position.astype(np.intp), max(crop - 2, 0))
    return offset + left, np.minimum(offset + left + 1, size - 1), position - left


def clipped_zoom(images: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge the centre of images (N, H, W) by `factor` (at least 1); float64 of the same shape."""
    height, width = images.shape[1:]
    above, below, share = zoom_places(height, factor)
    rows = images.take(above, axis=1) * (1 - share)[:, None] + images.take(below, axis=1) * share[:, None]
    left, right, share = zoom_places(width, factor)
    return rows.take(left, axis=2) * (1 - share) + rows.take(right, axis=2) * share
