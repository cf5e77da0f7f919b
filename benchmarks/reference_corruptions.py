"""The 19 corruptions in the textbook way: one image at a time, with NumPy, SciPy, Pillow and OpenCV.

Each function reads like its recipe and takes one image (H, W, 3), uint8, and a `numpy.random.Generator`; it shares
nothing with `common_corruptions` but the constants, in pixels, and the frost photographs. It is what speed is compared
with, and what tests compare results with.
"""

import io
import math

import cv2
import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import ndimage

from common_corruptions.recipes.corruptions.weather import FROST, FROST_PHOTOS
from common_corruptions.recipes.registry import recipe

Random = np.random.Generator


def corrupt_one(
    image: np.ndarray, name: str, severity: int, random: Random, scale: str = "cifar"
) -> np.ndarray:
    """One image (H, W, 3), uint8, corrupted; uint8. At the scale "cifar" it must have 32 x 32 pixels."""
    return globals()[name](image, random, *recipe(name).at(scale, severity, *image.shape[:2]))


def finish(x: np.ndarray) -> np.ndarray:
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def smooth(x: np.ndarray, sigma: float, **options) -> np.ndarray:
    if x.ndim == 2:
        return ndimage.gaussian_filter(x, sigma, mode="nearest", **options)
    channels = [
        ndimage.gaussian_filter(x[..., i], sigma, mode="nearest", **options) for i in range(x.shape[2])
    ]
    return np.stack(channels, axis=-1)


def zoom_centre(x: np.ndarray, factor: float) -> np.ndarray:
    height, width = x.shape[:2]
    tall, wide = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - tall) // 2, (width - wide) // 2
    factors = (factor, factor, 1)[: x.ndim]
    zoomed = ndimage.zoom(x[top : top + tall, left : left + wide], factors, order=1)
    above, before = (zoomed.shape[0] - height) // 2, (zoomed.shape[1] - width) // 2
    return zoomed[above : above + height, before : before + width]


