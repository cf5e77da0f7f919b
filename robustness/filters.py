"""The image filters that the published corruptions and perturbations are made of, batched over images.

Images are (N, H, W) or (N, H, W, C), uint8, or float32 in the same range 0 to 255 ("levels"). Each filter says which
operation of the published recipes, written for the libraries of 2018, it reproduces. OpenCV is called image by image:
at these sizes one call takes a few microseconds, and its borders then are the image's own.
"""

import functools
import math

import cv2
import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # weights of red, green and blue in a grey value
WATER = np.array([175, 238, 238], dtype=np.float32)  # pale turquoise
DROP_STENCIL = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.float32)

MOTION_TAPS = (
    15  # at a time: their bounding box has at most 121 cells, below those for which OpenCV turns to the FFT
)

# Where the recipes' double precision gives a whole level, single precision may fall just short of it and lose one.
TRUNCATION_GUARD = np.float32(1e-3)


def length_scale(images: np.ndarray) -> float:
    """By how much a length in pixels, published for 32 x 32, grows for images (N, H, W, ...): shorter side / 32."""
    return min(images.shape[1:3]) / 32


def whole_length(length: float, scale: float) -> int:
    """A length that has to be a whole number of pixels, at least 1, times `scale`."""
    return max(1, round(length * scale))


def to_uint8(levels: np.ndarray) -> np.ndarray:
    """Clip float32 levels to 0..255 and truncate them to uint8, as the published sets were written."""
    levels = levels + TRUNCATION_GUARD
    return np.clip(levels, 0.0, 255.0, out=levels).astype(np.uint8)


def grey(images: np.ndarray) -> np.ndarray:
    """The luma of images (N, H, W, C), float32 (N, H, W, 1); one channel is its own luma."""
    levels = images.astype(np.float32, copy=False)
    if images.shape[-1] == 1:
        return levels
    count, height, width, channels = images.shape
    return cv2.transform(levels.reshape(-1, width, channels), LUMA[None]).reshape(count, height, width, 1)


