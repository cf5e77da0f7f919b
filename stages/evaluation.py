"""What the two evaluation stages share: the trained nets of every seed, and the answer to sets that are not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from torch import nn

from stages import models
from stages.params import Params


def every_seed(trained: models.Trained, params: Params) -> Iterator[tuple[int, nn.Module]]:
    """Each seed with its net, on the device of `evaluate`."""
    device = models.choose_device(params.evaluate.device)
    for seed in trained.weights:
        yield seed, trained.net(seed, device)


def options(trained: models.Trained, params: Params) -> dict[str, Any]:
    """The keyword arguments of `robustness.evaluation.predict` for a trained net."""
    return {"mean": trained.mean, "std": trained.std, "batch_size": params.evaluate.batch_size}


@contextmanager
def made_by_corrupt() -> Iterator[None]:
    """Turn what reading C and P sets raises into one line that says which stage makes them."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(f"{error}; `dvc repro corrupt` makes the sets") from None
