"""The five blurs. Radii, sigmas and distances are pixels of a 32 x 32 image and grow with the shorter side."""

import functools

import numpy as np
import scipy.sparse

from common_corruptions.recipes.elementary import exp
from common_corruptions.recipes.filters import (
    gaussian_filter,
    length_scale,
    motion_blur,
    to_uint8,
    whole_length,
    zoom_places,
)
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import corruption
from common_corruptions.recipes.resampling import by_image, by_pixel, whole_operator


@corruption("gaussian_blur", group="blur", constants=((0.4,), (0.6,), (0.7,), (0.8,), (1,)))
def gaussian_blur(images: np.ndarray, draws: Draws, sigma: float) -> np.ndarray:
    """A Gaussian of `sigma` pixels, the edge repeated outside the image."""
    return to_uint8(gaussian_filter(images / 255.0, sigma * length_scale(images)))


@corruption(
    "defocus_blur", group="blur", constants=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
)
def defocus_blur(images: np.ndarray, draws: Draws, radius: float, smoothing: float) -> np.ndarray:
    """A disk of `radius` pixels whose rim is softened by a 3 x 3 Gaussian of sigma `smoothing`; reflect-101 borders."""
    scale = length_scale(images)
    kernel = disk_kernel(radius * scale, smoothing * scale)
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


@functools.cache
def disk_kernel(radius: float, smoothing: float) -> np.ndarray:
    """A disk of unit sum on the pixel grid, smoothed by a 3 x 3 Gaussian; float64, square, of odd side."""
    reach = int(radius) + 1  # one more than the disk, for the smoothing
    grid = np.arange(-reach, reach + 1)
    disk = (grid**2 + grid[:, None] ** 2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    side = exp(np.array([-0.5 / smoothing**2]))[0]
    outer, middle = np.float32(side / (1 + 2 * side)), np.float32(1 / (1 + 2 * side))
    for _ in range(2):
        framed = np.pad(disk, ((0, 0), (1, 1)))
        disk = (framed[:, 1:-1] * middle + (framed[:, :-2] + framed[:, 2:]) * outer).T
    return disk.astype(np.float64)


@corruption("motion_blur", group="blur", constants=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)))
def motion_blur_at_random(images: np.ndarray, draws: Draws, radius: int, sigma: float) -> np.ndarray:
    """Motion blur along an angle drawn from -45 to 45 degrees."""
    scale = length_scale(images)
    angles = draws.uniform("angle", low=-45.0, high=45.0)
    return motion_blur(images, whole_length(radius, scale), sigma * scale, angles)


@corruption("zoom_blur", group="blur", constants=((1.06,), (1.11,), (1.16,), (1.21,), (1.26,)))
def zoom_blur(images: np.ndarray, draws: Draws, largest: float) -> np.ndarray:
    """The mean of the image and of its enlargements by 1, 1.01, ... below `largest`."""
    operator = zoom_operator(*images.shape[1:3], largest)
    blurred = (operator @ by_pixel(images)).astype(np.uint8)
    return np.ascontiguousarray(by_image(blurred, images.shape))


@functools.lru_cache(maxsize=10)
def zoom_operator(height: int, width: int, largest: float) -> scipy.sparse.csr_array:
    """Zoom blur as one sparse matrix on the pixels of an image, float64 (H W, H W): about ten weights a pixel."""
    factors = [1.0, *np.arange(1.0, largest, 0.01).tolist()]
    total = sum(
        scipy.sparse.kron(_zoom_of_axis(height, factor), _zoom_of_axis(width, factor), format="csr")
        for factor in factors
    )
    return whole_operator(total / len(factors))


def _zoom_of_axis(size: int, factor: float) -> scipy.sparse.csr_array:
    left, right, share = zoom_places(size, factor)
    places = np.tile(np.arange(size), 2), np.concatenate([left, right])
    return scipy.sparse.csr_array((np.concatenate([1 - share, share]), places), shape=(size, size))


@corruption(
    "glass_blur", group="blur", constants=((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
)
def glass_blur(images: np.ndarray, draws: Draws, sigma: float, distance: int, passes: int) -> np.ndarray:
    """Gaussian blur, then every pixel takes the value of one at most `distance` away, `passes` times; blur again.

    The recipe means to exchange the two pixels, but as published both end up with the value of the second; that is
    kept. Pixels are visited from the last to the first, so a value can be handed on within a pass.
    """
    scale = length_scale(images)
    distance = whole_length(distance, scale)
    height, width = images.shape[1:3]
    shuffled = to_uint8(gaussian_filter(images / 255.0, sigma * scale))
    first_pixels = height * width * np.arange(len(images))[:, None]
    for i in range(passes):
        sources = pick_neighbours(draws, f"neighbours {i}", height, width, distance)
        pixels = shuffled.reshape(-1, images.shape[-1])
        shuffled = pixels.take(first_pixels + sources, axis=0).reshape(images.shape)
    return to_uint8(gaussian_filter(shuffled / 255.0, sigma * scale))


def pick_neighbours(draws: Draws, label: str, height: int, width: int, distance: int) -> np.ndarray:
    """The pixel from which each pixel gets its value in one pass of glass blur, indices (N, H W).

    Rows ``distance + 1 .. H - distance`` (columns likewise) each draw a neighbour -distance .. distance - 1 away. One
    that lies earlier in the image still has its own value when it is read; one that lies later has been visited
    already, and passes on what it got.
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
