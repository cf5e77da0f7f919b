"""The published zoom blur: the mean of an image and its enlargements."""

import functools

import numpy as np
import scipy.sparse

from common_corruptions.recipes.filters import zoom_places
from common_corruptions.recipes.resampling import by_image, by_pixel, in_single, truncated, whole_operator

WHOLE = 1 << 16  # pixels, up to which one sparse matrix is used: for more it would take gigabytes
MANY, SEVERAL = 20, 6  # weights per pixel and images, from which single precision first is faster


def mean_zoom(images: np.ndarray, largest: float, step: float) -> np.ndarray:
    """The mean of images (N, H, W, C) and their enlargements by 1, 1 + step, ... below `largest`; uint8."""
    height, width = images.shape[1:3]
    if height * width > WHOLE:
        return np.stack([_by_axis(image, largest, step) for image in images])
    operator, single = zoom_operators(height, width, largest, step)
    if single is not None and len(images) >= SEVERAL:
        return truncated(images, operator, single)
    return by_image((operator @ by_pixel(images)).astype(np.uint8), images.shape)


@functools.lru_cache(maxsize=10)
def zoom_operators(
    height: int, width: int, largest: float, step: float
) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array | None]:
    """Zoom blur as one sparse matrix on the pixels of an image, float64 (H W, H W), with 5 to 35 weights per pixel.

    If there are many weights, also in single precision.
    """
    factors = [1.0, *np.arange(1.0, largest, step).tolist()]
    total = sum(
        scipy.sparse.kron(_of_axis(height, factor), _of_axis(width, factor), format="csr")
        for factor in factors
    )
    operator = whole_operator(total / len(factors))
    operator.indices, operator.indptr = (
        array.astype(np.int32) for array in (operator.indices, operator.indptr)
    )
    return operator, in_single(operator) if operator.nnz > MANY * height * width else None


def _of_axis(size: int, factor: float) -> scipy.sparse.csr_array:
    left, right, share = zoom_places(size, factor)
    places = np.tile(np.arange(size), 2), np.concatenate([left, right])
    return scipy.sparse.csr_array((np.concatenate([1 - share, share]), places), shape=(size, size))


def _by_axis(image: np.ndarray, largest: float, step: float) -> np.ndarray:
    """`mean_zoom` of one image (H, W, C), enlargement by enlargement: first its columns, then its rows."""
    height, width = image.shape[:2]
    lines = np.ascontiguousarray(image.transpose(0, 2, 1), dtype=np.float32)  # (H, C, W)
    below = np.diff(lines, axis=0, append=0)
    factors = np.arange(1.0, largest, step)
    total = 2 * lines  # the image and its enlargement by 1
    for factor in factors[1:].tolist():
        first, _, share = zoom_places(height, factor)
        tall = lines.take(first, axis=0)
        tall += below.take(first, axis=0) * share.astype(np.float32)[:, None, None]
        first, _, share = zoom_places(width, factor)
        total += tall.take(first, axis=2)
        total += np.diff(tall, axis=2, append=0).take(first, axis=2) * share.astype(np.float32)
    total /= np.float32(len(factors) + 1)
    return np.ascontiguousarray(total.astype(np.uint8).transpose(0, 2, 1))
