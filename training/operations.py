"""Image augmentation operations on a batch, with one magnitude per image.

All take images (n, H, W, C) uint8 with one or three channels and magnitudes (n,) float32, and return images of the same
shape and type. Each image is processed independently. A magnitude outside an operation's range gives an undefined image
but no error. The operations match Pillow's of the same names, which compute in double precision: here a value may
differ by 1, and of two equally near pixels the other one may be read.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Operation = Callable[[Tensor, Tensor], Tensor]

ROUNDING = 2.0**-10  # of a level; lifts values that single precision leaves just below an integer


def shear_x(images: Tensor, factors: Tensor, bilinear: bool = False) -> Tensor:
    """Shift each row to the left by the factor times its distance from the upper edge; new pixels are black."""
    return _warp(images, 1.0, factors, 0.0, 0.0, 1.0, 0.0, bilinear)


def shear_y(images: Tensor, factors: Tensor, bilinear: bool = False) -> Tensor:
    """Shift each column upwards by the factor times its distance from the left edge; new pixels are black."""
    return _warp(images, 1.0, 0.0, 0.0, factors, 1.0, 0.0, bilinear)


def translate_x(images: Tensor, shares: Tensor, bilinear: bool = False) -> Tensor:
    """Shift the image to the left by a fraction of its width, in whole pixels; new pixels are black."""
    return _warp(images, 1.0, 0.0, (shares * images.shape[2]).trunc(), 0.0, 1.0, 0.0, bilinear)


def translate_y(images: Tensor, shares: Tensor, bilinear: bool = False) -> Tensor:
    """Shift the image upwards by a fraction of its height, in whole pixels; new pixels are black."""
    return _warp(images, 1.0, 0.0, 0.0, 0.0, 1.0, (shares * images.shape[1]).trunc(), bilinear)


def rotate(images: Tensor, degrees: Tensor, bilinear: bool = False) -> Tensor:
    """Rotate the image counter-clockwise about its centre; new pixels are black."""
    height, width = images.shape[1:3]
    angle = torch.deg2rad(-degrees)
    cosine, sine = angle.cos(), angle.sin()
    x, y = width / 2, height / 2
    return _warp(
        images, cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y, bilinear
    )


def _warp(
    images: Tensor,
    xx: Tensor | float, xy: Tensor | float, x0: Tensor | float,
    yx: Tensor | float, yy: Tensor | float, y0: Tensor | float,
    bilinear: bool,
) -> Tensor:  # fmt: skip
    """Read each pixel at (xx x + xy y + x0, yx x + yy y + y0), where (x, y) is its centre, (0.5, 0.5) for the first.

    Reads the nearest pixel or interpolates bilinearly, with the edge repeated and the result truncated to an integer
    level. Positions outside of the image are black.
    """
    count, height, width, _ = images.shape
    x = torch.arange(width, device=images.device) + 0.5
    y = (torch.arange(height, device=images.device) + 0.5)[:, None]
    xx, xy, x0, yx, yy, y0 = (
        value[:, None, None] if isinstance(value, Tensor) else value for value in (xx, xy, x0, yx, yy, y0)
    )
    columns = (xx * x + xy * y + x0).expand(count, height, width)
    rows = (yx * x + yy * y + y0).expand(count, height, width)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    if bilinear:
        places = torch.stack([columns * (2 / width) - 1, rows * (2 / height) - 1], dim=3)
        planes = images.permute(0, 3, 1, 2).float()
        read = F.grid_sample(planes, places, mode="bilinear", padding_mode="border", align_corners=False)
        found = (read.permute(0, 2, 3, 1) + ROUNDING).to(torch.uint8)
    else:
        column = columns.floor().long().clamp(0, width - 1)
        row = rows.floor().long().clamp(0, height - 1)
        found = images[torch.arange(count, device=images.device)[:, None, None], row, column]
    return found * inside[..., None]


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply all values: a factor of 0 gives black, 1 the image, more a brighter image."""
    return _blend(torch.zeros((), device=images.device), images, factors)


def color(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the difference to the grey image: a factor of 0 gives grey, 1 the image, more a more colourful image."""
    return _blend(_grey(images), images, factors)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the difference to the mean grey level of the image."""
    pixels = images.shape[1] * images.shape[2]
    total = _grey(images).sum((1, 2, 3), keepdim=True)
    return _blend((2 * total + pixels) // (2 * pixels), images, factors)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the difference to the image smoothed by 3 x 3 weights, 5 in the centre, 1 around; the border stays."""
    values = images.int()
    across = values[:, :, :-2] + values[:, :, 1:-1] + values[:, :, 2:]
    around = across[:, :-2] + across[:, 1:-1] + across[:, 2:]
    smooth = values.clone()
    smooth[:, 1:-1, 1:-1] = (2 * (around + 4 * values[:, 1:-1, 1:-1]) + 13) // 26
    return _blend(smooth, images, factors)


def _blend(start: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """Interpolate from `start` (factor 0) to the image (factor 1), or extrapolate beyond it."""
    blended = start + factors[:, None, None, None] * (images.int() - start)
    return blended.clamp(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """Grey images (n, H, W, 1) int32: ITU-R 601 luma in Pillow's integer arithmetic."""
    values = images.int()
    if images.shape[3] == 1:
        return values
    red, green, blue = values.unbind(3)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16)[..., None]


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the given number of highest bits of each value."""
    mask = (256 - 2 ** (8 - bits.int())).to(torch.uint8)
    return images & mask[:, None, None, None]


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Invert the values at or above the threshold."""
    return torch.where(images >= thresholds[:, None, None, None], 255 - images, images)


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch the values of each channel to 0..255."""
    values = images.int()
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    stretched = (values - low) * 255 // (high - low).clamp(min=1)
    return torch.where(high > low, stretched, values).to(torch.uint8)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Equalise the histogram of each channel; images of few pixels, such as 8 x 8, stay unchanged."""
    count, height, width, channels = images.shape
    values = images.permute(0, 3, 1, 2).reshape(-1, height * width).long()
    counts = values.new_zeros(len(values), 256).scatter_add_(1, values, torch.ones_like(values))
    below = counts.cumsum(1) - counts
    others = below.gather(1, values.amax(1, keepdim=True))  # all pixels except those of the highest value
    step = others // 255
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    spread = torch.where(step > 0, table.gather(1, values), values).to(torch.uint8)
    return spread.reshape(count, channels, height, width).permute(0, 2, 3, 1)
