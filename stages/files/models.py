"""Trained nets read from their files, `models/<net>.pt`, and made ready to be evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from common_corruptions.evaluation.folding import fold_norms
from common_corruptions.evaluation.onnx_runtime import DifferentLogits
from nets.checkpoint import read_checkpoint
from nets.registry import create_net
from stages.files.devices import evaluation_device
from stages.files.schema import Params
from stages.files.trained import Trained
from stages.files.workspace import MODELS


def load(path: Path) -> Trained:
    """Read the file; tensors and plain values only, no code.

    Raises:
        click.ClickException: no such file, a damaged one, or one that `Trained.save` did not write.
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
        raise click.ClickException(f"no {path}; `dvc repro {training(path)}` trains it") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = error if isinstance(error, OSError | ValueError) else "it holds something else"
        raise click.ClickException(
            f"{path} is no trained net: {reason}; `dvc repro -f -s {training(path)}` trains it anew"
        ) from None
    return trained


def training(path: Path) -> str:
    """The stage that makes a file of weights, as DVC names it: of another pipeline where `models/` is in its folder."""
    stage, folder = f"train@{path.stem}", path.parent
    elsewhere = folder.name == MODELS.name and folder != MODELS
    return f"{folder.parent}/dvc.yaml:{stage}" if elsewhere else stage


def every_seed(trained: Trained, params: Params) -> Iterator[tuple[int, nn.Module]]:
    """Each seed with its net, ready to answer on the device of `evaluate`."""
    device = evaluation_device(params)
    for seed in trained.weights:
        yield seed, fold_norms(trained.net(seed, device))


def options(trained: Trained, params: Params) -> dict[str, Any]:
    """The keyword arguments of `common_corruptions.evaluation.predict` for a trained net."""
    return {"mean": trained.mean, "std": trained.std, "batch_size": params.evaluate.batch_size}


@contextmanager
def answering(path: Path, seed: int, refused: type[ValueError] = ValueError) -> Iterator[None]:
    """Turn what the answers of a trained net are refused for into one line.

    Args:
        path: the file of the net.
        seed: of the net that answers.
        refused: the errors that are its fault, of which another training frees it.

    Raises:
        click.ClickException: one of these, or logits of ONNX Runtime that are not those of torch.
    """
    try:
        yield
    except DifferentLogits as error:
        raise click.ClickException(f"{path.stem}, seed {seed}: {error}") from None
    except refused as error:
        raise click.ClickException(
            f"{path.stem}, seed {seed}: {error}; `dvc repro -f -s {training(path)}` trains it anew"
        ) from None
