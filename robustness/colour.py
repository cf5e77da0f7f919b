"""Hue, saturation, value and luma of images, as the published corruptions compute them in double precision.

The conversions follow `skimage.color` and Matplotlib step by step, since results are truncated: the last bit of a sum
that is a whole level decides which level it becomes.
"""

import numpy as np

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in a grey value

# Which of (1, p, q, t) red, green and blue are of the value, in each sixth of the circle of hues.
SECTORS = np.array([[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]])


def to_hsv(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue in sixths of a turn (0 to 6), saturation and value of uint8 images (N, H, W, 3); float64 (N, H, W) each."""
    red, green, blue = np.ascontiguousarray(images.transpose(3, 0, 1, 2)) / 255.0
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    saturation = spread / np.where(spread > 0, value, 1.0)
    divisor = np.where(spread > 0, spread, 1.0)
    hue = np.where(red == value, (green - blue) / divisor, 0.0)
    hue = np.where(green == value, 2.0 + (blue - red) / divisor, hue)
    hue = np.where(blue == value, 4.0 + (red - green) / divisor, hue)
    hue = np.where(spread > 0, hue, 0.0) / 6.0
    hue += hue < 0
    return hue * 6.0, saturation, value


def shares_of_value(hue: np.ndarray, saturation: np.ndarray) -> np.ndarray:
    """What red, green and blue are of the value, at the hue and saturation (N, H, W) of `to_hsv`; (3, N, H, W)."""
    sector = hue.astype(np.intp)
    part = hue - sector
    choices = np.stack(
        [
            np.ones_like(hue),
            1.0 - saturation,
            1.0 - saturation * part,
            1.0 - saturation * (1.0 - part),
        ]
    )
    sector %= 6
    place = np.arange(hue.size).reshape(hue.shape)
    return choices.reshape(-1).take(SECTORS.T[:, sector] * hue.size + place)


def luma(images: np.ndarray) -> np.ndarray:
    """The grey value of images (N, H, W, C) of any float type, (N, H, W, 1); one channel is its own."""
    if images.shape[-1] == 1:
        return images
    red, green, blue = (images[..., channel, None] * images.dtype.type(LUMA[channel]) for channel in range(3))
    return red + green + blue


def in_channels(colour: tuple[int, int, int], channels: int) -> np.ndarray:
    """An 8-bit RGB colour as it is in an image of three channels in [0, 1], or its luma in one, float64 (channels,)."""
    rgb = np.array(colour) / 255.0
    return rgb if channels == 3 else luma(rgb[None])[0]
