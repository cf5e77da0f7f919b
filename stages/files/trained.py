"""A trained net and its file, `models/<net>.pt`: the weights of every seed and what is needed to use them."""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common_corruptions.evaluation import memory_format
from nets.registry import create_net
from stages.files.writing import write_bytes


@dataclass
class Trained:
    """A trained net: `create_net(arch, **options)`, one state dict per seed, and the normalisation it expects."""

    arch: str
    options: dict[str, Any]
    mean: list[float]
    std: list[float]
    weights: dict[int, dict[str, Tensor]]

    def new(self, seed: int, device: torch.device | str = "cpu") -> nn.Module:
        """The net with the initial weights of a seed, ready to train."""
        torch.manual_seed(seed)
        return create_net(self.arch, **self.options).to(device)

    def net(self, seed: int, device: torch.device | str = "cpu") -> nn.Module:
        """The net of one seed, ready to evaluate."""
        net = create_net(self.arch, **self.options)
        net.load_state_dict(self.weights[seed])
        return net.to(device, memory_format=memory_format(device)).eval()

    def save(self, path: Path) -> None:
        """Write the file whole or not at all; equal weights give equal bytes."""
        buffer = io.BytesIO()  # torch.save to a path would put the file's name into its content
        torch.save(asdict(self), buffer)
        write_bytes(path, buffer.getvalue())
