"""Training and evaluation as a textbook writes them: the reference that the fast engine is compared with.

A `DataLoader` hands out one PIL image at a time through torchvision's transforms; the net runs eagerly in float32,
channels first; SGD is torch's default; the loss is read after every batch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

PADDING = 4  # pixels of reflected border from which the crops are taken


class Pictures(Dataset):
    """Images (N, H, W, C) uint8 and labels (N,), each image transformed when it is asked for."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, transform: Callable[[np.ndarray], torch.Tensor]
    ) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def augmentation(height: int, width: int, flip: bool) -> list[Any]:
    """Reflected border, random crop and, with `flip`, random mirroring of a PIL image."""
    from torchvision import transforms  # here and below alone: a machine that lacks it measures the rest

    steps = [transforms.Pad(PADDING, padding_mode="reflect"), transforms.RandomCrop((height, width))]
    return [*steps, transforms.RandomHorizontalFlip()] if flip else steps


def loader(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int,
    augment: Sequence[Any] = (),
    shuffle: bool = False,
    workers: int = 0,
) -> DataLoader:
    """Batches of (n, C, H, W) float32 and (n,) int64, normalised by mean and deviation of the values 0..1."""
    from torchvision import transforms

    steps = [transforms.ToPILImage(), *augment, transforms.ToTensor(), transforms.Normalize(mean, std)]
    return DataLoader(
        Pictures(images, labels, transforms.Compose(steps)),
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def train(
    net: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    *,
    epochs: int,
    lr: float,
    momentum: float,
    weight_decay: float,
    milestones: Sequence[int],
) -> Iterator[float]:
    """Train `net` in place on the device it is on; yield the mean loss of each epoch."""
    device = next(net.parameters()).device
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    for _ in range(epochs):
        net.train()
        total, count = 0.0, 0
        for images, labels in batches:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
            count += len(labels)
        schedule.step()
        yield total / count


def evaluate(net: nn.Module, batches: DataLoader) -> np.ndarray:
    """Classes (N,) that `net` gives the images."""
    device = next(net.parameters()).device
    net.eval()
    predictions = []
    with torch.no_grad():
        for images, _ in batches:
            predictions.append(net(images.to(device)).argmax(1).cpu())
    return torch.cat(predictions).numpy()
