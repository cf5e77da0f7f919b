"""Train one net with the paper's recipe (section 4.2.2): SGD on cropped and mirrored images.

Nothing is read back from the device during an epoch, so a GPU never waits for the next kernel launch. The same code
runs in several processes under torchrun, each on its part of every batch.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from common_corruptions.evaluation import evaluating, memory_format, outputs
from training import parallel
from training.batches import Draws, TrainingSet, draw_epoch, epoch_seed
from training.epoch import train_epoch
from training.graph import RecordedEpochs
from training.recipe import Recipe


class DivergedError(RuntimeError):
    """The training loss is no longer a finite number."""


def train_epochs(
    net: nn.Module,
    data: TrainingSet,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    recipe: Recipe,
    *,
    layout: torch.memory_format | None = None,
    graph: bool | None = None,
    state: dict | None = None,
    on_batch: Callable[[], object] = lambda: None,
) -> Iterator[tuple[dict[str, float], dict]]:
    """Train `net` in place; after each epoch, yield its row of the training curve and the state to resume from.

    Seed and epoch determine every random draw, and the epoch the learning rate, so net, optimizer and epoch are the
    whole state. With several processes (`training.parallel`), each computes its part of every batch, and all yield the
    same.

    Args:
        net: on the device of `data`.
        test_images, test_labels: (M, H, W, C) uint8 and (M,); evaluated after each epoch, never trained on.
        recipe: epochs, batch size, learning rates and seed.
        layout: memory format of net and images; by default `common_corruptions.evaluation.memory_format`.
        graph: replay the training steps from a CUDA graph (`training.graph.RecordedEpochs`); by default if the images
            are on a GPU and one process trains. The results are bit-identical.
        state: the last state yielded by an earlier call; training continues after that epoch.
        on_batch: called after every batch, for a progress bar.

    Yields:
        ({epoch, lr, train_loss, train_error, test_error} with errors in percent, {net, optimizer, epoch}). The latter
        is the state to resume from. It is not a copy: save or copy it before the next epoch.

    Raises:
        DivergedError: the loss of an epoch is not finite; the message names the epoch and learning rate.
        ValueError: tf32 on a device other than CUDA.
    """
    device, precision = data.device, recipe.precision
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"tf32 needs a CUDA device, but the device is {device}; train in fp32 or bf16")
    layout = layout or memory_format(device, precision)
    net.to(memory_format=layout)
    first = 1
    if state is not None:
        net.load_state_dict(state["net"])
        first = state["epoch"] + 1
    optimizer, rate = sgd(net, recipe, device, state and state["optimizer"])
    trained = parallel.distributed(net)
    test = own_part(test_images, test_labels, data)
    if graph is None:
        graph = device.type == "cuda" and isinstance(data.images, Tensor) and parallel.ranks() == 1

    def draw(epoch: int) -> Draws:
        return draw_epoch(len(data), recipe.seed, epoch, recipe.flip, device, recipe.augment)

    recorded = None
    if graph:
        recorded = RecordedEpochs(trained, optimizer, data, draw(first), recipe.batch_size, precision, layout)
    for epoch in range(first, recipe.epochs + 1):
        rate.fill_(recipe.learning_rate(epoch))
        torch.manual_seed(epoch_seed(recipe.seed, epoch) + parallel.rank())  # for dropout
        if recorded:
            loss_sum, wrong = recorded(draw(epoch), on_batch)
        else:
            loss_sum, wrong = train_epoch(
                trained, optimizer, data, draw(epoch), recipe.batch_size, precision, on_batch, layout
            )
        mean_loss = parallel.summed(loss_sum).item() / len(data)
        if not np.isfinite(mean_loss):
            raise DivergedError(f"the loss is {mean_loss} in epoch {epoch} at learning rate {rate.item():g}")
        with evaluating(net):
            wrong_test = count_errors(net, test)
        row = {
            "epoch": epoch,
            "lr": recipe.learning_rate(epoch),
            "train_loss": mean_loss,
            "train_error": 100 * parallel.summed(wrong).item() / len(data),
            "test_error": 100 * parallel.summed(wrong_test).item() / len(test_labels),
        }
        yield row, {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}


def sgd(
    net: nn.Module, recipe: Recipe, device: torch.device, saved: dict | None
) -> tuple[torch.optim.Optimizer, Tensor]:
    """The optimizer of a recipe, restored from `saved` if given, and its learning rate tensor, set for each epoch."""
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
        fused=True,
    )
    if saved is not None:
        optimizer.load_state_dict(saved)
    rate = torch.tensor(recipe.lr, device=device)  # a recorded step reads this tensor
    for group in optimizer.param_groups:
        group["lr"] = rate
    return optimizer, rate


def own_part(images: np.ndarray, labels: np.ndarray, data: TrainingSet) -> TrainingSet:
    """The test images that this process evaluates, with the normalisation and device of `data`."""
    part = slice(parallel.rank(), None, parallel.ranks())
    return TrainingSet.place(images[part], labels[part], data.mean, data.std, data.device)


def count_errors(net: nn.Module, data: TrainingSet) -> Tensor:
    """Number of images that `net` misclassifies, as a tensor on the device."""
    if not len(data):  # fewer images than processes
        return torch.zeros((), dtype=torch.int64, device=data.device)
    logits = torch.cat(list(outputs(net, data.images, mean=data.mean, std=data.std, device=data.device)))
    return (logits.argmax(1) != data.labels).sum()
