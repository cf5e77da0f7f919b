"""A corruption as a transform, like torchvision's."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from common_corruptions.checks import check_seed
from common_corruptions.images.choice import choose
from common_corruptions.images.forms import check_masks, is_image, read
from common_corruptions.images.items import like
from common_corruptions.recipes.corruptions import corrupt


class Corrupt:
    """A transform in the style of torchvision's: corrupts images, in any form that `common_corruptions.corrupt` takes.

    >>> transforms = v2.Compose([Corrupt("fog", severity=3), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    >>> augmentation = Corrupt(names=["fog", "contrast"], severities=[1, 2])

    With a fixed corruption and severity, the seed and the image itself decide the noise: an image gets the same noise
    in each call, process, order and batch, and two different images get independent noise. This is not the noise of a
    data set corrupted at once; use `CorruptedDataset` for that.

    With `names`, each call draws a name, a severity and the noise. The draws come from torch's random generator, as in
    torchvision's transforms: `torch.manual_seed` repeats them, and a `DataLoader` gives each worker and each epoch its
    own.

    As in torchvision's v2, a call takes a sample: one image, or several arguments, tuples, lists and dicts that contain
    images. The PIL images and the tv_tensors of type Image or Video are corrupted, or, if there are none, the first
    tensor or array. Everything else is passed through. A PIL mask would be corrupted as well, so a single-band PIL
    image beside a colour image is refused: wrap masks as tv_tensors.Mask. A batch is taken like an image; one call
    draws once for all images.
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
        """Set what is applied.

        Args:
            name: one of `common_corruptions.CORRUPTIONS`, or one declared with `common_corruptions.corruption`.
            severity: 1 (weakest) to 5, by default 3.
            seed: any integer.
            names: corruptions to draw from, in place of `name`.
            severities: severities to draw from, with `names`; by default 1 to 5.
            scale: whose constants to use, "cifar" or "imagenet"; by default each image's size decides, as in `corrupt`.

        Raises:
            TypeError: both `name` and `names`, or neither; `severity` with `names`, or `severities` with `name`; a seed
                that is not an integer.
            ValueError: an unknown name or scale, a severity out of range, nothing to draw from.
        """
        check_seed(seed, 0)
        self.choice = choose(name, severity, names, severities, scale)
        self.seed = int(seed)

    def __call__(self, *inputs: Any) -> Any:
        """Corrupt the images of a sample.

        Raises:
            TypeError: no image among the inputs; and as `common_corruptions.corrupt`.
            ValueError: a single-band PIL image, such as mode L or P, beside a colour image; and as
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


def _leaves(sample: Any) -> Iterator[Any]:
    if isinstance(sample, tuple | list | dict):
        for part in sample.values() if isinstance(sample, dict) else sample:
            yield from _leaves(part)
    else:
        yield sample


def _replaced(sample: Any, made: dict[int, Any]) -> Any:
    """The sample with the leaves of these ids replaced by the results."""
    if isinstance(sample, dict):
        return {key: _replaced(part, made) for key, part in sample.items()}
    if isinstance(sample, tuple | list):
        return like(sample, [_replaced(part, made) for part in sample])
    return made.get(id(sample), sample)
