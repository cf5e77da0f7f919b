"""The nets that are measured, and the images they are trained on."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.gpu.setting import DATA_NAME, PUSHPULL, RECIPE, Setting
from nets.registry import create_net
from training.batches import Draws, TrainingSet, draw_epoch
from training.epoch import train_epoch
from training.graph import RecordedEpochs
from training.normalisation import normalisation
from training.recipe import Precision

LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


class Split(NamedTuple):
    """Images (N, H, W, C) uint8, memory-mapped, and labels (N,) uint8."""

    images: np.ndarray
    labels: np.ndarray


def new_net(name: str, device: torch.device, seed: int = 0) -> nn.Module:
    """The net of a name with the weights that a seed starts from."""
    torch.manual_seed(seed)
    return create_net(name.removesuffix("-pp"), **options(name)).to(device)


def options(name: str) -> dict[str, Any]:
    """The keyword arguments of `create_net`."""
    return {"pushpull": PUSHPULL[name], "num_classes": 10, "in_channels": 3}


def load_images(setting: Setting, split: str, count: int | None = None) -> Split:
    """The first images of a split and their labels."""
    folder = setting.images / "clean"
    images = np.load(folder / f"{split}_images.npy", mmap_mode="r")
    return Split(images[:count], np.load(folder / f"{split}_labels.npy")[:count])


def place(split: Split, device: torch.device) -> TrainingSet:
    """The images on the device."""
    mean, std = normalisation(DATA_NAME, split.images)
    return TrainingSet.place(split.images, split.labels, mean, std, device, resident=True)


class Trainer:
    """A net with its optimizer, trained an epoch at each call by one way of the engine.

    Args:
        name: of the net.
        data: on the device.
        precision, layout, graph: of the way.
        compiler: a backend of torch.compile, if the net is to be compiled.
    """

    def __init__(
        self,
        name: str,
        data: TrainingSet,
        batch_size: int,
        precision: Precision,
        layout: str,
        graph: bool,
        compiler: str | None = None,
    ) -> None:
        self.data, self.batch_size, self.precision, self.layout = data, batch_size, precision, LAYOUTS[layout]
        self.net = new_net(name, data.device).to(memory_format=self.layout)
        settings = {key: RECIPE[key] for key in ("lr", "momentum", "weight_decay")}
        self.optimizer = torch.optim.SGD(self.net.parameters(), nesterov=True, fused=True, **settings)
        self.optimizer.param_groups[0]["lr"] = torch.tensor(RECIPE["lr"], device=data.device)
        self.run = torch.compile(self.net, backend=compiler) if compiler else self.net
        self.recorded = (
            RecordedEpochs(self.run, self.optimizer, data, self.draw(1), batch_size, precision, self.layout)
            if graph
            else None
        )

    def draw(self, number: int) -> Draws:
        return draw_epoch(len(self.data), 0, number, True, self.data.device)

    def epoch(self, number: int = 1) -> None:
        draws = self.draw(number)
        if self.recorded:
            self.recorded(draws)
        else:
            train_epoch(
                self.run,
                self.optimizer,
                self.data,
                draws,
                self.batch_size,
                self.precision,
                lambda: None,
                self.layout,
            )

    def bits(self) -> list[torch.Tensor]:
        """Copies of all weights and statistics."""
        return [value.detach().clone() for value in self.net.state_dict().values()]


def ways(device: torch.device, precisions: Sequence[str]) -> list[tuple[str, str, bool]]:
    """(precision, layout, graph) that a device can train by; tf32 is a mode of CUDA."""
    return [
        (precision, layout, graph)
        for precision in precisions
        if precision != "tf32" or device.type == "cuda"
        for layout in LAYOUTS
        for graph in (False, True)
    ]


def way_name(precision: str, layout: str, graph: bool) -> str:
    return f"{precision} {layout} {'graph' if graph else 'eager'}"
