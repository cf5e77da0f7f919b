"""The geometric perturbations: every frame of a sequence is one fixed resampling of the image.

Where each pixel of each frame reads the image depends on the perturbation and the size alone. It is worked
out once, and one `cv2.remap` makes all frames of an image.

The publication (32 x 32 x 3) rotates, scales, shears and translates with Pillow's affine transform: the value
at a point is bilinear between pixel centres, the outermost half pixel repeats the edge, beyond it all is
black, and the result is truncated. It tilts with OpenCV's perspective warp: bilinear into a black surround,
and rounded. Angles, ratios and the centre carry over to other sizes as they are. The steps of `translate` are
our extension there: they grow with the width, and a fraction of a pixel is bilinear too.
"""

import functools
import math

import cv2
import numpy as np

from robustness.names import FRAMES

Maps = tuple[np.ndarray, np.ndarray]
"""The x and the y to read, in pixels from the centre of the first: float32 (frames * height, width) each."""

OUTSIDE = -1e3  # a coordinate that no frame of an image of at most 256 pixels reads by itself


def geometric_frames(images: np.ndarray, name: str, out: np.ndarray) -> None:
    """Fill `out`, uint8 (N, T, H, W, C), with the frames of translate, rotate, tilt, scale or shear."""
    if name == "tilt":
        maps = tilt_maps(*images.shape[1:3])
        for image, frames in zip(images, out, strict=True):
            frames[...] = cv2.remap(image, *maps, cv2.INTER_LINEAR).reshape(frames.shape)
    else:
        affine_frames(images, affine_maps(name, *images.shape[1:3]), out)


def affine_frames(images: np.ndarray, maps: Maps, out: np.ndarray) -> None:
    """Resample `images` at `maps` as Pillow does, into `out`, uint8 (N, T, H, W, C)."""
    for image, frames in zip(images, out, strict=True):
        framed = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE).astype(np.float32)
        warped = cv2.remap(framed, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        np.copyto(frames, warped.reshape(frames.shape), casting="unsafe")  # truncates


@functools.lru_cache(maxsize=8)
def affine_maps(name: str, height: int, width: int) -> Maps:
    """Where the frames of `name` read an image that has a border of one repeated pixel.

    `name` is translate, rotate, scale, shear, or zoom_blur, whose frames here are the zooms to be averaged.
    """
    y, x = np.mgrid[:height, :width] + 0.5  # pixel centres, in pixels from the corner
    y, x = y - height / 2, x - width / 2
    map_x, map_y = [], []
    for frame in range(FRAMES[name]):
        (a, b, shift), (c, d, _) = _inverse(name, frame, width)
        source_x = a * x + b * y + shift + width / 2
        source_y = c * x + d * y + height / 2
        inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
        # Minus a half to count from the first centre, plus one for the border.
        map_x.append(np.where(inside, source_x + 0.5, OUTSIDE))
        map_y.append(np.where(inside, source_y + 0.5, OUTSIDE))
    return np.concatenate(map_x).astype(np.float32), np.concatenate(map_y).astype(np.float32)


def _inverse(
    name: str, frame: int, width: int
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """The two rows of the matrix from frame to image, both about the centre."""
    angle = math.radians(frame - 15)
    if name == "translate":
        return (1, 0, -(frame - 7) * width / 32), (0, 1, 0)
    if name == "rotate":
        return (math.cos(angle), math.sin(angle), 0), (-math.sin(angle), math.cos(angle), 0)
    if name == "scale":
        factor = (70 + 2 * frame) / 100
        return (1 / factor, 0, 0), (0, 1 / factor, 0)
    if name == "shear":
        return (1, math.tan(angle), 0), (0, 1, 0)
    if name == "zoom_blur":
        factor = 1 + 0.004 * frame
        return (1 / factor, 0, 0), (0, 1 / factor, 0)
    raise ValueError(f"{name!r} is not an affine perturbation")


@functools.lru_cache(maxsize=2)
def tilt_maps(height: int, width: int) -> Maps:
    """Where the frames of tilt read the image, a plane turned about both axes before a pinhole camera."""
    focus = math.hypot(width, height)
    to_space = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1], [0, 0, 1]])
    to_image = np.array([[focus, 0, width / 2, 0], [0, focus, height / 2, 0], [0, 0, 1, 0]])
    back = np.eye(4)
    back[2, 3] = focus
    y, x = np.mgrid[:height, :width]
    points = np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float64)
    map_x, map_y = [], []
    for frame in range(FRAMES["tilt"]):
        angle = math.radians(0.75 * (frame - 15))
        sin, cos = math.sin(angle), math.cos(angle)
        about_x = np.array([[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]])
        about_y = np.array([[cos, 0, -sin, 0], [0, 1, 0, 0], [sin, 0, cos, 0], [0, 0, 0, 1]])
        source = points @ np.linalg.inv(to_image @ back @ about_x @ about_y @ to_space).T
        map_x.append(source[..., 0] / source[..., 2])
        map_y.append(source[..., 1] / source[..., 2])
    return np.concatenate(map_x).astype(np.float32), np.concatenate(map_y).astype(np.float32)
