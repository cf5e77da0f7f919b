"""A data set whose items are corrupted on access."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from common_corruptions.checks import check_seed
from common_corruptions.images.choice import choose
from common_corruptions.images.items import check_indexed, image_of, with_image
from common_corruptions.recipes.corruptions import corrupt
from common_corruptions.recipes.scales import check_one_scale, scale_of

EPOCH = 1 << 32  # image indices per epoch: more than any data set has items


class CorruptedDataset(Dataset[Any]):
    """A map-style data set with the images of another one corrupted.

    >>> foggy = CorruptedDataset(CIFAR10("data", train=False), "fog", severity=3)

    Item i is byte for byte image i of the set that `common_corruptions.corrupt` makes at once with this seed, whatever
    the order, the batches and the number of workers.

    With `names`, for augmentation, the seed, the epoch and the index decide the name, the severity and the noise of an
    item: call `set_epoch` before each epoch. In epoch e, image i has the noise of image e * 2**32 + i.

    An item is an image (PIL, array or tensor, in a form that `corrupt` takes); a tuple or list that begins with one,
    such as (image, label); or a dict with one image among its values, as in Hugging Face data sets. It keeps its form.
    The transforms of the other data set run before the corruption and must not normalise.
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
        """Set what is applied. `dataset` has `__len__` and `__getitem__`; the other arguments are as for `Corrupt`."""
        check_seed(seed, 0)
        check_indexed(dataset)
        self.dataset = dataset
        self.choice = choose(name, severity, names, severities, scale)
        self.seed = int(seed)
        self._scale: str | None = None  # of the items so far
        self._epoch = torch.zeros(
            (), dtype=torch.int64, device="cpu"
        ).share_memory_()  # shared, so that persistent workers see it change

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, for which items are drawn. Has no effect unless items are drawn from `names`.

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
            TypeError, ValueError: an item without exactly one image in the expected place; data sets in which the size
                of some images selects the scale "cifar" and that of others "imagenet"; and as `corrupt`.
        """
        position, length = operator.index(index), len(self)
        if not -length <= position < length:
            raise IndexError(f"there is no item {position} among {length}")
        position %= length
        item = self.dataset[position]
        form = image_of(item, position)
        return with_image(item, form.back(self._corrupt(form.array, position)))

    def _corrupt(self, image: np.ndarray, index: int) -> np.ndarray:
        if self.choice.random:
            index += EPOCH * int(self._epoch)
        scale = scale_of(self.choice.scale, *image.shape[1:3])
        self._scale = self._scale or scale
        check_one_scale({scale, self._scale})
        name, severity = self.choice.draw(self.seed, index)
        return corrupt(image, name, severity, self.seed, start=index, scale=scale)
