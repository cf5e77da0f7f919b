"""The geometric perturbations: every frame of a sequence is a fixed resampling of the image.

Where each pixel of each frame reads the image depends only on the perturbation and the size; it is computed once.

The publication (32 x 32 x 3) rotates, scales, shears and translates with Pillow's affine transform: the value
at a point is bilinear between pixel centres, the outermost half pixel repeats the edge, everything beyond is
black, and the result is truncated. The map is that of torchvision in 2018, whose centre lies half a pixel right of
and below the image's, and whose shear also shrinks the rows. The publication tilts with OpenCV's perspective warp:
bilinear, black outside, and rounded. Angles, ratios and the centre are used unchanged at other sizes. The steps of
`translate` are our extension there: they grow with the width, and a fraction of a pixel is bilinear too.
"""

import functools
import math

import numpy as np
import scipy.sparse

from common_corruptions.recipes.elementary import cos_sin
from common_corruptions.recipes.names import FRAMES
from common_corruptions.recipes.resampling import bilinear_operator, by_image, by_pixel

Operators = tuple[scipy.sparse.csr_array, ...]
"""For each frame the matrix, float64 (H W, H W), that makes its pixels of the image's."""


def geometric_frames(images: np.ndarray, name: str, out: np.ndarray) -> None:
    """Fill `out`, uint8 (N, T, H, W, C), with the frames of an affine perturbation, zoom_blur's zooms, or tilt."""
    pixels = by_pixel(images)
    operators = tilts(*images.shape[1:3]) if name == "tilt" else affine_maps(name, *images.shape[1:3])
    for frame, operator in enumerate(operators):
        levels = operator @ pixels
        if name == "tilt":
            np.rint(levels, out=levels)
        out[:, frame] = by_image(levels.astype(np.uint8), images.shape)


@functools.lru_cache(maxsize=8)
def affine_maps(name: str, height: int, width: int) -> Operators:
    """The frames of translate, rotate, scale or shear, or the zooms that zoom_blur averages."""
    y, x = np.mgrid[:height, :width].reshape(2, -1) + 0.5  # pixel centres, in pixels from the corner
    centre_x, centre_y = width / 2 + 0.5, height / 2 + 0.5
    operators = []
    for frame in range(FRAMES[name]):
        (a, b), (c, d), shift = _inverse(name, frame, width)
        source_x = a * (x - centre_x) + b * (y - centre_y) + centre_x + shift
        source_y = c * (x - centre_x) + d * (y - centre_y) + centre_y
        inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
        operators.append(
            bilinear_operator(source_x - 0.5, source_y - 0.5, inside, height, width, border="edge")
        )
    return tuple(operators)


def _inverse(name: str, frame: int, width: int) -> tuple[tuple[float, float], tuple[float, float], float]:
    """The two rows of the matrix from frame to image, and how far to the right the image is read."""
    cosine, sine = _cos_sin(frame - 15)
    if name == "translate":
        return (1, 0), (0, 1), -(frame - 7) * width / 32
    if name == "rotate":
        return (cosine, sine), (-sine, cosine), 0
    if name == "scale":
        factor = (70 + 2 * frame) / 100
        return (1 / factor, 0), (0, 1 / factor), 0
    if name == "shear":
        return (1, sine / cosine), (0, 1 / cosine), 0
    if name == "zoom_blur":
        factor = 1 + 0.004 * frame
        return (1 / factor, 0), (0, 1 / factor), 0
    raise ValueError(f"{name!r} is not an affine perturbation")


@functools.lru_cache(maxsize=2)
def tilts(height: int, width: int) -> Operators:
    """The frames of tilt: the image is a plane rotated about both axes in front of a pinhole camera."""
    focus = math.sqrt(width * width + height * height)
    v, u = np.mgrid[:height, :width].reshape(2, -1).astype(np.float64)
    operators = []
    for frame in range(FRAMES["tilt"]):
        cosine, sine = _cos_sin(0.75 * (frame - 15))
        # A point (x, y, 1) relative to the image centre is rotated about the y axis, then the x axis, and moved away.
        forward = (
            (cosine, 0.0, -sine),
            (-sine * sine, cosine, -sine * cosine),
            (cosine * sine, sine, cosine * cosine + focus),
        )
        x, y, z = _solve(forward, u - width / 2, v - height / 2, focus)
        source_x, source_y = x / z + width / 2, y / z + height / 2
        operators.append(
            bilinear_operator(source_x, source_y, np.ones(u.shape, dtype=bool), height, width, border="black")
        )
    return tuple(operators)


def _solve(
    forward: tuple[tuple[float, ...], ...], u: np.ndarray, v: np.ndarray, focus: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points that the 3 x 3 matrix `forward` maps to the direction (u, v, focus), up to a common factor."""
    (a, b, c), (d, e, f), (g, h, i) = forward
    x = (e * i - f * h) * u + (c * h - b * i) * v + (b * f - c * e) * focus
    y = (f * g - d * i) * u + (a * i - c * g) * v + (c * d - a * f) * focus
    z = (d * h - e * g) * u + (b * g - a * h) * v + (a * e - b * d) * focus
    return x, y, z


def _cos_sin(degrees: float) -> tuple[float, float]:
    cosine, sine = cos_sin(np.array([math.radians(degrees)]))
    return float(cosine[0]), float(sine[0])
