"""Pillow's box filter on several images at once: the same bytes, several times faster than image by image.

When shrinking, a pixel is the mean of whole pixels, first along the rows and then along the columns, and each step
rounds. Pillow did so when the corruptions were published. Since version 13 it begins with the columns if an image loses
more than twice as many rows as columns, which changes some pixels by one level.
"""

import functools

import cv2
import numpy as np
from PIL import Image


def shrunk_by_box(images: np.ndarray, tall: int, wide: int) -> np.ndarray:
    """Shrink uint8 images (N, H, W, C) to (N, tall, wide, C)."""
    count, height, width, channels = images.shape
    columns = _means(_turned(images.reshape(-1, width, channels))[None], wide)[0]
    rows = _turned(columns.reshape(wide, count * height, channels))
    return _means(rows.reshape(count, height, -1), tall).reshape(count, tall, wide, channels)


def enlarged_by_box(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge uint8 images (N, h, w, C) to (N, height, width, C) by repeating pixels."""
    count, tall, wide, channels = images.shape
    columns = _turned(images.reshape(-1, wide, channels)).take(repeated(wide, width), axis=0)
    rows = _turned(columns.reshape(width, count * tall, channels)).reshape(count, tall, -1)
    return rows.take(repeated(tall, height), axis=1).reshape(count, height, width, channels)


def _turned(pixels: np.ndarray) -> np.ndarray:
    """Transpose uint8 (H, W, C) to (W, H C): copying and adding whole rows is much faster."""
    return cv2.transpose(pixels).reshape(pixels.shape[1], -1)


def _means(lines: np.ndarray, coarse: int) -> np.ndarray:
    """Shrink uint8 (N, size, K) along its middle axis to `coarse`."""
    out = np.empty((len(lines), coarse, lines.shape[2]), dtype=np.uint8)
    wider = lines.astype(np.uint16)
    for number, half, places, sources in boxes(lines.shape[1], coarse):
        total = wider.take(sources[0], axis=1)
        for source in sources[1:]:
            total += wider.take(source, axis=1)
        if len(sources) > 1:
            total += half
            total //= number
        out[:, places] = total
    return out


@functools.cache
def boxes(size: int, coarse: int) -> tuple[tuple[np.uint16, np.uint16, np.ndarray, list[np.ndarray]], ...]:
    """The coarse pixels of an axis, by the number of pixels that each is the mean of.

    Pillow itself is used to find them, as it rounds to decide on a pixel between two boxes.

    Returns:
        For each such number: the number; what to add to the sum before it is divided; the coarse pixels (P,); and for
        the first, second, ... of the averaged pixels, its index for each coarse pixel, (P,).
    """
    unit = Image.fromarray(np.eye(size, dtype=np.float32))
    inside = np.asarray(unit.resize((coarse, size), Image.Resampling.BOX)) > 0
    first, numbers = inside.argmax(axis=0), inside.sum(axis=0)
    found = []
    for number in np.unique(numbers).tolist():
        places = np.flatnonzero(numbers == number)
        sources = [first[places] + step for step in range(number)]
        found.append((np.uint16(number), np.uint16(_half(number)), places, sources))
    return tuple(found)


def _half(number: int) -> int:
    """What to add to the sum of up to 160 8-bit values before it is divided by their number, to round as Pillow does.

    Pillow multiplies by 1 / number in units of 2^-22: ties round up, but down if that weight was rounded down.
    """
    weight = round(2**22 / number)
    return number // 2 - (number % 2 == 0 and weight * number < 2**22)


@functools.cache
def repeated(coarse: int, size: int) -> np.ndarray:
    """For each pixel of an axis, the coarse pixel that it repeats; (size,)."""
    ramp = Image.fromarray(np.arange(coarse, dtype=np.float32)[None])
    places: np.ndarray = np.asarray(ramp.resize((size, 1), Image.Resampling.BOX))[0].astype(np.intp)
    return places
