"""The forms of images: conversion to the uint8 (N, H, W, C) that the recipes work on, and back."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from common_corruptions.checks import SMALLEST

if TYPE_CHECKING:
    import torch

CHANNELS = (1, 3)
MODES = {"RGB": 3, "L": 1}
FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Form:
    """Images as the recipes take them, and the way back.

    `array` is uint8 (N, H, W, C). `back` takes a result, uint8 (N, H, W, C) or sequences (N, T, H, W, C), and returns
    it in the type, layout, dtype and device of the original images.
    """

    array: np.ndarray
    back: Callable[[np.ndarray], Any]


def read(images: Any) -> Form:
    """Recognise the form of an image or batch: an array, a PIL image or a tensor, as in `common_corruptions.corrupt`.

    Raises:
        TypeError: an unsupported type or dtype, or an unsupported mode of a PIL image.
        ValueError: an unsupported or ambiguous shape, or floats outside 0 to 1.
    """
    if isinstance(images, np.ndarray):
        return _of_array(images)
    if isinstance(images, Image.Image):
        return _of_picture(images)
    torch = sys.modules.get("torch")  # a tensor exists only if torch is imported
    if torch is not None and isinstance(images, torch.Tensor):
        return _of_tensor(images)
    raise TypeError(
        f"images must be a NumPy array, a PIL image, a torch tensor, or a list of these, not {type(images).__name__}"
    )


def is_image(leaf: Any) -> bool:
    """Whether the type of a part of a sample marks it as an image: a PIL image, or a tv_tensor Image or Video."""
    return isinstance(leaf, (Image.Image, *_tv_images()))


def check_masks(images: list[Any]) -> None:
    """Raise ValueError if single-band PIL images, which may be masks or depth maps, come with colour images.

    Args:
        images: the parts of one sample for which `is_image` is true.
    """
    pictures = [image for image in images if isinstance(image, Image.Image)]
    single = [picture.mode for picture in pictures if len(picture.getbands()) == 1]
    in_colour = any(
        len(image.getbands()) > 1 if isinstance(image, Image.Image) else image.shape[-3] == 3
        for image in images
    )
    if single and in_colour:
        raise ValueError(
            f"a PIL image of mode {single[0]} beside a colour image may be a mask, which must not be corrupted: wrap "
            f"it as torchvision.tv_tensors.Mask(picture), which stays unchanged, or, if it is a grey image, corrupt it "
            f"in a separate call"
        )


def _of_array(images: np.ndarray) -> Form:
    shape = images.shape
    if images.dtype != np.uint8:
        hint = (
            ", with np.round(255 * images).astype(np.uint8) if they are 0 to 1"
            if images.dtype.kind == "f"
            else ""
        )
        raise TypeError(
            f"images must be uint8 with values 0 to 255, not {images.dtype}; convert them first{hint}"
        )
    if images.ndim == 2:
        return Form(images[None, ..., None], lambda made: made[0, ..., 0])
    if images.ndim == 3 and shape[2] in CHANNELS:
        return Form(images[None], lambda made: made[0])
    if images.ndim == 3 and shape[2] >= SMALLEST:
        if shape[0] == 3:
            raise ValueError(
                f"images of shape {shape} may be three grey images or one with its channels first; give "
                f"images[..., None] for three images, np.moveaxis(images, 0, -1) for one"
            )
        return Form(images[..., None], lambda made: made[..., 0])
    if images.ndim == 4 and shape[3] in CHANNELS:
        return Form(images, lambda made: made)
    hint = ""
    if images.ndim == 4 and shape[1] in CHANNELS:
        hint = "; np.moveaxis(images, 1, -1) puts the channels last"
    elif images.ndim in (3, 4) and shape[-1] == 4:
        hint = "; images[..., :3] drops the alpha channel"
    raise ValueError(
        f"images must have the shape (N, H, W, C) or (H, W, C) with C 1 or 3, or, if grey, (N, H, W) or (H, W), "
        f"not {shape}{hint}"
    )


def _of_picture(picture: Image.Image) -> Form:
    if picture.mode.startswith(("I", "F")):
        raise TypeError(
            f"a PIL image must have the mode RGB or L, 8 bits a channel, not {picture.mode}, whose values convert() "
            f"clips at 255; scale them to 0 to 255 (16-bit values with np.asarray(picture) // 256) and give "
            f"Image.fromarray(values.astype(np.uint8))"
        )
    if picture.mode not in MODES:
        mode = "L" if picture.mode in ("1", "LA") else "RGB"
        raise TypeError(
            f"a PIL image must have the mode RGB or L, not {picture.mode}; convert it with picture.convert({mode!r})"
        )
    array = np.asarray(picture)

    def back(made: np.ndarray) -> Image.Image | list[Image.Image]:
        values = made[0] if picture.mode == "RGB" else made[0, ..., 0]
        if made.ndim == 5:
            return [Image.fromarray(frame) for frame in values]
        return Image.fromarray(values)

    return Form(array.reshape(1, *array.shape[:2], MODES[picture.mode]), back)


def _of_tensor(images: "torch.Tensor") -> Form:
    import torch

    kind, dtype = type(images), str(images.dtype).removeprefix("torch.")
    if kind.__module__.startswith("torchvision.") and not is_image(images):  # a mask, boxes
        raise TypeError(f"a tv_tensor of images must be an Image or a Video, not {kind.__name__}")
    if dtype != "uint8" and dtype not in FLOATS:
        raise TypeError(
            f"a tensor of images must be uint8 (0 to 255) or floating-point (0 to 1), not {dtype}; convert it first"
        )
    shape = tuple(images.shape)
    grey = len(shape) == 2
    if not (grey or (len(shape) in (3, 4) and shape[-3] in CHANNELS)):
        hint = ""
        if len(shape) in (3, 4) and shape[-1] in CHANNELS:
            hint = "; images.movedim(-1, -3) puts the channels there"
        elif len(shape) == 3:
            hint = "; images.unsqueeze(1) makes it a batch of grey images"
        raise ValueError(
            f"a tensor of images must have the shape (N, C, H, W) or (C, H, W) with C 1 or 3, or, if grey, (H, W), "
            f"not {shape}{hint}"
        )
    # Single precision keeps the levels of half precision distinct; division on the CPU rounds the same everywhere.
    wide = torch.float64 if dtype == "float64" else torch.float32
    values = images.detach().as_subclass(torch.Tensor).cpu()
    if dtype != "uint8":
        values = _levels(values.to(wide))
    array = values.numpy()
    array = array[..., None] if grey else np.moveaxis(array, -3, -1)

    def back(made: np.ndarray) -> torch.Tensor:
        made = made[..., 0] if grey else np.moveaxis(made, -1, -3)
        out = torch.from_numpy(np.ascontiguousarray(made if len(shape) == 4 else made[0]))
        if dtype != "uint8":
            out = out.to(wide) / 255
        out = out.to(device=images.device, dtype=images.dtype)
        return sys.modules["torchvision.tv_tensors"].wrap(out, like=images) if is_image(images) else out

    return Form(array if len(shape) == 4 else array[None], back)


def _levels(values: "torch.Tensor") -> "torch.Tensor":
    """Round floats from 0 to 1 to the nearest of 256 levels, uint8."""
    if values.numel():
        low, high = (value.item() for value in values.aminmax())
        if not (low >= 0 and high <= 1):
            found = "NaN" if low != low else f"{_outside(low)} to {_outside(high)}"
            raise ValueError(
                f"a floating-point tensor of images must hold values from 0 to 1, not {found}; corrupt images before "
                f"they are normalised, and divide values of 0 to 255 by 255"
            )
    return (values * 255).round().byte()


def _outside(value: float) -> str:
    """Format a value with as few digits as show on which side of 0 and of 1 it lies."""
    short = f"{value:.4g}"
    return short if (float(short) < 0, float(short) > 1) == (value < 0, value > 1) else repr(value)


def _tv_images() -> tuple[type, ...]:
    module = sys.modules.get("torchvision.tv_tensors")  # a tv_tensor exists only if it is imported
    return () if module is None else (module.Image, module.Video)
