"""The five blurs. Radii, sigmas and distances are in pixels.

Those of CIFAR-10-C grow with the image, so that it is blurred in proportion: on the pixel grid, the blur of a pixel
has the same standard deviation (for motion blur the same mean) relative to the shorter side.
"""

import functools

import cv2
import numpy as np

from common_corruptions.recipes.elementary import exp
from common_corruptions.recipes.filters import (
    gaussian_blurred,
    gaussian_filter,
    motion_blur,
    solve,
    to_uint8,
    variance,
    wider_motion,
    wider_sigma,
)
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import corruption
from common_corruptions.recipes.zooms import mean_zoom


@corruption(
    "gaussian_blur",
    group="blur",
    constants=((0.4,), (0.6,), (0.7,), (0.8,), (1,)),
    imagenet=((1,), (2,), (3,), (4,), (6,)),
    resized=lambda factor, sigma: (wider_sigma(sigma, factor),),
)
def gaussian_blur(images: np.ndarray, draws: Draws, sigma: float) -> np.ndarray:
    """A Gaussian of `sigma` pixels; the edge is repeated outside the image."""
    return gaussian_blurred(images, sigma)


@functools.cache
def wider_disk(factor: float, radius: float, smoothing: float, margin: int) -> tuple[float, float, int]:
    """Radius and smoothing of a disk `factor` times as wide, measured by the kernel's standard deviation on the grid.

    The disk is the largest that is not too wide. The smoothing makes up the difference, which is less than it can add.
    """

    def across(radius: float, smoothing: float) -> float:
        return variance(disk_kernel(radius, smoothing, margin).sum(axis=0))

    wanted, sharp = factor**2 * across(radius, smoothing), 0.01
    squares = sorted({float(x * x + y * y) for x in range(64) for y in range(x + 1)})
    low, high = 0, len(squares) - 1
    while low < high:
        middle = (low + high + 1) // 2
        fits = across(squares[middle] ** 0.5, sharp) <= wanted
        low, high = (middle, high) if fits else (low, middle - 1)
    largest = squares[low] ** 0.5
    return largest, solve(lambda width: across(largest, width), wanted), margin


@corruption(
    "defocus_blur",
    group="blur",
    constants=((0.3, 0.4, 4), (0.4, 0.5, 4), (0.5, 0.6, 4), (1, 0.2, 4), (1.5, 0.1, 4)),
    imagenet=((3, 0.1, 0), (4, 0.5, 0), (6, 0.5, 0), (8, 0.5, 0), (10, 0.5, 0)),
    resized=wider_disk,
)
def defocus_blur(
    images: np.ndarray, draws: Draws, radius: float, smoothing: float, margin: int
) -> np.ndarray:
    """A disk of `radius` pixels, its rim softened by a Gaussian of sigma `smoothing`; reflect-101 borders."""
    kernel = disk_kernel(radius, smoothing, margin)
    return _correlate_small(images, kernel) if len(kernel) <= 5 else _correlate_large(images, kernel)


