"""Training of one net with the paper's recipe (section 4.2.2): SGD on cropped and mirrored images.

The training images stay on the device as uint8, padded once; a batch is one gather that crops and mirrors each image
on its own. The gather leaves channels last in memory, which is how the convolutions like it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustness.evaluation import affine, normalise, predict

PADDING = 4  # pixels of reflected border from which the crops are taken


class DivergedError(RuntimeError):
    """The training loss is no longer a finite number."""


@dataclass
class TrainingSet:
    """Images on the device: `padded` (N, H + 8, W + 8, C) uint8, `labels` (N,) int64; `mean`, `std` per channel."""

    padded: Tensor
    labels: Tensor
    mean: list[float]
    std: list[float]

    @classmethod
    def on_device(
        cls, images: np.ndarray, labels: np.ndarray, mean: list[float], std: list[float], device: torch.device
    ) -> "TrainingSet":
        """Move (N, H, W, C) uint8 images to the device and pad them by reflection."""
        border = ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0))
        padded = torch.from_numpy(np.pad(images, border, mode="reflect"))
        return cls(padded.to(device), torch.from_numpy(labels.astype(np.int64)).to(device), mean, std)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Draws:
    """What chance decides in an epoch, on the device: order, crop corners and mirroring of all images."""

    order: Tensor  # (N,) a permutation
    corners: Tensor  # (N, 2) y and x of each crop in the padded image, 0..8
    mirrored: Tensor  # (N,) bool


def draw_epoch(count: int, seed: int, epoch: int, flip: bool, device: torch.device) -> Draws:
    """The draws of one epoch; seed and epoch alone decide them, so a resumed run needs no generator state.

    Also seeds torch's own generators, which dropout uses.
    """
    state = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    torch.manual_seed(state)
    generator = torch.Generator().manual_seed(state)
    order = torch.randperm(count, generator=generator)
    corners = torch.randint(0, 2 * PADDING + 1, (count, 2), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5 if flip else torch.zeros(count, dtype=torch.bool)
    return Draws(order.to(device), corners.to(device), mirrored.to(device))


def crop(padded: Tensor, chosen: Tensor, corners: Tensor, mirrored: Tensor) -> Tensor:
    """Cut from images (N, H + 8, W + 8, C) the `chosen` ones at their corners, mirrored where told: (n, H, W, C)."""
    height, width = padded.shape[1] - 2 * PADDING, padded.shape[2] - 2 * PADDING
    across = torch.arange(width, device=padded.device)
    rows = corners[:, :1] + torch.arange(height, device=padded.device)
    columns = corners[:, 1:] + torch.where(mirrored[:, None], width - 1 - across, across)
    return padded[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]


def learning_rate(epoch: int, lr: float, milestones: list[int]) -> float:
    """Learning rate of an epoch counted from 1: a tenth after each milestone passed."""
    return lr * 0.1 ** sum(epoch > milestone for milestone in milestones)


def train_epochs(
    net: nn.Module,
    data: TrainingSet,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    momentum: float,
    weight_decay: float,
    milestones: list[int],
    flip: bool,
    seed: int,
    state: dict | None = None,
    on_batch=lambda: None,
) -> Iterator[tuple[dict[str, float], dict]]:
    """Train `net` in place; after each epoch yield its row of the training curve and the state to resume from.

    Args:
        net: on the device of `data`.
        test_images, test_labels: (M, H, W, C) uint8 and (M,); measured after each epoch, never trained on.
        epochs ... milestones: as in params.yaml.
        flip: mirror half of the images.
        seed: decides every draw, with the epoch.
        state: what an earlier call yielded last; training goes on after that epoch.
        on_batch: called after every batch, for a progress bar.

    Yields:
        ({epoch, lr, train_loss, train_error, test_error} with errors in percent, {net, optimizer, epoch}).

    Raises:
        DivergedError: the loss of an epoch is not finite; the epoch and learning rate are named.
    """
    device = data.padded.device
    scale, shift = affine(data.mean, data.std, device)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=True, fused=True
    )
    first = 1
    if state is not None:
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"] + 1
    for epoch in range(first, epochs + 1):
        rate = learning_rate(epoch, lr, milestones)
        for group in optimizer.param_groups:
            group["lr"] = rate
        draws = draw_epoch(len(data), seed, epoch, flip, device)
        net.train()
        # Sums stay on the device: reading one each step would stop the queue of launches.
        loss_sum = torch.zeros((), device=device)
        wrong = torch.zeros((), device=device, dtype=torch.int64)
        for chosen in draws.order.split(batch_size):
            images = crop(data.padded, chosen, draws.corners[chosen], draws.mirrored[chosen])
            labels = data.labels[chosen]
            logits = net(normalise(images, scale, shift))
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(chosen)
            wrong += (logits.detach().argmax(1) != labels).sum()
            on_batch()
        mean_loss = loss_sum.item() / len(data)
        if not np.isfinite(mean_loss):
            raise DivergedError(f"the loss is {mean_loss} in epoch {epoch} at learning rate {rate:g}")
        net.eval()
        logits = predict(net, test_images, mean=data.mean, std=data.std)
        row = {
            "epoch": epoch,
            "lr": rate,
            "train_loss": mean_loss,
            "train_error": 100 * wrong.item() / len(data),
            "test_error": 100 * float((logits.argmax(1) != test_labels).mean()),
        }
        yield row, {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
