"""Clean images of a map-style data set, such as torchvision's, read item by item when a slice is accessed."""

import hashlib
from typing import Any

import numpy as np
from tqdm import tqdm

from common_corruptions.images.items import check_indexed, image_of, label_of
from common_corruptions.raising import reason, where


class Items:
    """Images (N, H, W, C) uint8, all of one size, and `labels` (N,), from a data set of (image, label) tuples or dicts.

    The constructor reads every item once, for its label, size and digest; it does not keep the images. Later, another
    thread reads them, one at a time.

    Args:
        dataset: has a length and items by index, in a form that `CorruptedDataset` takes, each with a label.
        progress: show a progress bar meanwhile.

    Raises:
        TypeError: not a data set, or an item without an image or a label.
        ValueError: no items, an item that cannot be read, an image of another size than the first or in no form that
            `corrupt` takes; on a later access, an image that has changed.
    """

    def __init__(self, dataset: Any, progress: bool = False) -> None:
        check_indexed(dataset)
        self.dataset, self.dtype = dataset, np.dtype(np.uint8)
        count = len(dataset)
        if not count:
            raise ValueError("the data set has no items")
        self.shape: tuple[int, ...] = (count, *self._image(self._item(0), 0).shape)
        self.labels = np.empty(count, np.int64)
        self.digests: list[bytes] = []
        for index in tqdm(range(count), unit=" images", unit_scale=True, desc="labels", disable=not progress):
            item = self._item(index)
            self.digests.append(_digest(self._image(item, index)))
            self.labels[index] = label_of(item, index)

    @property
    def classes(self) -> int | None:
        """Number of classes, if the data set has a list `classes` as torchvision's do."""
        named = getattr(self.dataset, "classes", None)
        return len(named) if isinstance(named, list | tuple) else None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> np.ndarray:
        indices = range(*part.indices(len(self)))
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for place, index in enumerate(indices):
            image = images[place] = self._image(self._item(index), index)
            if _digest(image) != self.digests[index]:
                raise ValueError(
                    f"item {index} of the data set is another image when it is read again; remove the random ones of "
                    f"its transforms, such as RandomCrop"
                )
        return images

    def identity(self) -> str:
        """A digest of all images."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()

    def _item(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except Exception as error:
            raise ValueError(
                f"item {index} of the data set cannot be read: {reason(error)} ({where(error)})"
            ) from error

    def _image(self, item: Any, index: int) -> np.ndarray:
        """(H, W, C), of the first item's shape once that is known."""
        image: np.ndarray = image_of(item, index).array[0]
        expected = getattr(self, "shape", (0, *image.shape))[1:]
        if image.shape[2] != expected[2]:
            kinds = {1: "grey", 3: "RGB"}
            raise ValueError(
                f"item {index} of the data set is {kinds[image.shape[2]]}, but item 0 is {kinds[expected[2]]}: make "
                f"all alike, for example by convert('RGB') of PIL images"
            )
        if image.shape != expected:
            found, first = (f"{shape[0]} x {shape[1]}" for shape in (image.shape, expected))
            raise ValueError(
                f"item {index} of the data set has {found} pixels (height x width), but item 0 has {first}: all must "
                f"have one size, as after torchvision's Resize(256) and CenterCrop(224)"
            )
        return image


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()
