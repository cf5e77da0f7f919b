"""Training of one net with the paper's recipe (section 4.2.2): SGD on cropped and mirrored images.

Nothing is read back from the device inside an epoch, so a GPU never waits for the next launch. The same code runs in
several processes under torchrun, each on its part of every batch.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustness.evaluation import affine, float32_as, normalise, predict
from stages import parallel
from stages.batches import Draws, TrainingSet, draw_epoch, epoch_seed

Precision = Literal["fp32", "tf32", "bf16"]


class DivergedError(RuntimeError):
    """The training loss is no longer a finite number."""


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
    precision: Precision = "fp32",
    state: dict | None = None,
    on_batch: Callable[[], object] = lambda: None,
) -> Iterator[tuple[dict[str, float], dict]]:
    """Train `net` in place; after each epoch yield its row of the training curve and the state to resume from.

    Seed and epoch decide every draw, and the epoch the learning rate; so net, optimizer and epoch are the whole state.
    In several processes (`stages.parallel`) each computes its part of every batch, and all yield the same.

    Args:
        net: on the device of `data`.
        test_images, test_labels: (M, H, W, C) uint8 and (M,); measured after each epoch, never trained on.
        epochs ... milestones: as in params.yaml.
        flip: mirror half of the images.
        seed: decides every draw, with the epoch.
        precision: of the training; weights, optimizer and the test error stay float32. `fp32` computes as it says;
            `tf32` rounds the factors of products to 10 bits (CUDA alone); `bf16` is autocast to bfloat16.
        state: what an earlier call yielded last; training goes on after that epoch.
        on_batch: called after every batch, for a progress bar.

    Yields:
        ({epoch, lr, train_loss, train_error, test_error} with errors in percent, {net, optimizer, epoch}).

    Raises:
        DivergedError: the loss of an epoch is not finite; the epoch and learning rate are named.
        ValueError: tf32 on another device than CUDA.
    """
    device = data.device
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"tf32 is a mode of CUDA devices, the device is {device}; train in fp32 or bf16")
    optimizer = torch.optim.SGD(
        net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=True, fused=True
    )
    first = 1
    if state is not None:
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"] + 1
    trained = parallel.distributed(net)
    own_test = slice(parallel.rank(), None, parallel.ranks())
    for epoch in range(first, epochs + 1):
        rate = learning_rate(epoch, lr, milestones)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(epoch_seed(seed, epoch) + parallel.rank())  # of dropout
        draws = draw_epoch(len(data), seed, epoch, flip, device)
        loss_sum, wrong = train_epoch(trained, optimizer, data, draws, batch_size, precision, on_batch)
        mean_loss = parallel.summed(loss_sum).item() / len(data)
        if not np.isfinite(mean_loss):
            raise DivergedError(f"the loss is {mean_loss} in epoch {epoch} at learning rate {rate:g}")
        logits = predict(net, test_images[own_test], mean=data.mean, std=data.std)
        wrong_test = torch.tensor((logits.argmax(1) != test_labels[own_test]).sum(), device=device)
        row = {
            "epoch": epoch,
            "lr": rate,
            "train_loss": mean_loss,
            "train_error": 100 * parallel.summed(wrong).item() / len(data),
            "test_error": 100 * parallel.summed(wrong_test).item() / len(test_labels),
        }
        yield row, {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}


def train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: TrainingSet,
    draws: Draws,
    batch_size: int,
    precision: Precision,
    on_batch: Callable[[], object],
) -> tuple[Tensor, Tensor]:
    """One pass over this process's part of every batch; sum of the losses and number of errors, on the device."""
    device, ranks = data.device, parallel.ranks()
    scale, shift = affine(data.mean, data.std, data.images.shape[3], device)
    # Sums stay on the device: reading one each step would stop the queue of launches.
    loss_sum = torch.zeros((), device=device)
    wrong = torch.zeros((), device=device, dtype=torch.int64)
    net.train()
    with float32_as("tf32" if precision == "tf32" else "ieee"):
        batches = data.batches(draws, batch_size, parallel.rank(), ranks)
        for start, (images, labels) in zip(range(0, len(data), batch_size), batches, strict=True):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = net(normalise(images, scale, shift))
            if precision == "bf16":
                logits = logits.float()
            loss = F.cross_entropy(logits, labels, reduction="sum")
            optimizer.zero_grad(set_to_none=True)
            # The gradient of the mean over the whole batch, once it is averaged over the processes.
            (loss * (ranks / min(batch_size, len(data) - start))).backward()
            optimizer.step()
            loss_sum += loss.detach()
            wrong += (logits.detach().argmax(1) != labels).sum()
            on_batch()
    return loss_sum, wrong