def blur_along(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    width = 2 * radius + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    padding = ((width, width), (width, width), (0, 0))[: image.ndim]
    padded = np.pad(image.astype(float), padding, mode="edge")
    blurred = np.zeros(image.shape)
    down, across = (width * turn(math.radians(angle)) for turn in (math.sin, math.cos))
    for i, weight in enumerate(weights):
        row = width + math.ceil(i * down / math.hypot(down, across) - 0.5)
        column = width + math.ceil(i * across / math.hypot(down, across) - 0.5)
        blurred += weight * padded[row : row + image.shape[0], column : column + image.shape[1]]
    return (np.rint(257 * blurred) / 257).astype(np.uint8)  # ImageMagick has 16 bits


def gaussian_noise(image, random, std):
    return finish(image / 255 + random.normal(size=image.shape, scale=std))


def shot_noise(image, random, photons):
    return finish(random.poisson(image / 255 * photons) / photons)


def impulse_noise(image, random, amount):
    x = image / 255
    hit = random.random(x.shape) < amount
    salt = random.random(x.shape) < 0.5
    x[hit & salt] = 1
    x[hit & ~salt] = 0
    return finish(x)


def speckle_noise(image, random, std):
    x = image / 255
    return finish(x + x * random.normal(size=x.shape, scale=std))


def gaussian_blur(image, random, sigma):
    return finish(smooth(image / 255, sigma))


def defocus_blur(image, random, radius, smoothing, margin):
    grid = np.arange(-8, 9) if radius <= 8 else np.arange(-radius, radius + 1)
    grid_x, grid_y = np.meshgrid(grid, grid)
    disk = (grid_x**2 + grid_y**2 <= radius**2).astype(np.float32)
    side = 3 if radius <= 8 else 5
    kernel = cv2.GaussianBlur(disk / disk.sum(), ksize=(side, side), sigmaX=smoothing)
    return finish(np.stack([cv2.filter2D(image[..., i] / 255, -1, kernel) for i in range(3)], axis=-1))


def glass_blur(image, random, sigma, distance, passes):
    x = finish(smooth(image / 255, sigma))
    for _ in range(passes):
        for row in range(x.shape[0] - distance, distance, -1):
            for column in range(x.shape[1] - distance, distance, -1):
                dx, dy = random.integers(-distance, distance, size=2)
                x[row, column] = x[row + dy, column + dx]
    return finish(smooth(x / 255, sigma))


def motion_blur(image, random, radius, sigma):
    return blur_along(image, radius, sigma, random.uniform(-45, 45))


def zoom_blur(image, random, largest, step):
    x = image / 255
    factors = np.arange(1, largest, step)
    return finish((x + sum(zoom_centre(x, factor) for factor in factors)) / (len(factors) + 1))


def fog(image, random, amount, decay):
    x = image / 255
    brightest = x.max()
    height, width = image.shape[:2]
    clouds = plasma(random, decay, 2 ** math.ceil(math.log2(max(height, width))))
    x = x + amount * clouds[:height, :width, None]
    return finish(x * brightest / (brightest + amount))


def plasma(random: Random, decay: float, size: int) -> np.ndarray:
    cells = np.zeros((size, size))
    step, wobble = size, 100.0

    def fill(row, column, corners):
        mean = sum(cells[(row + dy) % size, (column + dx) % size] for dy, dx in corners) / 4
        cells[row, column] = mean + wobble * random.uniform(-wobble, wobble)

    while step >= 2:
        half = step // 2
        for row in range(half, size, step):
            for column in range(half, size, step):
                fill(row, column, [(-half, -half), (-half, half), (half, -half), (half, half)])
        for row in range(0, size, half):
            for column in range(half if row % step == 0 else 0, size, step):
                fill(row, column, [(-half, 0), (half, 0), (0, -half), (0, half)])
        step, wobble = half, wobble / decay
    cells -= cells.min()
    return cells / cells.max()


def frost(image, random, image_share, frost_share, factor):
    photo = cv2.imread(str(FROST / FROST_PHOTOS[random.integers(5)]))
    photo = cv2.resize(photo, (0, 0), fx=factor, fy=factor)[..., ::-1]
    height, width = image.shape[:2]
    top, left = random.integers(photo.shape[0] - height), random.integers(photo.shape[1] - width)
    crop = photo[top : top + height, left : left + width]
    return np.clip(image_share * image + frost_share * crop, 0, 255).astype(np.uint8)


def snow(image, random, mean, std, zoom, threshold, radius, sigma, keep, unit):
    x = image / 255
    layer = zoom_centre(random.normal(mean, std, image.shape[:2]), zoom)
    layer[layer < threshold] = 0
    layer = blur_along(finish(layer), radius, sigma, random.uniform(-135, -45))[..., None] / 255
    grey = cv2.cvtColor(x.astype(np.float32), cv2.COLOR_RGB2GRAY)[..., None]
    x = keep * x + (1 - keep) * np.maximum(x, grey * 1.5 + 0.5)
    return finish(x + layer + np.rot90(layer, 2))


def spatter(image, random, mean, std, sigma, threshold, strength, mud, unit):
    x = image / 255
    layer = smooth(random.normal(mean, std, image.shape[:2]), sigma)
    if mud:
        mask = smooth((layer > threshold).astype(float), strength)
        mask[mask < 0.8] = 0
        mask = mask[..., None]
        return finish(x * (1 - mask) + mask * np.array([63, 42, 20]) / 255)
    layer[layer < threshold] = 0
    drops = (layer * 255).astype(np.int64).astype(np.uint8)  # an amount above 1 counts from 0 again
    distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    shade = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    shade = cv2.filter2D(shade, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    water = drops * cv2.blur(shade, (3, 3)).astype(np.float32)
    if water.max() == 0:  # 0 / 0: the published image is black
        return np.zeros_like(image)
    water = water / water.max() * np.float32(strength)
    return finish(x + water[..., None] * np.array([175, 238, 238]) / 255)


def contrast(image, random, factor):
    x = image / 255
    mean = x.mean(axis=(0, 1), keepdims=True)
    return finish((x - mean) * factor + mean)


def brightness(image, random, amount):
    hsv = rgb_to_hsv(image / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + amount, 0, 1)
    return finish(hsv_to_rgb(hsv))


def saturate(image, random, factor, offset):
    hsv = rgb_to_hsv(image / 255)
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + offset, 0, 1)
    return finish(hsv_to_rgb(hsv))


def jpeg_compression(image, random, quality):
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=quality)
    return np.asarray(Image.open(encoded))


def pixelate(image, random, share):
    height, width = image.shape[:2]
    coarse = Image.fromarray(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return np.asarray(coarse.resize((width, height), Image.Resampling.BOX))


def elastic_transform(image, random, amplitude, sigma, jitter):
    x = (image / 255).astype(np.float32)
    height, width = image.shape[:2]
    centre, reach = np.array([width // 2, height // 2]), min(height, width) // 3
    points = centre + np.array([[reach, reach], [reach, -reach], [-reach, -reach]])
    moved = points + random.uniform(-jitter, jitter, points.shape)
    affine = cv2.getAffineTransform(points.astype(np.float32), moved.astype(np.float32))
    x = cv2.warpAffine(x, affine, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    dx, dy = (
        amplitude
        * ndimage.gaussian_filter(random.uniform(-1, 1, (height, width)), sigma, mode="reflect", truncate=3)
        for _ in range(2)
    )
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    places = [rows + dy, columns + dx]
    channels = [ndimage.map_coordinates(x[..., i], places, order=1, mode="reflect") for i in range(3)]
    return finish(np.stack(channels, axis=-1))