def _correlate_small(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate weight by weight: the pixels of one weight are summed first, which is exact."""
    reach = len(kernel) // 2
    height, width = images.shape[1:3]
    framed = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    blurred, product = np.zeros(images.shape), np.empty(images.shape)
    for weight in np.unique(kernel[kernel > 0]):
        places = np.argwhere(kernel == weight).tolist()
        total = np.zeros(images.shape, dtype=np.min_scalar_type(255 * len(places)))
        for row, column in places:
            total += framed[:, row : row + height, column : column + width]
        blurred += np.multiply(total, weight, out=product)
    return blurred.astype(np.uint8)


def _correlate_large(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate by OpenCV's Fourier transform, rounded to the exact result, a whole number for weights on a 2^-30 grid.

    The error of the transform is at most 10^-4, so rounding removes all of it.
    """
    whole = np.rint(kernel * 2.0**30)
    out = np.empty_like(images)
    for source, target in zip(images, out, strict=True):
        levels = source.astype(np.float64)
        cv2.filter2D(levels, cv2.CV_64F, whole, dst=levels, borderType=cv2.BORDER_REFLECT_101)
        np.rint(levels, out=levels)
        levels *= 2.0**-30
        target[...] = np.minimum(levels, 255.0, out=levels).astype(np.uint8)
    return out


@functools.cache
def disk_kernel(radius: float, smoothing: float, margin: int) -> np.ndarray:
    """A disk of unit sum on the pixel grid, smoothed by a Gaussian; float64, square, of odd side.

    The Gaussian has 3 x 3 pixels, and 5 x 5 for a radius above 8. The grid ends 8 pixels from the centre, or `margin`
    beyond a larger disk, and is mirrored there. ImageNet-C's `margin` is 0, as published: there the sum is no longer 1.
    """
    reach = max(8, int(radius) + margin)
    grid = np.arange(-reach, reach + 1)
    disk: np.ndarray = (grid**2 + grid[:, None] ** 2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    taps = exp(-0.5 * np.arange(2.0 if radius <= 8 else 3.0) ** 2 / smoothing**2)
    taps = (taps / (2 * taps.sum() - 1)).astype(np.float32)
    border, side = len(taps) - 1, len(disk)
    for _ in range(2):
        framed = np.pad(disk, ((0, 0), (border, border)), mode="reflect")
        disk = disk * taps[0]
        for shift in range(1, len(taps)):
            before, after = (framed[:, border + place : border + place + side] for place in (-shift, shift))
            disk += (before + after) * taps[shift]
        disk = disk.T
    kept = np.flatnonzero(disk.any(axis=0))
    return disk[kept[0] : kept[-1] + 1, kept[0] : kept[-1] + 1].astype(np.float64)


@corruption(
    "motion_blur",
    group="blur",
    constants=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    imagenet=((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    resized=lambda factor, radius, sigma: wider_motion(radius, sigma, factor),
)
def motion_blur_at_random(images: np.ndarray, draws: Draws, radius: int, sigma: float) -> np.ndarray:
    """Motion blur along an angle drawn from -45 to 45 degrees."""
    return motion_blur(images, radius, sigma, draws.uniform("angle", low=-45.0, high=45.0))


@corruption(
    "zoom_blur",
    group="blur",
    constants=((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    imagenet=((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
)
def zoom_blur(images: np.ndarray, draws: Draws, largest: float, step: float) -> np.ndarray:
    """The mean of the image and its enlargements by 1, 1 + step, ... below `largest`."""
    return mean_zoom(images, largest, step)


def wider_glass(factor: float, sigma: float, distance: int, passes: int) -> tuple[float, int, int]:
    """Draw neighbours `factor` times as far, by the root of the mean square of a distance, (2 distance^2 + 1) / 6."""
    farther = max(0.5 * (factor**2 * (2 * distance**2 + 1) - 1), 1.0) ** 0.5
    return wider_sigma(sigma, factor), round(farther), passes


@corruption(
    "glass_blur",
    group="blur",
    constants=((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    imagenet=((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    resized=wider_glass,
)
def glass_blur(images: np.ndarray, draws: Draws, sigma: float, distance: int, passes: int) -> np.ndarray:
    """Gaussian blur; then every pixel takes the value of one at most `distance` away, `passes` times; blur again.

    The recipe means to exchange the two pixels, but as published both end up with the value of the second; this is
    kept. Pixels are visited from the last to the first, so a value can be passed on within a pass.
    """
    height, width = images.shape[1:3]
    shuffled = to_uint8(gaussian_filter(images / 255.0, sigma))
    first_pixels = height * width * np.arange(len(images))[:, None]
    for i in range(passes):
        sources = pick_neighbours(draws, f"neighbours {i}", height, width, distance)
        pixels = shuffled.reshape(-1, images.shape[-1])
        shuffled = pixels.take(first_pixels + sources, axis=0).reshape(images.shape)
    return to_uint8(gaussian_filter(shuffled / 255.0, sigma))


def pick_neighbours(draws: Draws, label: str, height: int, width: int, distance: int) -> np.ndarray:
    """The pixel from which each pixel gets its value in one pass of glass blur, indices (N, H W).

    Rows ``distance + 1 .. H - distance`` (columns likewise) each draw a neighbour -distance .. distance - 1 away. A
    neighbour earlier in the image still has its own value when it is read; a later one has already been visited, and
    passes on what it got.
    """
    rows, columns = (slice(distance + 1, side - distance + 1) for side in (height, width))
    offsets = draws.integers(label, (height - 2 * distance, width - 2 * distance), (2 * distance) ** 2)
    down, right = np.divmod(offsets, 2 * distance)
    drawn = np.broadcast_to(np.arange(height * width), (draws.count, height * width)).copy()
    drawn.reshape(-1, height, width)[:, rows, columns] += (down - distance) * width + right - distance
    if distance == 1:  # none lies later
        return drawn
    sources = drawn.copy()
    image, pixel = np.nonzero(sources > np.arange(height * width))
    while len(image):
        reached = sources[image, pixel]
        passed_on = drawn[image, reached]
        sources[image, pixel] = passed_on
        going_on = passed_on > reached
        image, pixel = image[going_on], pixel[going_on]
    return sources
