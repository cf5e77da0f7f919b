"""Corruptions for data loaders: a transform, and a data set of which each item is corrupted when it is asked for."""

import hashlib
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from common_corruptions.checks import check_seed, check_severity
from common_corruptions.images.forms import check_masks, is_image, read
from common_corruptions.recipes.corruptions import corrupt
from common_corruptions.recipes.names import SEVERITIES
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import recipe
from common_corruptions.recipes.scales import check_scale

EPOCH = 1 << 32  # indices between one epoch and the next: more than a data set has items


class Corrupt:
    """A transform as torchvision's: corrupts an image, PIL, array or tensor, as `common_corruptions.corrupt` takes it.

    >>> transforms = v2.Compose([Corrupt("fog", severity=3), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    >>> augmentation = Corrupt(names=["fog", "contrast"], severities=[1, 2])

    Of one corruption and severity, an image's noise is decided by the seed and by the image itself: an image has the
    same noise in each call, process, order and batch, and two images that differ have noise that is independent. It is
    not the noise that the image has in a set made at once, for which there is `CorruptedDataset`.

    With `names`, each call draws one of them, one of `severities` and the noise. These draws come from torch's random
    generator, as those of torchvision's transforms do: `torch.manual_seed` repeats them, and a `DataLoader` gives each
    worker and each epoch its own.

    As torchvision's v2 has it, a call takes a sample: one image, or several arguments, tuples, lists and dicts with
    images among them. Corrupted are the PIL images and the tv_tensors that are an Image or a Video, else the first
    tensor or array; all the rest is handed on. A mask as a PIL image would be one more image to corrupt, and is refused
    beside one in colour: wrap it as a tv_tensors.Mask. A batch is images as good as any; one call draws once for all.
    """

    def __init__(
        self,
        name: str | None = None,
        severity: int | None = None,
        seed: int = 0,
        *,
        names: Sequence[str] | None = None,
        severities: Sequence[int] | None = None,
        scale: str | None = None,
    ) -> None:
        """Choose what is done.

        Args:
            name: one of `common_corruptions.CORRUPTIONS`, or one declared with `common_corruptions.corruption`.
            severity: 1 (weakest) to 5, by default 3.
            seed: any integer.
            names: in place of `name`, what is drawn from.
            severities: with `names`, what is drawn from, by default 1 to 5.
            scale: whose constants, "cifar" or "imagenet"; by default each image's size decides, as in `corrupt`.

        Raises:
            TypeError: both `name` and `names`, or neither; `severity` or `severities` with the other of them; a seed
                that is no integer.
            ValueError: an unknown name or scale, a severity out of range, nothing to draw from.
        """
        check_seed(seed, 0)
        self.choice = _choice(name, severity, names, severities, scale)
        self.seed = int(seed)

    def __call__(self, *inputs: Any) -> Any:
        """Corrupt the images of a sample.

        Raises:
            TypeError: no image among the inputs; and as `common_corruptions.corrupt`.
            ValueError: a PIL image of one band, such as L or P, beside one in colour; and as
                `common_corruptions.corrupt`.
        """
        sample = inputs[0] if len(inputs) == 1 else inputs
        leaves = list(_leaves(sample))
        plain = (leaf for leaf in leaves if isinstance(leaf, np.ndarray) or type(leaf) is torch.Tensor)
        images = [leaf for leaf in leaves if is_image(leaf)] or list(plain)[:1]
        if not images:
            kinds = ", ".join(dict.fromkeys(type(leaf).__name__ for leaf in leaves)) or "nothing"
            raise TypeError(f"no image to corrupt: no PIL image, no tensor and no array among {kinds}")
        check_masks([image for image in images if is_image(image)])
        forms = {id(image): read(image) for image in images}
        make = self._make_drawn if self.choice.random else self._make_chosen
        made = make([form.array for form in forms.values()])
        return _replaced(
            sample, {key: form.back(one) for (key, form), one in zip(forms.items(), made, strict=True)}
        )

    def _make_drawn(self, batches: list[np.ndarray]) -> list[np.ndarray]:
        index = int(torch.randint(1 << 62, (), device="cpu"))
        name, severity = self.choice.draw(self.seed, index)
        made = []
        for images in batches:
            made.append(corrupt(images, name, severity, self.seed, start=index, scale=self.choice.scale))
            index += len(images)
        return made

    def _make_chosen(self, batches: list[np.ndarray]) -> list[np.ndarray]:
        name, severity = self.choice.names[0], self.choice.severities[0]
        made = [np.empty(images.shape, np.uint8) for images in batches]
        for images, out in zip(batches, made, strict=True):
            for position in range(len(images)):
                image = images[position : position + 1]
                index = int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little")
                out[position] = corrupt(
                    image, name, severity, self.seed, start=index, scale=self.choice.scale
                )[0]
        return made

    def __repr__(self) -> str:
        return f"Corrupt({self.choice}, seed={self.seed})"


