"""Part `evaluation`: errors on C and flips on P of every net that the recipe trained, and the answers behind them."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.gpu import sets
from benchmarks.gpu.answers import save_answers
from benchmarks.gpu.recipe import NORMALISER
from benchmarks.gpu.setting import NORMALISER_FILE, Setting
from benchmarks.gpu.timing import choose_device
from common_corruptions.evaluation.answers import (
    perturbation_metrics,
    predict_corruptions,
    rank_perturbations,
)
from common_corruptions.evaluation.folding import fold_norms
from common_corruptions.metrics import classification_error
from common_corruptions.summary import Baseline, summarise
from stages.files.trained import Trained
from stages.files.writing import write_csv
from training.device import make_deterministic

CORRUPTION = ["net", "seed", "corruption", "severity", "error"]
PERTURBATION = ["net", "seed", "perturbation", "protocol", "metric", "value"]


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    device = choose_device()
    make_deterministic(device)
    found: dict[str, Any] = {"nets": {}}
    start = time.monotonic()
    while not sets.made(setting):
        if setting.left < 1:
            yield {"failed": "the C and P sets were not made in time"}
            return
        time.sleep(0.2)
    found["waited_for_sets_seconds"] = round(time.monotonic() - start, 2)
    nets = load_trained(setting)
    if not nets:
        yield {**found, "failed": "there are no weights; the part recipe makes them"}
        return
    labels = np.load(setting.images / "clean" / "test_labels.npy")
    corruptions, perturbations = sets.names(setting)
    errors: list[tuple] = []
    flips: list[tuple] = []
    answers: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for name, seed, one in in_order(nets):
        net = fold_norms(one.net(seed, device))
        options = {"mean": one.mean, "std": one.std, "device": device}
        start = time.monotonic()
        classes, own_errors, own_flips, frames = [], [], [], {}
        for corruption, severity, logits in predict_corruptions(net, setting.images, corruptions, **options):
            own_errors.append((corruption, severity, classification_error(logits, labels)))
            classes.append(logits.argmax(1).astype(np.uint8))
        on_c = time.monotonic()
        for perturbation, ranks in rank_perturbations(net, setting.images, perturbations, **options):
            own_flips += perturbation_metrics(perturbation, ranks)
            frames[perturbation] = ranks.argmin(2).astype(np.uint8)
        found["nets"][f"{name} {seed}"] = {
            "seconds_c": round(on_c - start, 2),
            "seconds_p": round(time.monotonic() - on_c, 2),
            **summarise(own_errors, own_flips, baseline(errors, (name, seed), own_errors)),
        }
        errors += [(name, seed, *row) for row in own_errors]
        flips += [(name, seed, *row) for row in own_flips]
        write_csv(setting.work / "corruption.csv", pd.DataFrame(errors, columns=CORRUPTION))
        write_csv(setting.work / "perturbation.csv", pd.DataFrame(flips, columns=PERTURBATION))
        if name != NORMALISER:
            answers[name, seed] = {"corruption": np.stack(classes), **frames}
            conditions = [(corruption, severity) for corruption, severity, _ in own_errors]
            save_answers(setting.work / "answers.npz", labels, conditions, answers)
        yield found


def load_trained(setting: Setting) -> dict[str, Trained]:
    """The nets that the recipe trained here."""
    found: dict[str, Trained] = {}
    for file in (NORMALISER_FILE, "weights.pt"):
        if (path := setting.work / file).exists():
            saved = torch.load(path, map_location="cpu", weights_only=True)
            found |= {name: Trained(**fields) for name, fields in saved.items()}
    return found


def in_order(nets: dict[str, Trained]) -> list[tuple[str, int, Trained]]:
    """The normaliser first, which the others are divided by, then seed by seed."""
    every = [(name, seed, one) for name, one in nets.items() for seed in one.weights]
    return sorted(every, key=lambda entry: (entry[0] != NORMALISER, entry[1], entry[0]))


def baseline(errors: list[tuple], key: tuple[str, int], own: list[tuple]) -> Baseline | None:
    """The AlexNet trained here, whose errors come first; without one there is no mCE and no rCE."""
    rows = [row[2:] for row in errors if row[0] == NORMALISER] or (own if key[0] == NORMALISER else [])
    if not rows:
        return None
    means = pd.DataFrame(rows, columns=CORRUPTION[2:]).groupby("corruption").error.mean().to_dict()
    return Baseline(means, means.pop("clean"), "the AlexNet trained in the same call")
