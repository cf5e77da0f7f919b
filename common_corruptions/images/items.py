"""Items of map-style data sets: where the image is in an item, and what its label is."""

import operator
from typing import Any

from common_corruptions.images.forms import Form, is_image, read


def check_indexed(dataset: Any) -> None:
    """Raise TypeError unless a data set has a length and items by index."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "batch_size"):
        raise TypeError(f"give the data set behind the {type(dataset).__name__}: its attribute `dataset`")
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(
            f"{type(dataset).__name__} needs a length and items by index, which decides an image's noise"
        )


def image_of(item: Any, position: int) -> Form:
    """The image of an item as the recipes take it, uint8 (1, H, W, C), and the way back.

    Args:
        item: an image in a form that `corrupt` takes, a tuple or list that begins with one, or a dict with one image
            among its values: the only PIL image or tv_tensor, else the only array or tensor of two or more dimensions.
        position: index of the item in its data set, for error messages.

    Raises:
        TypeError, ValueError: no image there, or several; and as `corrupt`.
    """
    try:
        place = _place(item)
        form = read(item if place is None else item[place])
        if len(form.array) != 1:
            raise ValueError(f"there must be one image in it, not {len(form.array)}")
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"item {position} of the data set must be an image, a tuple or list that begins with one, or a dict with "
            f"one among its values: {error}"
        ) from None
    return form


def with_image(item: Any, image: Any) -> Any:
    """The item with its image replaced by this one."""
    place = _place(item)
    if place is None:
        return image
    if isinstance(item, dict):
        return item | {place: image}
    return like(item, [image, *item[1:]])


def label_of(item: Any, position: int) -> int:
    """The label of an item: `label` of a dict, or the second part of a tuple or list.

    Raises:
        TypeError: no integer from 0 there, or a tuple or list with further integers, one of which might be the label.
    """
    if isinstance(item, dict):
        if "label" not in item:
            raise TypeError(
                f"item {position} of the data set has no label: no key `label` among {', '.join(map(str, item))}"
            )
        found = item["label"]
    elif isinstance(item, tuple | list) and len(item) > 1:
        found = item[1]
        if any(_integer(part) is not None for part in item[2:]):
            raise TypeError(
                f"item {position} of the data set has several integers, any of which may be the label; give a data set "
                f"of (image, label)"
            )
    else:
        raise TypeError(
            f"item {position} of the data set has no label: it must be (image, label), or a dict with both"
        )
    label = _integer(found)
    if label is None or label < 0:
        raise TypeError(
            f"the label of item {position} of the data set must be an integer from 0, not {_described(found)}"
        )
    return label


def like(sample: tuple[Any, ...] | list[Any], parts: list[Any]) -> Any:
    """The parts as a tuple, named tuple or list, like the sample."""
    return sample._make(parts) if hasattr(sample, "_make") else type(sample)(parts)


def _place(item: Any) -> Any:
    """Index or key of the image in an item; None if the item is the image."""
    if isinstance(item, tuple | list):
        return 0 if item else None
    if not isinstance(item, dict):
        return None
    typed = [key for key, value in item.items() if is_image(value)]
    places = typed or [key for key, value in item.items() if len(getattr(value, "shape", ())) > 1]
    if len(places) != 1:
        which = f"several: {', '.join(map(str, places))}" if places else "none"
        raise ValueError(f"one of {', '.join(map(str, item))} must be an image, but there are {which}")
    return places[0]


def _integer(value: Any) -> int | None:
    """A Python or NumPy integer, or the integer in a tensor or array without dimensions; None for anything else."""
    if (
        isinstance(value, bool)
        or "bool" in str(getattr(value, "dtype", ""))
        or getattr(value, "shape", ()) != ()
    ):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _described(value: Any) -> str:
    shape = getattr(value, "shape", ())
    return f"{type(value).__name__} of shape {tuple(shape)}" if shape != () else f"{value!r:.40}"
