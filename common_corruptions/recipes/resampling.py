"""Fixed resamplings of an image, each a sparse matrix on its pixels, applied without rounding.

Weights are multiples of 2^-44: their products with 8-bit values, and the sums of these, fit the 53 bits of double
precision. So the result does not depend on the order of summation.
"""

import cv2
import numpy as np
import scipy.sparse

GRID = 2.0**44
FEW = 64  # uncertain values are computed singly if fewer than one in so many


def whole_operator(operator: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """`operator` (P, H W), whose rows sum to about 1, with weights on the grid and rows that sum to exactly 1."""
    operator = operator.copy()
    operator.data = np.rint(operator.data * GRID) / GRID
    rest = 1.0 - operator @ np.ones(operator.shape[1])
    largest = scipy.sparse.csr_array(
        (rest, operator.argmax(axis=1), np.arange(len(rest) + 1)), shape=operator.shape
    )
    return operator + largest


def in_single(operator: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """`operator` in single precision, for `truncated`; the indices of its weights are shared, not copied."""
    weights = operator.data.astype(np.float32)
    return scipy.sparse.csr_array((weights, operator.indices, operator.indptr), shape=operator.shape)


def truncated(
    images: np.ndarray, operator: scipy.sparse.csr_array, single: scipy.sparse.csr_array
) -> np.ndarray:
    """Apply an operator whose rows sum to 1 to uint8 images (N, H, W, C), and truncate to uint8 of the same shape.

    This uses single precision, which is twice as fast, with a bound on its error; values so close to a whole number
    that they could fall on either side are then computed exactly.
    """
    pixels = _pixels(images)
    # Subtracting 128 halves the bound.
    around = (pixels ^ np.uint8(128)).view(np.int8).astype(np.float32)
    rough = single @ around
    # Rounding a number of up to 128 has an error of 2^-17: once for each sum, once for all weights and once for all
    # products. The sums below, of up to 256, add twice that.
    error = (int(np.diff(operator.indptr).max()) + 4) * 2.0**-17
    low = cv2.convertScaleAbs(rough, alpha=1, beta=127.5 - error)  # rounds to the nearest
    high = cv2.convertScaleAbs(rough, alpha=1, beta=127.5 + error)
    unsure = np.flatnonzero(low.reshape(-1) != high.reshape(-1))
    rows, columns = np.divmod(unsure, low.shape[1])
    if len(unsure) < low.size // FEW:
        low[rows, columns] = _single_values(operator, pixels, rows, columns)
    else:  # most of an image has one colour
        rows = np.unique(rows)
        low[rows] = operator[rows] @ pixels.astype(np.float64)
    return by_image(low, images.shape)


def _single_values(
    operator: scipy.sparse.csr_array, pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """The values of `operator @ pixels` at some places, (M,); no row of the operator is empty."""
    part = operator[rows]
    read = pixels[part.indices, np.repeat(columns, np.diff(part.indptr))]
    values: np.ndarray = np.add.reduceat(part.data * read, part.indptr[:-1])
    return values


def bilinear_operator(
    x: np.ndarray, y: np.ndarray, inside: np.ndarray, height: int, width: int, *, border: str
) -> scipy.sparse.csr_array:
    """The operator that reads an image at points, bilinear between pixel centres.

    Args:
        x, y: float64 (P,), in pixels from the centre of the first pixel.
        inside: bool (P,); points outside read 0.
        height, width: of the image.
        border: what surrounds the image: "edge" (the nearest pixel) or "black".

    Returns:
        float64 (P, height * width).
    """
    left, top = np.floor(x), np.floor(y)
    columns = np.stack([left, left + 1, left, left + 1], axis=1)
    rows = np.stack([top, top, top + 1, top + 1], axis=1)
    weights = np.stack([1 - (x - left), x - left] * 2, axis=1)
    weights *= np.stack([1 - (y - top), 1 - (y - top), y - top, y - top], axis=1)
    weights = np.rint(weights * GRID) / GRID
    weights[np.arange(len(x)), weights.argmax(axis=1)] += 1.0 - weights.sum(axis=1)  # exact, on the grid
    nearest = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    if border == "black":
        weights[(nearest[0] != rows) | (nearest[1] != columns)] = 0.0
    weights[~inside] = 0.0
    pixels = (nearest[0] * width + nearest[1]).astype(np.int32)
    kept = weights != 0
    starts = np.append(0, np.cumsum(kept.sum(axis=1))).astype(np.int32)
    return scipy.sparse.csr_array((weights[kept], pixels[kept], starts), shape=(len(x), height * width))


def by_pixel(images: np.ndarray) -> np.ndarray:
    """uint8 images (N, H, W, C) in the layout that operators take, float64 (H W, C N)."""
    return _pixels(images).astype(np.float64)


def _pixels(images: np.ndarray) -> np.ndarray:
    count, height, width, channels = images.shape
    values = cv2.transpose(images.reshape(count, -1))  # several times faster than NumPy's copy
    return values.reshape(height * width, channels * count)


def by_image(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 pixels (H W, C N), computed by an operator from those of `by_pixel`, as images of `shape`, (N, H, W, C)."""
    return cv2.transpose(pixels.reshape(-1, shape[0])).reshape(shape)
