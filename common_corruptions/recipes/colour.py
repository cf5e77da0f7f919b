"""Colours of images: planes, hue, saturation, value and luma, as computed by the published scripts.

The conversions follow `skimage.color` and Matplotlib step by step, since results are truncated: the last bit of a sum
close to a whole level decides which level it becomes.
"""

import cv2
import numpy as np

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in a grey value

# Which of the factors (1, p, q, t) of the value red, green and blue have in each sixth of the hue circle, and again in
# the first.
SECTORS = np.array([[0, 2, 1, 1, 3, 0, 0], [3, 0, 0, 2, 1, 1, 3], [1, 1, 3, 0, 0, 2, 1]])


def to_planes(images: np.ndarray) -> np.ndarray:
    """Contiguous images (N, H, W, C), uint8 or float32, as one plane per channel, (C, N, H, W)."""
    count, height, width, channels = images.shape
    planes = np.empty((channels, count, height, width), dtype=images.dtype)
    cv2.split(images.reshape(count * height, width, channels), [plane.reshape(-1, width) for plane in planes])
    return planes


def from_planes(planes: np.ndarray) -> np.ndarray:
    """uint8 planes (C, N, H, W) as images (N, H, W, C)."""
    channels, count, height, width = planes.shape
    merged = cv2.merge([plane.reshape(-1, width) for plane in planes])
    return np.asarray(merged).reshape(count, height, width, channels)


def to_hsv(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue in sixths of a turn (0 to 6), saturation and value of uint8 images (N, H, W, 3); float64 (N, H, W) each."""
    red, green, blue = to_planes(images) / 255.0
    value = np.maximum(red, green)
    np.maximum(value, blue, out=value)
    spread = np.minimum(red, green)
    np.minimum(spread, blue, out=spread)
    np.subtract(value, spread, out=spread)
    grey, is_green, is_blue = spread == 0, green == value, blue == value
    hue = np.where(is_blue, red - green, np.where(is_green, blue - red, green - blue))
    hue /= spread + grey
    hue += np.where(is_blue, 4.0, 2.0 * is_green)
    hue *= ~grey
    hue /= 6.0
    hue += hue < 0
    hue *= 6.0
    spread /= value + (value == 0)
    return hue, spread, value


def shares_of_value(hue: np.ndarray, saturation: np.ndarray) -> np.ndarray:
    """Red, green and blue as fractions of the value, for the hue and saturation (N, H, W) of `to_hsv`; (3, N, H, W)."""
    sector = hue.astype(np.intp)
    choices = np.empty((4, *hue.shape))
    one, p, q, t = choices
    one[...] = 1.0
    np.subtract(1.0, saturation, out=p)
    np.subtract(hue, sector, out=q)
    np.subtract(1.0, q, out=t)
    for part in (q, t):
        part *= saturation
        np.subtract(1.0, part, out=part)
    place = np.arange(hue.size).reshape(hue.shape)
    shares = np.empty((3, *hue.shape))
    for channel, share in zip(SECTORS * hue.size, shares, strict=True):
        choices.reshape(-1).take(channel.take(sector) + place, out=share, mode="clip")  # unbuffered
    return shares


def luma(planes: np.ndarray) -> np.ndarray:
    """The grey value (...) of planes (C, ...) of any float type; a single channel is returned as it is."""
    grey: np.ndarray = planes[0]
    if len(planes) == 1:
        return grey
    red, green, blue = (plane * planes.dtype.type(weight) for plane, weight in zip(planes, LUMA, strict=True))
    grey = red + green + blue
    return grey


def in_channels(colour: tuple[int, int, int], channels: int) -> np.ndarray:
    """An 8-bit RGB colour in planes of three channels in [0, 1], or its luma in one, float64 (channels, 1, 1, 1)."""
    rgb = np.array(colour).reshape(3, 1, 1, 1) / 255.0
    return rgb if channels == 3 else luma(rgb)[None]
