"""The file of a trained net, `models/<net>.pt`: the weights of every seed and what is needed to use them."""

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from common_corruptions.evaluation import memory_format
from common_corruptions.folding import fold_norms
from nets.checkpoint import read_checkpoint
from nets.registry import create_net
from stages.files.schema import Params
from stages.files.writing import write_bytes

MODELS = Path("models")


@dataclass
class Trained:
    """A trained net: `create_net(arch, **options)`, one state dict per seed, and the normalisation it expects."""

    arch: str
    options: dict[str, Any]
    mean: list[float]
    std: list[float]
    weights: dict[int, dict[str, Tensor]]

    def new(self, seed: int, device: torch.device | str = "cpu") -> nn.Module:
        """The net with the weights that a seed starts from, ready to train."""
        torch.manual_seed(seed)
        return create_net(self.arch, **self.options).to(device)

    def net(self, seed: int, device: torch.device | str = "cpu") -> nn.Module:
        """The net of one seed, ready to evaluate."""
        net = create_net(self.arch, **self.options)
        net.load_state_dict(self.weights[seed])
        return net.to(device, memory_format=memory_format(device)).eval()


def save(path: Path, trained: Trained) -> None:
    """Write the file whole or not at all; equal weights give equal bytes."""
    buffer = io.BytesIO()  # a file's own name would become part of its content
    torch.save(asdict(trained), buffer)
    write_bytes(path, buffer.getvalue())


def load(path: Path) -> Trained:
    """Read the file; tensors and plain values only, no code.

    Raises:
        click.ClickException: no such file, a damaged one, or one that `save` did not write.
    """
    try:
        trained = Trained(**read_checkpoint(path))
        for seed, weights in trained.weights.items():
            with torch.device("meta"):
                net = create_net(trained.arch, **trained.options)
            try:
                net.load_state_dict(weights, assign=True)
            except (RuntimeError, AttributeError, TypeError):
                raise ValueError(f"the weights of seed {seed!r} are not those of a {trained.arch}") from None
    except FileNotFoundError:
        raise click.ClickException(f"no {path}; `dvc repro train@{path.stem}` trains it") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = error if isinstance(error, OSError | ValueError) else "it holds something else"
        raise click.ClickException(
            f"{path} is no trained net: {reason}; `dvc repro -f -s train@{path.stem}` trains it anew"
        ) from None
    return trained


def choose_device(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` names.

    Raises:
        click.ClickException: cuda where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("device is cuda, but torch finds no GPU here; set it to auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def every_seed(trained: Trained, params: Params) -> Iterator[tuple[int, nn.Module]]:
    """Each seed with its net, ready to answer on the device of `evaluate`."""
    device = choose_device(params.evaluate.device)
    for seed in trained.weights:
        yield seed, fold_norms(trained.net(seed, device))


def options(trained: Trained, params: Params) -> dict[str, Any]:
    """The keyword arguments of `common_corruptions.evaluation.predict` for a trained net."""
    return {"mean": trained.mean, "std": trained.std, "batch_size": params.evaluate.batch_size}
