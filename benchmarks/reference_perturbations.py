"""The perturbations in the plain way: one image and one frame at a time, with Pillow, SciPy and OpenCV.

Each follows the published recipe line by line, for images of 32 x 32 x 3, and makes the sequence of one image, uint8
(T, 32, 32, 3). What is drawn can be passed in, so that the batched recipes can be compared with these.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

SIDE = 32


def to_uint8(unit: np.ndarray) -> np.ndarray:
    return (np.clip(unit, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(image: np.ndarray, rng: np.random.Generator, std: float = 0.02) -> np.ndarray:
    x = image / 255.0
    return np.stack([image, *(to_uint8(x + rng.normal(size=x.shape, scale=std)) for _ in range(30))])


def shot_noise(image: np.ndarray, rng: np.random.Generator, photons: int = 700) -> np.ndarray:
    x = image / 255.0
    return np.stack([image, *(to_uint8(rng.poisson(x * photons) / photons) for _ in range(30))])


def speckle_noise(image: np.ndarray, rng: np.random.Generator, std: float = 0.05) -> np.ndarray:
    x = image / 255.0
    return np.stack([image, *(to_uint8(x + x * rng.normal(size=x.shape, scale=std)) for _ in range(30))])


def motion_blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([blur_along(image, 6, 1.8, 9 * (frame - 20)) for frame in range(21)])


def zoom_blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    total = image / np.float32(255)
    frames = [image]
    for frame in range(1, 31):
        factor = 1 + 0.004 * frame
        total = total + affine(image, factor=factor) / np.float32(255)
        frames.append(to_uint8(total / np.float32(frame + 1)))
    return np.stack(frames)


def gaussian_blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([to_uint8(smooth(image / 255.0, 0.3 + 0.015 * frame, truncate=7)) for frame in range(31)])


def snow(image: np.ndarray, rng: np.random.Generator, layer: np.ndarray | None = None) -> np.ndarray:
    if layer is None:
        layer = rng.normal(size=(SIDE, SIDE), loc=0.05, scale=0.3)
    layer = clipped_zoom(layer, 2)
    layer[layer < 0.5] = 0
    layer = to_uint8(layer)
    x = image / 255.0
    grey = cv2.cvtColor(x.astype(np.float32), cv2.COLOR_RGB2GRAY)[..., None]
    x = 0.85 * x + (1 - 0.85) * np.maximum(x, grey * 1.5 + 0.5)
    frames = []
    for frame in range(31):
        blown = blur_along(layer[..., None], 10, 2, 4 * frame - 150) / 255.0
        frames.append(to_uint8(x + blown + np.rot90(blown, k=2)))
    return np.stack(frames)


def spatter(image: np.ndarray, rng: np.random.Generator, layer: np.ndarray | None = None) -> np.ndarray:
    if layer is None:
        layer = rng.normal(size=(SIDE, SIDE), loc=0.6, scale=0.265)
    layer = smooth(layer, 1.75)
    layer[layer < 0.7] = 0
    x = image / np.float32(255)
    frames = []
    for _ in range(31):
        drops = (layer * 255).astype(np.int64).astype(np.uint8)  # an amount above 1 counts from 0 again
        distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
        _, distance = cv2.threshold(distance, 20, 20, cv2.THRESH_TRUNC)
        shade = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
        stencil = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
        shade = cv2.blur(cv2.filter2D(shade, cv2.CV_8U, stencil), (3, 3))
        water = drops * shade.astype(np.float32)
        if water.max() == 0:  # 0 / 0: the published frame is black
            frames.append(np.zeros_like(image))
        else:
            water = water / water.max() * np.float32(0.6)
            frames.append(to_uint8(x + water[..., None] * np.array([175, 238, 238]) / 255.0))
        layer = np.apply_along_axis(np.convolve, 0, layer, [0.2, 0.8], mode="same")
    return np.stack(frames)


def brightness(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    frames = []
    for frame in range(31):
        hsv = rgb_to_hsv(image / 255.0)
        hsv[..., 2] = np.clip(hsv[..., 2] + 1.5 * (frame - 15) / 100, 0, 1)
        frames.append(to_uint8(hsv_to_rgb(hsv)))
    return np.stack(frames)


def translate(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([affine(image, shift=frame - 7) for frame in range(16)])


def rotate(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([affine(image, angle=frame - 15) for frame in range(31)])


def tilt(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    f = math.sqrt(height**2 + width**2)
    p1 = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1], [0, 0, 1]])
    p2 = np.array([[f, 0, width / 2, 0], [0, f, height / 2, 0], [0, 0, 1, 0]])
    away = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, f], [0, 0, 0, 1]])
    frames = []
    for frame in range(31):
        c, s = math.cos(math.radians(0.75 * (frame - 15))), math.sin(math.radians(0.75 * (frame - 15)))
        rx = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]])
        ry = np.array([[c, 0, -s, 0], [0, 1, 0, 0], [s, 0, c, 0], [0, 0, 0, 1]])
        frames.append(cv2.warpPerspective(image, p2 @ away @ rx @ ry @ p1, (width, height)))
    return np.stack(frames)


def scale(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    factors = [(70 + 2 * frame) / 100 for frame in range(31)]
    return np.stack([affine(image, factor=factor) for factor in factors])


def shear(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([affine(image, shear=frame - 15) for frame in range(31)])


REFERENCE: dict[str, Callable[..., np.ndarray]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "speckle_noise": speckle_noise,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "gaussian_blur": gaussian_blur,
    "snow": snow,
    "spatter": spatter,
    "brightness": brightness,
    "translate": translate,
    "rotate": rotate,
    "tilt": tilt,
    "scale": scale,
    "shear": shear,
}
"""Takes an image and a generator; the names are those of `common_corruptions.PERTURBATIONS`."""


def affine(
    image: np.ndarray, *, angle: float = 0, shift: float = 0, factor: float = 1, shear: float = 0
) -> np.ndarray:
    """Pillow's affine transform with the matrix that torchvision made of angles in degrees in 2018."""
    angle, shear = math.radians(angle), math.radians(shear)
    centre = SIDE / 2 + 0.5
    a, b = math.cos(angle + shear), math.sin(angle + shear)
    c, d = -math.sin(angle), math.cos(angle)
    a, b, c, d = (part / (math.cos(shear) * factor) for part in (a, b, c, d))
    data = [
        a,
        b,
        a * -(centre + shift) + b * -centre + centre,
        c,
        d,
        c * -(centre + shift) + d * -centre + centre,
    ]
    warped = Image.fromarray(image).transform(
        (SIDE, SIDE), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
    )
    return np.asarray(warped)


