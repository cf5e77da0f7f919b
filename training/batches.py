"""Training images and their batches: cropped from images with a reflected border, mirrored and optionally augmented.

Images that fit stay on the device as uint8, and a batch is one gather from all of them. Otherwise they stay in their
memory-mapped file: a thread gathers the next batches there, and the device crops them. Both give the same batches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common_corruptions.sets.staging import slices, staged
from training.augmentation import POLICIES, Augmentation, Chains, augment, draw_chains

PADDING = 4  # pixels of reflected border from which the crops are taken
SHARE = 0.5  # of the free memory that the images may take; the net and its activations need the rest


@dataclass
class Draws:
    """Random draws of one epoch, on one device: order, crop corners, mirroring and augmentation of all images."""

    order: Tensor  # (N,) a permutation
    corners: Tensor  # (N, 2) y and x of each crop in the image with its border, from 0 to 8
    mirrored: Tensor  # (N,) bool
    chains: Chains | None  # of the augmentation, if there is one

    def copy_(self, other: "Draws") -> None:
        """Copy the draws of `other`, for the same number of images, in place."""
        for own, new in zip(self._tensors(), other._tensors(), strict=True):
            own.copy_(new)

    def _tensors(self) -> list[Tensor]:
        chains = self.chains.tensors() if self.chains else ()
        return [self.order, self.corners, self.mirrored, *chains]


def draw_epoch(
    count: int, seed: int, epoch: int, flip: bool, device: torch.device, augmentation: Augmentation = "none"
) -> Draws:
    """Draw one epoch; only seed and epoch determine the draws, so a resumed run needs no generator state."""
    generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
    order = torch.randperm(count, generator=generator)
    corners = torch.randint(0, 2 * PADDING + 1, (count, 2), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5 if flip else torch.zeros(count, dtype=torch.bool)
    chains = None
    if augmentation != "none":
        generator.manual_seed(epoch_seed(seed, epoch, 1))  # independent of the draws above
        chains = draw_chains(POLICIES[augmentation], count, generator).each(lambda drawn: drawn.to(device))
    return Draws(order.to(device), corners.to(device), mirrored.to(device), chains)


def epoch_seed(seed: int, epoch: int, *purpose: int) -> int:
    """A seed for a random generator of one epoch; each purpose has its own."""
    sequence = np.random.SeedSequence([seed, epoch, *purpose])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass
class TrainingSet:
    """Images (N, H, W, C) uint8, labels (N,) int64 on the device, and per-channel mean and std of values in 0..1.

    `images` is a tensor on the device, or an array on the host that is read batch by batch.
    """

    images: Tensor | np.ndarray
    labels: Tensor
    mean: Sequence[float]
    std: Sequence[float]

    @classmethod
    def place(
        cls,
        images: np.ndarray,
        labels: np.ndarray,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        resident: bool | None = None,
    ) -> "TrainingSet":
        """Place images (N, H, W, C) uint8 and labels (N,) for training on `device`.

        `resident` says whether the images are moved to the device; by default they are if they take at most half of
        its free memory. Otherwise they should be a memory map.
        """
        if resident is None:
            resident = images.nbytes <= SHARE * free_memory(device)
        if resident:
            moved = torch.empty(images.shape, dtype=torch.uint8, device=device)
            for part in slices(len(images), 4096):  # no second copy of the whole set on the host
                moved[part] = torch.from_numpy(np.array(images[part]))
        return cls(
            moved if resident else images, torch.from_numpy(labels.astype(np.int64)).to(device), mean, std
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def batches(
        self, draws: Draws, batch_size: int, rank: int = 0, ranks: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (n, H, W, C) uint8 and labels (n,) of every batch of an epoch, on the device.

        Of each batch of `batch_size`, process `rank` of `ranks` gets every `ranks`-th image.
        """
        parts = [part[rank::ranks] for part in draws.order.split(batch_size)]
        if isinstance(self.images, Tensor):
            sources = ((self.images, part) for part in parts)
        else:
            chosen = [part[rank::ranks].numpy() for part in draws.order.cpu().split(batch_size)]
            read = staged(self.images, chosen, self.device)
            sources = ((images, torch.arange(len(images), device=self.device)) for images in read)
        for part, (images, chosen) in zip(parts, sources, strict=True):
            yield cut(images, chosen, draws, part), self.labels[part]


def cut(images: Tensor, chosen: Tensor, draws: Draws, part: Tensor) -> Tensor:
    """Cut a training batch: cropped, mirrored and, if the draws contain chains, augmented.

    Args:
        images: (N, H, W, C) uint8.
        chosen: (n,) indices of the batch's images.
        part: (n,) their indices in the draws.

    Returns:
        (n, H, W, C) uint8.
    """
    crops = crop(images, chosen, draws.corners[part], draws.mirrored[part])
    return augment(crops, draws.chains.each(lambda drawn: drawn[part])) if draws.chains else crops


def crop(images: Tensor, chosen: Tensor, corners: Tensor, mirrored: Tensor) -> Tensor:
    """Cut crops of the original size from images (N, H, W, C), extended by a border of `PADDING` reflected pixels.

    The border is not stored: its pixels are read from the positions they are reflected from. The result has the
    channels last in memory, the layout that convolutions prefer.

    Args:
        images: (N, H, W, C).
        chosen: (n,) indices of the images.
        corners: (n, 2) y and x of each crop in its image with the border, 0 to 2 * PADDING.
        mirrored: (n,) whether the crop is mirrored.

    Returns:
        (n, H, W, C).
    """
    height, width = images.shape[1:3]
    across = torch.arange(width, device=images.device)
    rows = corners[:, :1] + torch.arange(height, device=images.device)
    columns = corners[:, 1:] + torch.where(mirrored[:, None], width - 1 - across, across)
    rows, columns = _reflected(rows - PADDING, height), _reflected(columns - PADDING, width)
    return images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]


def _reflected(position: Tensor, size: int) -> Tensor:
    """Reflect positions outside 0..size - 1 into that range; the edge pixel itself is not repeated."""
    period = max(2 * size - 2, 1)
    position = position.remainder(period)
    return torch.minimum(position, period - position)


def free_memory(device: torch.device) -> int:
    """Free memory of the device in bytes; for the CPU, what the system can provide without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil  # imported here because training on a GPU does not need it

    return psutil.virtual_memory().available
