"""Load trained nets from their files, `models/<net>.pt`, and prepare them for evaluation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn
from tqdm import tqdm

from common_corruptions.evaluation.folding import fold_norms
from common_corruptions.evaluation.onnx_runtime import DifferentLogits
from nets.checkpoint import read_checkpoint
from nets.families import families
from nets.registry import create_net
from stages.files.devices import evaluation_device
from stages.files.schema import Params
from stages.files.trained import Trained
from stages.files.unfinished import Answers, Found, Rows, measured_once
from stages.files.workspace import MODELS


def load(path: Path) -> Trained:
    """Read the file; only tensors and plain values are loaded, no code.

    Raises:
        click.ClickException: the file is missing, damaged, or was not written by `Trained.save`.
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
        reason = error if isinstance(error, OSError | ValueError) else "unexpected content"
        raise click.ClickException(
            f"{path} is not a trained net: {reason}; `dvc repro -f -s {training(path)}` retrains it"
        ) from None
    return trained


def training(path: Path) -> str:
    """DVC's name of the stage that makes a file of weights; with its dvc.yaml if `models/` is in a subfolder."""
    stage, folder = f"train@{path.stem}", path.parent
    elsewhere = folder.name == MODELS.name and folder != MODELS
    return f"{folder.parent}/dvc.yaml:{stage}" if elsewhere else stage


def options(trained: Trained, params: Params) -> dict[str, Any]:
    """The keyword arguments of `common_corruptions.evaluation.predict` for a trained net."""
    return {"mean": trained.mean, "std": trained.std, "batch_size": params.evaluate.batch_size}


@contextmanager
def measured_seeds(
    stage: str,
    params: Params,
    path: Path,
    trained: Trained,
    sets: int,
    label: str,
    measure: Callable[[nn.Module, tqdm], Found],
    pipeline: str = "dvc.yaml",
) -> Iterator[Iterator[tuple[int, Rows, Answers]]]:
    """Measure every seed of a net, with a progress bar; results are kept as by `measured_once`.

    Yields an iterator over (seed, rows, predictions).

    Args:
        stage: a name in the pipeline, without `@<net>`.
        path: the file of the net.
        trained: its content.
        sets: number of image sets that each seed is measured on.
        label: label of the progress bar.
        measure: takes the net, ready on the device of `evaluate`, and the bar, which it advances by `sets`.

    Raises:
        click.ClickException: `measure` raised a ValueError, which a new training should cure (undefined logits, or
            logits of other classes); or the logits of ONNX Runtime differ from those of torch.
    """
    device = evaluation_device(params)
    with (
        measured_once(stage, params, [path], families()[trained.arch], pipeline) as once,
        tqdm(total=len(trained.weights) * sets, desc=label, unit="set") as bar,
    ):

        def answer(seed: int) -> Found:
            return measure(fold_norms(trained.net(seed, device)), bar)

        def every_seed() -> Iterator[tuple[int, Rows, Answers]]:
            for number, seed in enumerate(trained.weights, 1):
                with _answering(path, seed):
                    rows, answers = once(str(seed), answer, seed)
                bar.update(number * sets - bar.n)  # counts seeds of an earlier run
                yield seed, rows, answers

        yield every_seed()


@contextmanager
def _answering(path: Path, seed: int) -> Iterator[None]:
    try:
        yield
    except DifferentLogits as error:
        raise click.ClickException(f"{path.stem}, seed {seed}: {error}") from None
    except ValueError as error:
        raise click.ClickException(
            f"{path.stem}, seed {seed}: {error}; `dvc repro -f -s {training(path)}` retrains it"
        ) from None
