"""What the stages that evaluate nets share: answers and measurements of one net, and sets that are not there."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch import nn
from tqdm import tqdm

from robustness.benchmark import perturbation_metrics, predict_corruptions, rank_perturbations
from robustness.folding import fold_norms
from robustness.metrics import classification_error
from robustness.sets import open_clean
from stages import models
from stages.params import Params


def every_seed(trained: models.Trained, params: Params) -> Iterator[tuple[int, nn.Module]]:
    """Each seed with its net, ready to answer on the device of `evaluate`."""
    device = models.choose_device(params.evaluate.device)
    for seed in trained.weights:
        yield seed, fold_norms(trained.net(seed, device))


def options(trained: models.Trained, params: Params) -> dict[str, Any]:
    """The keyword arguments of `robustness.evaluation.predict` for a trained net."""
    return {"mean": trained.mean, "std": trained.std, "batch_size": params.evaluate.batch_size}


def answer_corruptions(
    net: nn.Module, folder: Path, names: Iterable[str], bar: tqdm, **options: Any
) -> tuple[list[tuple[str, int, float]], np.ndarray]:
    """(corruption, severity, error in percent) of each of M sets, and the logits (M, N, K) behind them.

    Args and errors as for `robustness.benchmark.predict_corruptions`; the bar moves by one for each set.
    """
    labels = open_clean(folder).labels
    rows, logits = [], []
    for name, severity, answers in predict_corruptions(net, folder, names, **options):
        rows.append((name, severity, classification_error(answers, labels)))
        logits.append(answers)
        bar.update()
    return rows, np.stack(logits)


def answer_perturbations(
    net: nn.Module, folder: Path, names: Iterable[str], count: int | None, bar: tqdm, **options: Any
) -> tuple[list[tuple[str, str, str, float]], dict[str, np.ndarray]]:
    """(perturbation, protocol, metric, value), and by perturbation the predicted classes (N, T) behind them.

    Args and errors as for `robustness.benchmark.rank_perturbations`; the bar moves by one for each perturbation.
    """
    rows, frames = [], {}
    for name, ranks in rank_perturbations(net, folder, names, count, **options):
        rows += perturbation_metrics(name, ranks)
        frames[name] = ranks.argmin(2)
        bar.update()
    return rows, frames


@contextmanager
def made_by_corrupt() -> Iterator[None]:
    """Turn what reading C and P sets raises into one line that says which stage makes them."""
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(f"{error}; `dvc repro corrupt` makes the sets") from None
