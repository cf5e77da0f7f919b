"""Predictions of the nets for single images: `predictions/<data>/{corruption,perturbation}/<net>.npz`.

Those of the authors' weights are in `predictions/<data>/official/{corruption,perturbation}/<checkpoint>.npz`.

Statistics that compare nets on the same images are computed from these files; other measures can be added without
running a net again. The files are large (38 MB per seed and net on CIFAR-10-C), so DVC stores them, not Git.

| file | array | holds |
|---|---|---|
| both | `seeds` (S,) | seed of each training |
| `corruption/` | `labels` (N,) uint8 | class of each test image |
| | `corruption` (M,), `severity` (M,) | the M sets: `clean` with severity 0 first |
| | `logits_<seed>` (M, N, K) float32 | as the net returns them: they reproduce every error in the tables |
| | or `classes_<seed>` (M, N) uint8 | predicted classes only, for a net that was measured on another machine |
| `perturbation/` | `<perturbation>_<seed>` (N, T) uint8 | predicted class of each frame |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.files.writing import write_arrays

PREDICTIONS = Path("predictions")


@dataclass
class Logits:
    """Logits of every seed (M, N, K) on M sets of the same N test images, named by corruption and severity.

    Or only the predicted classes (M, N): these give errors, but no calibration.
    """

    labels: np.ndarray
    sets: list[tuple[str, int]]
    by_seed: Mapping[int, np.ndarray]

    def classes(self, seed: int) -> np.ndarray:
        """The predicted classes (M, N)."""
        answers = self.by_seed[seed]
        return answers if answers.ndim == 2 else answers.argmax(2)


def save_logits(path: Path, logits: Logits) -> None:
    """Write the file whole or not at all; equal logits give equal bytes."""
    names, severities = zip(*logits.sets, strict=True)
    arrays = {
        f"{'classes' if array.ndim == 2 else 'logits'}_{seed}": array
        for seed, array in logits.by_seed.items()
    }
    write_arrays(
        path,
        {
            "seeds": np.array(list(logits.by_seed)),
            "labels": logits.labels,
            "corruption": np.array(names),
            "severity": np.array(severities, np.uint8),
            **arrays,
        },
    )


def load_logits(path: Path) -> Logits:
    """Read what `save_logits` wrote.

    Raises:
        FileNotFoundError: no such file.
    """
    with np.load(path) as file:
        sets = list(zip(file["corruption"].tolist(), file["severity"].tolist(), strict=True))
        names = {seed: f"logits_{seed}" for seed in file["seeds"].tolist()}
        names = {seed: name if name in file else f"classes_{seed}" for seed, name in names.items()}
        return Logits(file["labels"], sets, {seed: file[name] for seed, name in names.items()})


def save_frames(path: Path, frames: Mapping[int, Mapping[str, np.ndarray]]) -> None:
    """Write the predicted classes (N, T) by seed and perturbation, whole or not at all."""
    arrays = {
        f"{name}_{seed}": array.astype(np.uint8)
        for seed, own in frames.items()
        for name, array in own.items()
    }
    write_arrays(path, {"seeds": np.array(list(frames)), **arrays})


def load_frames(path: Path) -> dict[int, dict[str, np.ndarray]]:
    """Read what `save_frames` wrote: the predicted classes (N, T) by seed and perturbation.

    Raises:
        FileNotFoundError: no such file.
    """
    with np.load(path) as file:
        frames = {seed: {} for seed in file["seeds"].tolist()}
        for key in file.files:
            name, _, seed = key.rpartition("_")
            if name:
                frames[int(seed)][name] = file[key]
    return frames