@functools.cache
def gaussian_kernel(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """A sampled Gaussian of unit sum, float32 (2r + 1,) with r = round(truncate * sigma)."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1, dtype=np.float32)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (taps / taps.sum()).astype(np.float32)


def noise_gain(sigma: float, scale: float, truncate: float = 4.0) -> float:
    """How much stronger white noise has to be for a Gaussian `scale` times as wide to leave the same field.

    Smoothing by `sigma` pixels leaves less of white noise the wider it is; without this gain, what is made of smoothed
    noise at 32 x 32 (drops, mud, elastic displacement) would fade away on larger images.
    """
    published, here = (gaussian_kernel(width, truncate) for width in (sigma, sigma * scale))
    return float((published**2).sum() / (here**2).sum())


def gaussian_filter(
    images: np.ndarray, sigma: float, *, truncate: float = 4.0, border: int = cv2.BORDER_REPLICATE
) -> np.ndarray:
    """Smooth each channel of each image with a Gaussian of `sigma` pixels; float32 of the same shape.

    With the default border this is `skimage.filters.gaussian`; with `cv2.BORDER_REFLECT` it is SciPy's mode "reflect".
    """
    kernel = gaussian_kernel(sigma, truncate)
    if len(kernel) == 1:
        return images.astype(np.float32)
    out = np.empty(images.shape, dtype=np.float32)
    for source, target in zip(images, out, strict=True):
        cv2.sepFilter2D(source, cv2.CV_32F, kernel, kernel, dst=target, borderType=border)
    return out


def motion_blur(images: np.ndarray, radius: int, sigma: float, angles: np.ndarray | float) -> np.ndarray:
    """Blur uint8 images (N, H, W[, C]), each along its angle (degrees, scalar or (N,)); uint8, truncated.

    This is ImageMagick's motion blur: ``2 * radius + 1`` taps on one side of the pixel, weighted by half a Gaussian of
    `sigma` pixels, each read at the nearest pixel; outside the image the edge repeats.
    """
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-0.5 * (taps / sigma) ** 2)
    weights /= weights.sum()
    taps, weights = taps[weights > 1e-8], weights[weights > 1e-8]  # the rest are lost in single precision
    theta = np.radians(np.broadcast_to(angles, len(images)))[:, None]
    columns = np.ceil(taps * np.cos(theta) - 0.5).astype(np.intp)
    rows = np.ceil(taps * np.sin(theta) - 0.5).astype(np.intp)
    levels = images.astype(np.float32)
    blurred = np.zeros_like(levels)
    for first in range(0, len(taps), MOTION_TAPS):
        part = slice(first, first + MOTION_TAPS)
        dy, dx = rows[:, first, None], columns[:, first, None]
        # The taps go one way, so repeating the edge for the shift and again for the rest is repeating it once.
        source = _shift(levels, dy, dx) if first else levels
        blurred += _correlate_sparse(source, rows[:, part] - dy, columns[:, part] - dx, weights[part])
    return to_uint8(blurred)


def _shift(levels: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """Each image read `dy` rows and `dx` columns (N, 1) further on; the edge repeats outside."""
    height, width = levels.shape[1:3]
    rows = np.clip(np.arange(height) + dy, 0, height - 1)
    columns = np.clip(np.arange(width) + dx, 0, width - 1)
    return levels[np.arange(len(levels))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _correlate_sparse(
    levels: np.ndarray, rows: np.ndarray, columns: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Sum the pixels at the offsets `rows` and `columns` (N, K) with `weights` (K,); the edge repeats outside.

    The first offset of each image is (0, 0).
    """
    top, left = rows.min(axis=1), columns.min(axis=1)
    heights, widths = np.ptp(rows, axis=1) + 1, np.ptp(columns, axis=1) + 1
    cells = (rows - top[:, None]) * widths[:, None] + columns - left[:, None]
    anchors = np.stack([-left, -top], axis=1).tolist()
    out = np.empty_like(levels)
    for i, (height, width) in enumerate(zip(heights.tolist(), widths.tolist(), strict=True)):
        kernel = np.bincount(cells[i], weights, height * width).reshape(height, width).astype(np.float32)
        cv2.filter2D(levels[i], -1, kernel, dst=out[i], anchor=anchors[i], borderType=cv2.BORDER_REPLICATE)
    return out


@functools.cache
def zoom_matrix(size: int, factor: float) -> np.ndarray:
    """The clipped zoom of one axis as a matrix, float32 (size, size): crop the centre, stretch it linearly, trim it.

    This is `scipy.ndimage.zoom` of order 1, whose end points are the centres of the outer pixels.
    """
    crop = math.ceil(size / factor)
    stretched = round(crop * factor)
    first = (stretched - size) // 2
    position = np.arange(first, first + size) * ((crop - 1) / max(stretched - 1, 1))
    left = np.minimum(position.astype(np.intp), max(crop - 2, 0))
    share = position - left
    matrix = np.zeros((size, size), dtype=np.float32)
    row, offset = np.arange(size), (size - crop) // 2
    matrix[row, offset + left] = 1 - share
    matrix[row, np.minimum(offset + left + 1, size - 1)] += share
    return matrix


def clipped_zoom(images: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge the centre of float32 images (N, H, W) by `factor` (at least 1); float32 of the same shape."""
    height, width = images.shape[1:]
    return zoom_matrix(height, factor) @ images @ zoom_matrix(width, factor).T


def add_to_value(images: np.ndarray, amount: float) -> np.ndarray:
    """Add `amount` (-1 to 1) to the HSV value of uint8 images (N, H, W, C) and clip it to [0, 1]; uint8.

    Hue and saturation are kept, so the three channels are scaled alike; black, which has no hue, becomes grey.
    """
    levels = images.astype(np.float32)
    if images.shape[-1] == 1:
        return to_uint8(levels + np.float32(255.0 * amount))
    value = channel_max(levels)
    wanted = np.clip(value + np.float32(255.0 * amount), 0.0, 255.0)
    levels *= wanted / np.maximum(value, 1.0)
    return to_uint8(np.where(value > 0, levels, wanted))


def channel_max(levels: np.ndarray) -> np.ndarray:
    """The largest of three channels, (N, H, W, 1); several times faster than a reduction over so short an axis."""
    return np.maximum(np.maximum(levels[..., :1], levels[..., 1:2]), levels[..., 2:])


def snow_layer(flakes: np.ndarray, zoom: float, threshold: float) -> np.ndarray:
    """Snow flakes, uint8 (N, H, W), from noise (N, H, W) in units of 1: enlarged, thresholded and clipped."""
    layer = clipped_zoom(flakes, zoom)
    layer[layer < threshold] = 0.0
    return to_uint8(layer * np.float32(255.0))


def lay_snow(images: np.ndarray, layer: np.ndarray, keep: float) -> np.ndarray:
    """Whiten uint8 images (N, H, W, C) and add the blurred uint8 `layer` (N, H, W) and its 180-degree rotation; uint8.

    `keep` is the share of the image that is not whitened.
    """
    levels = images.astype(np.float32)
    whitened = np.maximum(levels, np.float32(1.5) * grey(images) + np.float32(127.5))
    levels *= np.float32(keep)
    levels += np.float32(1 - keep) * whitened
    levels += (layer.astype(np.float32) + layer[:, ::-1, ::-1])[..., None]
    return to_uint8(levels)


def spatter_water(
    images: np.ndarray, layer: np.ndarray, strength: float, *, reach: float = 20.0
) -> np.ndarray:
    """Put drops of water on uint8 images (N, H, W, C); uint8.

    `layer` (N, H, W), float32 in [0, 1], is the amount of water, 0 where the image is dry; `strength` is its opacity
    where it is thickest, `reach` the distance in pixels from a drop's edge at which its shading ends.
    """
    water = np.clip(layer * np.float32(255.0), 0.0, 255.0).astype(np.uint8)
    edges = np.empty_like(water)
    distance, shine = np.empty(layer.shape, dtype=np.float32), np.empty(layer.shape, dtype=np.float32)
    for source, target in zip(water, edges, strict=True):
        cv2.Canny(source, 50, 150, edges=target)
    for source, target in zip(~edges, distance, strict=True):
        cv2.distanceTransform(source, cv2.DIST_L2, 5, dst=target)
    np.minimum(distance, np.float32(reach), out=distance)
    for source, target in zip(distance, shine, strict=True):
        cv2.blur(source, (3, 3), dst=target)
    shade = shine.astype(np.uint8)
    for image in shade:
        cv2.filter2D(cv2.equalizeHist(image), -1, DROP_STENCIL, dst=image)
    for source, target in zip(shade.astype(np.float32), shine, strict=True):
        cv2.blur(source, (3, 3), dst=target)
    shine *= layer
    peak = shine.max(axis=(1, 2), keepdims=True)
    shine *= np.float32(strength) / np.where(peak > 0, peak, np.float32(1.0))
    return to_uint8(images + shine[..., None] * in_channels(WATER, images.shape[-1]))


def in_channels(colour: np.ndarray, channels: int) -> np.ndarray:
    """An RGB colour as it is in an image of three channels, or its luma in one, float32 (channels,)."""
    return colour if channels == 3 else np.array([colour @ LUMA], dtype=np.float32)
