"""The predicted classes of all nets in one file small enough to be brought home, and back into the pipeline's files.

| array | holds |
|---|---|
| `labels` (N,) uint8 | class of each test image |
| `corruption` (M,), `severity` (M,) | the M sets: `clean` with severity 0 first |
| `<net>/<seed>/corruption` (M, N) uint8 | predicted class of each image of each set |
| `<net>/<seed>/<perturbation>` (N, T) uint8 | predicted class of each frame |
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.files.predictions import Logits, save_frames, save_logits

Answers = Mapping[tuple[str, int], Mapping[str, np.ndarray]]


def save_answers(path: Path, labels: np.ndarray, sets: Sequence[tuple[str, int]], answers: Answers) -> None:
    """Write the file whole or not at all, compressed."""
    names, severities = zip(*sets, strict=True)
    arrays = {
        f"{net}/{seed}/{condition}": array
        for (net, seed), own in answers.items()
        for condition, array in own.items()
    }
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        fixed = {"labels": labels, "corruption": np.array(names), "severity": np.array(severities, np.uint8)}
        np.savez_compressed(file, **fixed, **arrays)
    os.replace(part, path)


def spread_answers(path: Path, folder: Path) -> None:
    """Write the files of `stages.files.predictions` for every net, below `folder`: `corruption/`, `perturbation/`."""
    classes: dict[str, dict[int, np.ndarray]] = {}
    frames: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    with np.load(path) as file:
        labels = file["labels"]
        sets = list(zip(file["corruption"].tolist(), file["severity"].tolist(), strict=True))
        for key in file.files:
            if "/" in key:
                net, seed, condition = key.split("/")
                if condition == "corruption":
                    classes.setdefault(net, {})[int(seed)] = file[key]
                else:
                    frames.setdefault(net, {}).setdefault(int(seed), {})[condition] = file[key]
    for net, by_seed in classes.items():
        save_logits(folder / "corruption" / f"{net}.npz", Logits(labels, sets, by_seed))
    for net, by_seed in frames.items():
        save_frames(folder / "perturbation" / f"{net}.npz", by_seed)