class CorruptedDataset(Dataset[Any]):
    """A map-style data set with the images of another one corrupted.

    >>> foggy = CorruptedDataset(CIFAR10("data", train=False), "fog", severity=3)

    Item i has the bytes of image i of the set that `common_corruptions.corrupt` makes at once with this seed, whatever
    the order, the batches and the number of workers.

    With `names`, for augmentation, the name, the severity and the noise of an item are decided by the seed, the epoch
    and the index: call `set_epoch` before each epoch. In epoch e, image i has the noise of image e * 2**32 + i.

    An item is an image, PIL, array or tensor, in a form that `corrupt` takes, or a tuple or list that begins with one,
    such as (image, label); it keeps its form. Transforms of the other data set come before the corruption: they must
    not normalise.
    """

    def __init__(
        self,
        dataset: Any,
        name: str | None = None,
        severity: int | None = None,
        seed: int = 0,
        *,
        names: Sequence[str] | None = None,
        severities: Sequence[int] | None = None,
        scale: str | None = None,
    ) -> None:
        """Choose what is done; `dataset` has `__len__` and `__getitem__`, the rest is as for `Corrupt`."""
        check_seed(seed, 0)
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise TypeError(
                f"{type(dataset).__name__} has no length or no items by index, which decides an image's noise"
            )
        self.dataset = dataset
        self.choice = _choice(name, severity, names, severities, scale)
        self.seed = int(seed)
        self._epoch = torch.zeros(
            (), dtype=torch.int64, device="cpu"
        ).share_memory_()  # workers that persist see it change

    def set_epoch(self, epoch: int) -> None:
        """Have the items of this epoch, counted from 0, drawn. It changes nothing where nothing is drawn from `names`.

        Raises:
            TypeError, ValueError: an epoch that is not an integer, or is negative.
        """
        if operator.index(epoch) < 0:
            raise ValueError(f"epoch must be at least 0, not {epoch}")
        self._epoch.fill_(operator.index(epoch))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The item with its image corrupted.

        Raises:
            IndexError: no such item.
            TypeError, ValueError: an item that holds no image first, or not one image; and as `corrupt`.
        """
        position, length = operator.index(index), len(self)
        if not -length <= position < length:
            raise IndexError(f"there is no item {position} among {length}")
        position %= length
        item = self.dataset[position]
        several = isinstance(item, tuple | list) and len(item) > 0
        try:
            form = read(item[0] if several else item)
            if len(form.array) != 1:
                raise ValueError(f"there must be one image in it, not {len(form.array)}")
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"item {position} of the data set must be an image, or a tuple that begins with one: {error}"
            ) from None
        image = form.back(self._corrupt(form.array, position))
        return _like(item, [image, *item[1:]]) if several else image

    def _corrupt(self, image: np.ndarray, index: int) -> np.ndarray:
        if self.choice.random:
            index += EPOCH * int(self._epoch)
        name, severity = self.choice.draw(self.seed, index)
        return corrupt(image, name, severity, self.seed, start=index, scale=self.choice.scale)


@dataclass(frozen=True)
class _Choice:
    names: tuple[str, ...]
    severities: tuple[int, ...]
    random: bool
    scale: str | None
    # To unpickle them, in a worker, imports the modules that declare the names.
    functions: tuple[Callable[..., np.ndarray], ...]

    def draw(self, seed: int, index: int) -> tuple[str, int]:
        """The name and the severity of an image."""
        draws = Draws(seed, ("augmentation",), index, 1)
        name = draws.integers("name", (), len(self.names))
        severity = draws.integers("severity", (), len(self.severities))
        return self.names[int(name[0])], self.severities[int(severity[0])]

    def __str__(self) -> str:
        scale = "" if self.scale is None else f", scale={self.scale!r}"
        if self.random:
            return f"names={list(self.names)}, severities={list(self.severities)}{scale}"
        return f"{self.names[0]!r}, severity={self.severities[0]}{scale}"


def _choice(
    name: str | None,
    severity: int | None,
    names: Sequence[str] | None,
    severities: Sequence[int] | None,
    scale: str | None,
) -> _Choice:
    if (name is None) == (names is None):
        raise TypeError("give a name, or names=[...] to draw from, and not both")
    if (severities if names is None else severity) is not None:
        raise TypeError("severity goes with a name, severities=[...] with names=[...]")
    if isinstance(names, str):
        raise TypeError(f"names must be a list of names, not {names!r}")
    chosen: tuple[Any, ...] = (name,) if names is None else tuple(names)
    if names is None:
        strengths: tuple[int, ...] = (3 if severity is None else severity,)
    else:
        strengths = SEVERITIES if severities is None else tuple(severities)
    if not chosen or not strengths:
        raise ValueError("names and severities must hold at least one each to draw from")
    for strength in strengths:
        check_severity(strength)
    check_scale(scale)
    functions = tuple(recipe(one).function for one in chosen)
    return _Choice(chosen, strengths, names is not None, scale, functions)


def _leaves(sample: Any) -> Iterator[Any]:
    if isinstance(sample, tuple | list | dict):
        for part in sample.values() if isinstance(sample, dict) else sample:
            yield from _leaves(part)
    else:
        yield sample


def _replaced(sample: Any, made: dict[int, Any]) -> Any:
    """The sample with what was made in the places of the leaves of these ids."""
    if isinstance(sample, dict):
        return {key: _replaced(part, made) for key, part in sample.items()}
    if isinstance(sample, tuple | list):
        return _like(sample, [_replaced(part, made) for part in sample])
    return made.get(id(sample), sample)


def _like(sample: tuple[Any, ...] | list[Any], parts: list[Any]) -> Any:
    return sample._make(parts) if hasattr(sample, "_make") else type(sample)(parts)