def blur_along(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """ImageMagick's motion blur of a uint8 image (H, W, C), tap by tap."""
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights /= weights.sum()
    down, across = (len(taps) * turn(math.radians(angle)) for turn in (math.sin, math.cos))
    rows = np.ceil(taps * down / math.hypot(down, across) - 0.5).astype(int)
    columns = np.ceil(taps * across / math.hypot(down, across) - 0.5).astype(int)
    border = 2 * radius + 1
    wide = np.pad(image.astype(np.float64), ((border, border), (border, border), (0, 0)), mode="edge")
    blurred = np.zeros(image.shape)
    for weight, row, column in zip(weights, rows + border, columns + border, strict=True):
        blurred += weight * wide[row : row + SIDE, column : column + SIDE]
    return (np.rint(257 * blurred) / 257).astype(np.uint8)  # ImageMagick has 16 bits


def smooth(image: np.ndarray, sigma: float, truncate: float = 4) -> np.ndarray:
    """`skimage.filters.gaussian`."""
    return gaussian_filter(image, (sigma, sigma, 0)[: image.ndim], mode="nearest", truncate=truncate)


def clipped_zoom(image: np.ndarray, factor: float) -> np.ndarray:
    side = math.ceil(SIDE / factor)
    top = (SIDE - side) // 2
    zoomed = zoom(image[top : top + side, top : top + side], (factor, factor), order=1)
    trim = (len(zoomed) - SIDE) // 2
    return zoomed[trim : trim + SIDE, trim : trim + SIDE]
