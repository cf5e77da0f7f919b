"""One epoch of training, without reading anything back from the device."""

import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common_corruptions.evaluation import affine, float32_as, memory_format, normalise
from training import parallel
from training.batches import Draws, TrainingSet
from training.recipe import Precision

# Batch normalisations synchronised over processes have other classes and count for themselves.
COUNTING = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: TrainingSet,
    draws: Draws,
    batch_size: int,
    precision: Precision,
    on_batch: Callable[[], object],
    layout: torch.memory_format | None = None,
) -> tuple[Tensor, Tensor]:
    """Train on this process's part of every batch; return the sum of losses and number of errors, on the device."""
    device, ranks = data.device, parallel.ranks()
    # Sums stay on the device: reading one in each step would stall the queue of kernel launches.
    loss_sum = torch.zeros((), device=device)
    wrong = torch.zeros((), device=device, dtype=torch.int64)
    step = training_step(net, optimizer, data, precision, layout)
    starts = range(0, len(data), batch_size)
    net.train()
    with float32_as("tf32" if precision == "tf32" else "ieee"), counted_together(net, len(starts)):
        batches = data.batches(draws, batch_size, parallel.rank(), ranks)
        for start, (images, labels) in zip(starts, batches, strict=True):
            # Averaged over the processes, this gives the gradient of the mean over the whole batch.
            loss, errors = step(images, labels, ranks / min(batch_size, len(data) - start))
            loss_sum += loss
            wrong += errors
            on_batch()
    return loss_sum, wrong


def training_step(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: TrainingSet,
    precision: Precision,
    layout: torch.memory_format | None = None,
) -> Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]:
    """Return a function that trains on one batch and returns its sum of losses and number of errors, on the device.

    It takes images (n, H, W, C) uint8, labels (n,), and a factor; the objective is the sum of losses times the factor.

    Args:
        net, optimizer: the net to train and its optimizer.
        data: provides the normalisation of the images and the device.
        precision: as in `training.recipe.Recipe`.
        layout: memory format of the images; by default that of `common_corruptions.evaluation.memory_format`.
    """
    device = data.device
    scale, shift = affine(data.mean, data.std, data.images.shape[3], device)
    layout = layout or memory_format(device, precision)

    def step(images: Tensor, labels: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        # Weights are cast once per step anyway, and a cached cast could not be part of a recording.
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            logits = net(normalise(images, scale, shift).contiguous(memory_format=layout))
        if precision == "bf16":
            logits = logits.float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        optimizer.zero_grad(set_to_none=True)
        (loss * factor).backward()
        optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) != labels).sum()

    return step


@contextlib.contextmanager
def counted_together(net: nn.Module, steps: int) -> Iterator[None]:
    """Update `num_batches_tracked` once, after `steps` steps: it would take each batch norm a kernel launch per step.

    A batch norm without momentum uses the count for its averages, so it still counts every step.
    """
    norms = [part for part in net.modules() if isinstance(part, COUNTING) and part.momentum is not None]
    counters = {norm: norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None}
    for norm in counters:
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, counter in counters.items():
            norm.num_batches_tracked = counter.add_(steps)
