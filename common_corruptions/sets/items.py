"""Clean images of a map-style data set, such as torchvision's, read item by item when a slice is asked for."""

import hashlib
from typing import Any

import numpy as np
from tqdm import tqdm

from common_corruptions.images.items import check_indexed, image_of, label_of

READ_AGAIN = 8  # items from which it is told whether a transform draws


class Items:
    """Images (N, H, W, C) uint8, all of one size, and `labels` (N,) of a data set of (image, label), or of dicts.

    Every item is read once here, for its label, its size and a digest; the images are not kept.

    Args:
        dataset: has a length and items by index, in a form that `CorruptedDataset` takes, each with a label.
        progress: show a bar meanwhile.

    Raises:
        TypeError: no data set, or an item without an image or a label.
        ValueError: no item; an image of another size than the first, or in no form that `corrupt` takes; a label below
            0; items that are others when they are read again.
    """

    def __init__(self, dataset: Any, progress: bool = False) -> None:
        check_indexed(dataset)
        self.dataset, self.dtype = dataset, np.dtype(np.uint8)
        count = len(dataset)
        if not count:
            raise ValueError("the data set has no items")
        self.shape: tuple[int, ...] = (count,)
        self.labels = np.empty(count, np.int64)
        digests = []
        for index in tqdm(range(count), unit=" images", unit_scale=True, desc="labels", disable=not progress):
            item = dataset[index]
            image = self._image(item, index)
            self.labels[index] = label_of(item, index)
            digests.append(_digest(image))
        for index in np.unique(np.linspace(0, count - 1, READ_AGAIN).astype(int)).tolist():
            if _digest(self[index : index + 1]) != digests[index]:
                raise ValueError(
                    f"item {index} of the data set is another image when it is read again; leave out of its transforms "
                    f"what draws at random, such as RandomCrop"
                )
        self._all = hashlib.sha256(b"".join(digests)).hexdigest()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> np.ndarray:
        return np.concatenate([self._image(self.dataset[i], i) for i in range(*part.indices(len(self)))])

    def identity(self) -> str:
        """A digest of all images."""
        return self._all

    def _image(self, item: Any, index: int) -> np.ndarray:
        array = image_of(item, index).array
        if len(self.shape) == 1:
            self.shape += array.shape[1:]
        if array.shape[1:] != self.shape[1:]:
            raise ValueError(
                f"item {index} of the data set is an image of (H, W, C) {array.shape[1:]}, and item 0 of "
                f"{self.shape[1:]}: all must have one size, as after torchvision's Resize(256) and CenterCrop(224)"
            )
        return array


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()
