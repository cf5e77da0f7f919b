"""Part `determinism`: are the weights the same bits again, by a graph as without, and after a stop? By every way."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.nets import Trainer, load_images, place, way_name, ways
from benchmarks.gpu.setting import BATCH_SIZE, Setting
from benchmarks.gpu.timing import choose_device
from training.device import make_deterministic

IMAGES = 30 * BATCH_SIZE + 80  # a last batch of another size


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    """By way: whether a second training ends with the same bits, and whether one does that was stopped between.

    Of a graph also whether its bits are those of the eager way; and which operations warn that they are not
    deterministic.
    """
    device = choose_device()
    make_deterministic(device)
    data = place(load_images(setting, "train", 6 if setting.dry_run else IMAGES), device)
    batch_size = 4 if setting.dry_run else BATCH_SIZE
    precisions = ("fp32",) if setting.dry_run else ("fp32", "bf16", "tf32")
    found: dict[str, Any] = {"ways": {}, "warnings": []}
    eager: list[torch.Tensor] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for way in ways(device, precisions):  # a graph after the eager way of its precision and layout
            row = found["ways"][way_name(*way)] = {}
            try:
                first = trained(data, batch_size, way)
                if way[2]:
                    row["as_eager"] = same(first, eager)
                else:
                    eager = first
                row["same_seed"] = same(first, trained(data, batch_size, way))
                row["stopped"] = same(first, trained(data, batch_size, way, stop=True))
            except Exception as error:  # the others are measured all the same
                row["failed"] = f"{type(error).__name__}: {error}"[:300]
            said = {
                str(one.message).split(" does not have")[0]
                for one in caught
                if "determinis" in str(one.message)
            }
            found["warnings"] = sorted(said)
            yield found


def trained(data, batch_size: int, way: tuple, stop: bool = False) -> list[torch.Tensor]:
    """The bits after two epochs; with `stop`, the second by a new net that takes up the state of the first."""
    trainer = Trainer("resnet20-pp", data, batch_size, *way)
    trainer.epoch(1)
    if stop:
        net = {key: value.clone() for key, value in trainer.net.state_dict().items()}
        momenta = [state["momentum_buffer"].clone() for state in trainer.optimizer.state.values()]
        trainer = Trainer("resnet20-pp", data, batch_size, *way)
        with torch.no_grad():
            trainer.net.load_state_dict(net)
            for parameter, momentum in zip(trainer.net.parameters(), momenta, strict=True):
                state = trainer.optimizer.state[parameter]
                if "momentum_buffer" in state:  # where a recording reads it
                    state["momentum_buffer"].copy_(momentum)
                else:
                    state["momentum_buffer"] = momentum
    trainer.epoch(2)
    return trainer.bits()


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
