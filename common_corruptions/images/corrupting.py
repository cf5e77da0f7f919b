"""`corrupt` and `perturb` for images in any of the usual forms; the output has the form of the input."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common_corruptions.checks import check_name, check_seed, check_severity
from common_corruptions.images.forms import Form, read
from common_corruptions.recipes.corruptions import corrupt as corrupt_array
from common_corruptions.recipes.names import FRAMES
from common_corruptions.recipes.perturbations import perturb as perturb_array
from common_corruptions.recipes.registry import check_corruption
from common_corruptions.recipes.scales import check_one_scale, check_scale, scale_of

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.uint8]
Picture = TypeVar("Picture", bound=Image.Image)
Images = TypeVar("Images", bound="Array | Tensor | list[Any] | tuple[Any, ...]")


@overload  # for type checkers: an image file opened by Pillow becomes a plain Image
def corrupt(
    images: Image.Image,
    name: str,
    severity: int = 3,
    seed: int = 0,
    *,
    start: int = 0,
    scale: str | None = None,
) -> Image.Image: ...
@overload
def corrupt(
    images: list[Picture],
    name: str,
    severity: int = 3,
    seed: int = 0,
    *,
    start: int = 0,
    scale: str | None = None,
) -> list[Image.Image]: ...
@overload
def corrupt(
    images: tuple[Picture, ...],
    name: str,
    severity: int = 3,
    seed: int = 0,
    *,
    start: int = 0,
    scale: str | None = None,
) -> tuple[Image.Image, ...]: ...
@overload
def corrupt(
    images: Images, name: str, severity: int = 3, seed: int = 0, *, start: int = 0, scale: str | None = None
) -> Images: ...
def corrupt(
    images: Any, name: str, severity: int = 3, seed: int = 0, *, start: int = 0, scale: str | None = None
) -> Any:
    """Corrupt images as in CIFAR-10-C or ImageNet-C (see `common_corruptions.recipes.corruptions`).

    Images are RGB or grey, with sides of 16 to 1024 pixels, in one of these forms:

    - a NumPy array, uint8: (N, H, W, C) or one image (H, W, C), C 1 or 3; grey without a channel axis (N, H, W) or
      (H, W). A last axis of size 1 or 3 is the channels, since no image is so narrow. (3, H, W) is refused, since it
      may be three grey images or one with its channels first.
    - a torch tensor on any device, uint8 or floating-point with values from 0 to 1: (N, C, H, W), (C, H, W), or grey
      (H, W). Floats are first rounded to the nearest of 256 levels; gradients are not propagated. A tv_tensor stays
      one.
    - a PIL image of mode RGB or L.
    - a list or tuple of these, of equal or different sizes. Its images are numbered consecutively.

    Args:
        images: in one of these forms.
        name: one of `common_corruptions.CORRUPTIONS`, or one declared with `common_corruptions.corruption`.
        severity: 1 (weakest) to 5.
        seed: any integer. The seed, the corruption, the severity and the image's index decide an image's noise.
        start: index of the first image in its data set. Corrupting a data set in parts gives the same images as
            corrupting it at once.
        scale: whose constants to use, "cifar" or "imagenet". By default CIFAR-10-C's up to 64 pixels a side and
            ImageNet-C's above; a list that mixes the two is refused.

    Returns:
        New images in the form of the input: type, layout, dtype and device. Their 8-bit values do not depend on the
            form.

    Raises:
        TypeError: an unsupported type, dtype or mode; a seed or start that is not an integer.
        ValueError: an unsupported or ambiguous shape, or floats outside 0 to 1 (the message says what to do); an
            unknown name (the nearest is suggested) or scale; a size, severity or start out of range; a corruption of
            your own that raises, or returns anything but uint8 images of the same shape.
    """
    check_corruption(name)  # even if there are no images
    check_severity(severity)
    check_scale(scale)
    check_seed(seed, start)
    forms = _forms(images)
    scale = _common_scale(forms) if scale is None else scale
    return _make(
        images,
        forms,
        lambda array, first: corrupt_array(array, name, severity, seed, start=first, scale=scale),
        start,
    )


@overload
def perturb(images: Image.Image, name: str, seed: int = 0, *, start: int = 0) -> list[Image.Image]: ...
@overload
def perturb(
    images: list[Picture], name: str, seed: int = 0, *, start: int = 0
) -> list[list[Image.Image]]: ...
@overload
def perturb(
    images: tuple[Picture, ...], name: str, seed: int = 0, *, start: int = 0
) -> tuple[list[Image.Image], ...]: ...
@overload
def perturb(images: Images, name: str, seed: int = 0, *, start: int = 0) -> Images: ...
def perturb(images: Any, name: str, seed: int = 0, *, start: int = 0) -> Any:
    """Make one perturbation sequence from each image (see `common_corruptions.recipes.perturbations`).

    ImageNet-P is not supported: its recipes are not those of CIFAR-10-P at another size.

    Args:
        images: in any form that `corrupt` takes, with sides of 16 to 256 pixels.
        name: one of `common_corruptions.PERTURBATIONS`, or a noise variant such as "shot_noise_2".
        seed: any integer. The seed, the perturbation and the image's index decide an image's random draws.
        start: index of the first image in its data set.

    Returns:
        Sequences in the form of the input, with a frame axis T before the axes of one image: (N, T, H, W, C) for
        (N, H, W, C), (T, C, H, W) for (C, H, W), a list of T images for a PIL image. T is 31, except 21 for motion_blur
        and 16 for translate.

    Raises:
        TypeError, ValueError: as `corrupt`.
    """
    check_name(name, FRAMES, "perturbation")  # even if there are no images
    check_seed(seed, start)
    forms = _forms(images)
    return _make(images, forms, lambda array, first: perturb_array(array, name, seed, start=first), start)


def _forms(images: Any) -> list[Form]:
    """The form of each image in a list or tuple, or of a single input."""
    if isinstance(images, list | tuple):
        return [_element(images, position) for position in range(len(images))]
    return [read(images)]


def _common_scale(forms: list[Form]) -> str | None:
    """The default scale of the images, which must be the same for all."""
    scales = {scale_of(None, *form.array.shape[1:3]) for form in forms}
    check_one_scale(scales)
    return scales.pop() if scales else None


def _make(images: Any, forms: list[Form], make: Callable[[np.ndarray, int], np.ndarray], start: int) -> Any:
    if not isinstance(images, list | tuple):
        return forms[0].back(make(forms[0].array, start))
    ends = np.cumsum([len(form.array) for form in forms]).tolist()
    if len({form.array.shape[1:] for form in forms}) == 1:  # at once, which is faster
        parts = np.split(make(np.concatenate([form.array for form in forms]), start), ends[:-1])
    else:
        firsts = [start, *(start + end for end in ends)]
        parts = [make(form.array, first) for form, first in zip(forms, firsts, strict=False)]
    made = [form.back(part) for form, part in zip(forms, parts, strict=True)]
    return made if isinstance(images, list) else tuple(made)


def _element(images: list[Any] | tuple[Any, ...], position: int) -> Form:
    try:
        return read(images[position])
    except (TypeError, ValueError) as error:
        raise type(error)(f"images[{position}]: {error}") from None
