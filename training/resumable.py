"""Training that can be stopped after any epoch and resumed, with the same final weights as without interruption.

A checkpoint is {state: of `training.engine.train_epochs`, rows: training curve so far, device: hardware it ran on}.
"""

import io
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from common_corruptions.termination import on_sigterm
from training import parallel
from training.batches import TrainingSet
from training.device import describe, make_deterministic
from training.engine import train_epochs
from training.recipe import Precision, Recipe

# Minimum time between checkpoints, because an epoch can take less time than writing one.
SECONDS_BETWEEN = 15


class TerminatedError(RuntimeError):
    """SIGTERM arrived during training; the epoch named in the message was finished and its checkpoint kept."""


def prepare(device: torch.device, precision: Precision) -> None:
    """Make torch choose the same algorithms in every run.

    Raises:
        ValueError: the device does not support the precision.
    """
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"tf32 needs a CUDA GPU, but the device is {device}; set it to fp32 or bf16")
    make_deterministic(device)


def train_resumably(
    module: nn.Module,
    data: TrainingSet,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    recipe: Recipe,
    *,
    label: str,
    saved: dict | None,
    keep: Callable[[dict], object],
    log: Callable[[list[dict]], object],
) -> list[dict[str, float]]:
    """Train to the end with a progress bar and checkpoints; return the rows of the training curve.

    With several processes, the first one calls `keep` and shows the bar.

    Args:
        module: on the device of `data`; trained in place.
        test_images, test_labels: (M, H, W, C) uint8 and (M,); evaluated after each epoch.
        label: of the progress bar.
        saved: checkpoint to resume from; the first process's is used in all.
        keep: called with a checkpoint after the first and the last epoch, at intervals between them, and at SIGTERM.
        log: called with the curve so far after each regular checkpoint, and with the whole curve at the end.

    Raises:
        TerminatedError: SIGTERM arrived; `keep` has received the checkpoint.
        DivergedError: the loss of an epoch is not finite.
    """
    saved = parallel.from_first(lambda: saved)
    rows = saved["rows"] if saved else []
    first = parallel.rank() == 0
    steps = -(-len(data) // recipe.batch_size)
    kept, at = len(rows), -math.inf  # the last epoch kept, and the time
    bar = tqdm(
        total=recipe.epochs * steps, initial=len(rows) * steps, desc=label, unit="batch", disable=not first
    )
    stops: list[int] = []  # SIGTERMs so far; the current epoch is still finished and kept
    with bar, on_sigterm(stops.append):
        for content in checkpoints(module, data, test_images, test_labels, recipe, saved, bar.update):
            rows = content["rows"]
            last = len(rows) == recipe.epochs
            if first and (last or time.monotonic() - at > SECONDS_BETWEEN):
                keep(content)
                kept, at = len(rows), time.monotonic()
                log(rows)
            bar.set_postfix(error=f"{rows[-1]['test_error']:.2f} %", refresh=False)
            if parallel.in_any(bool(stops), data.device):
                if first and kept < len(rows):
                    keep(content)
                raise TerminatedError(f"stopped after epoch {len(rows)}")
    log(rows)
    return rows


def checkpoints(
    module: nn.Module,
    data: TrainingSet,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    recipe: Recipe,
    saved: dict | None,
    on_batch: Callable[[], object] = lambda: None,
) -> Iterator[dict]:
    """Train from a checkpoint or from the start to the end, yielding a checkpoint after each epoch."""
    rows: list[dict[str, float]] = list(saved["rows"]) if saved else []
    started = time.monotonic()
    begun = saved and saved["state"]
    epochs = train_epochs(module, data, test_images, test_labels, recipe, state=begun, on_batch=on_batch)
    for row, state in epochs:
        rows.append({**row, "images_per_second": len(data) / (time.monotonic() - started)})
        yield {"state": state, "rows": rows, "device": describe(data.device)}
        started = time.monotonic()


def same_hardware(saved: dict, hardware: str, epochs: int) -> bool:
    """Whether a checkpoint can be resumed on `hardware` (see `training.device.describe`); a finished one always can.

    Other hardware rounds differently, so the final weights would be those of neither hardware.
    """
    return saved["device"] == hardware or saved["state"]["epoch"] == epochs


def pack(checkpoint: dict) -> bytes:
    """A checkpoint as the bytes of its file."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()
