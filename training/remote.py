"""Training of one net as a task on another machine, and the mailbox to which it sends its checkpoints.

Arguments and results are arrays, plain values and functions of the packages that this module imports, so the machine
needs no other part of the repository.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from training.batches import TrainingSet
from training.device import choose_device, describe
from training.recipe import Recipe
from training.resumable import checkpoints, pack, prepare, same_hardware

SECONDS_BETWEEN = 30  # minimum time between two checkpoints that a task sends


class Mailbox:
    """Ray actor that collects what the tasks send until it is taken; also works through `ray://`."""

    def __init__(self) -> None:
        self.epochs: dict[Hashable, int] = {}
        self.checkpoints: dict[Hashable, bytes] = {}

    def put(self, job: Hashable, epoch: int, checkpoint: bytes | None) -> None:
        self.epochs[job] = epoch
        if checkpoint:
            self.checkpoints[job] = checkpoint

    def take(self) -> tuple[dict[Hashable, int], dict[Hashable, bytes]]:
        """Return the newest epoch of every job, and the newest checkpoint of each that sent one since the last call."""
        newest, self.checkpoints = self.checkpoints, {}
        return self.epochs, newest


def train_task(
    create: Callable[[], nn.Module],
    images: Sequence[np.ndarray],
    normalisation: tuple[Sequence[float], Sequence[float]],
    recipe: Recipe,
    device_name: str,
    saved: dict | None,
    job: Hashable,
    mailbox: Any,
) -> bytes:
    """Train one net on the machine that Ray chose, and return the last checkpoint as the bytes of its file.

    Args:
        create: builds the net; its weights are drawn with the recipe's seed.
        images: training images (N, H, W, C) uint8 and labels (N,), test images and labels.
        normalisation: mean and standard deviation per channel of values in 0..1.
        device_name: auto, cpu or cuda.
        saved: checkpoint to resume from; ignored if this machine has other hardware than the one it was started on.
        job: key of this task in the mailbox.
        mailbox: handle of the actor `Mailbox`.

    Raises:
        ValueError: the device is not available, or does not support the recipe's precision.
        DivergedError: the loss of an epoch is not finite.
    """
    device = choose_device(device_name)
    prepare(device, recipe.precision)
    if saved and not same_hardware(saved, describe(device), recipe.epochs):
        saved = None
    mailbox.put.remote(job, len(saved["rows"]) if saved else 0, None)
    torch.manual_seed(recipe.seed)
    module = create().to(device)
    data = TrainingSet.place(images[0], images[1], *normalisation, device)
    sent = time.monotonic()
    for saved in checkpoints(module, data, images[2], images[3], recipe, saved):  # noqa: B020
        packed = None
        if time.monotonic() - sent > SECONDS_BETWEEN:
            packed, sent = pack(saved), time.monotonic()
        mailbox.put.remote(job, len(saved["rows"]), packed)
    return pack(saved)
