"""From the answers on single images: paired differences with intervals, calibration, confusion matrices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from robustness.names import NOISE_PERTURBATIONS, PERTURBATIONS
from robustness.statistics import expected_calibration_error, paired_bootstrap
from stages.predictions import Logits, load_frames, load_logits

INTERVALS = ["difference", "low", "high", "low_images", "high_images"]
TOLERANCE = 1e-5  # of an error in percent: the tables of measurements hold eight digits


class Scores(NamedTuple):
    """What a net scored on single images or sequences: condition -> percent (S, N), for the S seeds in order."""

    seeds: list[int]
    by_condition: dict[str, np.ndarray]


class Answers(NamedTuple):
    """What statistics need of the answers of all nets.

    errors, flips: net -> scores by corruption (also `clean` and the `mean` of the others) and by perturbation.
    calibration: net, seed, corruption, ece (percent, mean over severities).
    confusion: net -> set (clean, corrupted), label, predicted, count (over seeds, and over all corrupted sets).
    images: number of test images, None if there are no answers.
    warnings: a line for each file that is not there or not of these measurements.
    """

    errors: dict[str, Scores]
    flips: dict[str, Scores]
    calibration: pd.DataFrame
    confusion: dict[str, pd.DataFrame]
    images: int | None
    warnings: list[str]


def read_answers(
    folder: Path, seeds: Mapping[str, Sequence[int]], corruption: pd.DataFrame, perturbation: pd.DataFrame
) -> Answers:
    """Read `corruption/<net>.npz` and `perturbation/<net>.npz` of every net, one after the other.

    Args:
        folder: `predictions/<data>`.
        seeds: net -> its seeds; others in the files are left alone.
        corruption, perturbation: the tidy measurements. Answers that do not give them are of another run and left out.
    """
    answers = Answers({}, {}, pd.DataFrame(columns=["net", "seed", "corruption", "ece"]), {}, None, [])
    errors = corruption.groupby(["net", "seed", "corruption"]).error.mean()
    flips = perturbation.query("protocol == 'hendrycks' and metric == 'flip_probability'")
    flips = 100 * flips.set_index(["net", "seed", "perturbation"]).value
    calibration = []
    for net, wanted in seeds.items():
        path = folder / "corruption" / f"{net}.npz"
        if not path.exists():
            answers.warnings.append(f"{path}: not there; `dvc repro evaluate_corruption@{net}` makes it")
        else:
            logits = load_logits(path)
            scores = corruption_errors(logits, [seed for seed in wanted if seed in logits.by_seed])
            if agree(scores, net, errors):
                answers.errors[net] = scores
                calibration.append(calibration_errors(logits, scores.seeds).assign(net=net))
                answers.confusion[net] = confusion(logits, scores.seeds)
                answers = answers._replace(images=len(logits.labels))
            else:
                answers.warnings.append(f"{path}: not the answers behind the measured errors, left out")
        path = folder / "perturbation" / f"{net}.npz"
        if not path.exists():
            answers.warnings.append(f"{path}: not there; `dvc repro evaluate_perturbation@{net}` makes it")
        else:
            scores = flip_shares(load_frames(path), wanted)
            if agree(scores, net, flips):
                answers.flips[net] = scores
            else:
                answers.warnings.append(f"{path}: not the answers behind the measured flips, left out")
    return answers._replace(calibration=pd.concat([answers.calibration, *calibration], ignore_index=True))


def agree(scores: Scores, net: str, measured: pd.Series) -> bool:
    """Whether the means of the scores are the measured ones (net, seed, condition), where both are there."""
    for condition, values in scores.by_condition.items():
        for seed, mean in zip(scores.seeds, values.mean(1), strict=True):
            if abs(mean - measured.get((net, seed, condition), mean)) > TOLERANCE:
                return False
    return True


def corruption_errors(logits: Logits, seeds: Sequence[int]) -> Scores:
    """Error on each image, percent, mean over severities."""
    wrong = np.stack([logits.by_seed[seed].argmax(2) != logits.labels for seed in seeds], axis=1)
    names = [name for name, _ in logits.sets]
    errors = {name: 100 * wrong[[other == name for other in names]].mean(0) for name in dict.fromkeys(names)}
    corrupted = [values for name, values in errors.items() if name != "clean"]
    return Scores(list(seeds), errors | {"mean": np.mean(corrupted, axis=0)})


def flip_shares(frames: Mapping[tuple[str, int], np.ndarray], seeds: Sequence[int]) -> Scores:
    """Share of flips in each sequence, percent; noises against the first frame, others against the previous."""
    flips = {}
    seeds = [seed for seed in seeds if any(other == seed for _, other in frames)]
    for name in dict.fromkeys(name for name, _ in frames):
        predicted = np.stack([frames[name, seed] for seed in seeds])
        before = predicted[:, :, :1] if name in NOISE_PERTURBATIONS else predicted[:, :, :-1]
        flips[name] = 100 * (predicted[:, :, 1:] != before).mean(2)
    averaged = [values for name, values in flips.items() if name in PERTURBATIONS]
    return Scores(seeds, flips | {"mean": np.mean(averaged, axis=0)})


def calibration_errors(logits: Logits, seeds: Sequence[int]) -> pd.DataFrame:
    """seed, corruption, ece: the expected calibration error of each set, percent, mean over severities."""
    rows = [
        (seed, name, error)
        for seed in seeds
        for (name, _), error in zip(
            logits.sets, expected_calibration_error(logits.by_seed[seed], logits.labels), strict=True
        )
    ]
    table = pd.DataFrame(rows, columns=["seed", "corruption", "ece"])
    return table.groupby(["seed", "corruption"], sort=False).ece.mean().reset_index()


def confusion(logits: Logits, seeds: Sequence[int]) -> pd.DataFrame:
    """set, label, predicted, count: over all seeds, on the clean images and on all corrupted ones together."""
    classes = next(iter(logits.by_seed.values())).shape[2]
    predicted = np.stack([logits.by_seed[seed].argmax(2) for seed in seeds])
    clean = np.array([name == "clean" for name, _ in logits.sets])
    tables = []
    for which, chosen in (("clean", clean), ("corrupted", ~clean)):
        answers = predicted[:, chosen]
        labels = np.broadcast_to(logits.labels, answers.shape)
        counts = confusion_matrix(labels.ravel(), answers.ravel(), labels=range(classes))
        label, guess = np.indices(counts.shape)
        tables.append(
            pd.DataFrame(
                {
                    "set": which,
                    "label": label.ravel(),
                    "predicted": guess.ravel(),
                    "count": counts.ravel(),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def paired_differences(
    scores: Mapping[str, Scores],
    couples: Sequence[tuple[str, str]],
    seeds: Mapping[str, Sequence[int]],
    conditions: Sequence[str],
) -> pd.DataFrame:
    """Push-pull minus baseline with 95 % intervals, paired by seed and image.

    Args:
        scores: net -> its scores.
        couples: (baseline, push-pull).
        seeds: net -> the seeds that it should have.
        conditions: those that there should be.

    Returns:
        pushpull, baseline, condition, difference, low, high, low_images, high_images (points of percent, as
        `robustness.statistics.Intervals`), seeds, of, images; NaN where a net or a condition has no scores.
    """
    tables = []
    for plain, pushpull in couples:
        table = pd.DataFrame(
            {
                "pushpull": pushpull,
                "baseline": plain,
                "condition": list(conditions),
                "seeds": 0,
                "of": sum(seed in seeds[plain] for seed in seeds[pushpull]),
                "images": 0,
            }
        )
        table[INTERVALS] = np.nan
        if pushpull in scores and plain in scores:
            ours, base = scores[pushpull], scores[plain]
            common = [seed for seed in ours.seeds if seed in base.seeds]
            both = [c for c in conditions if c in ours.by_condition and c in base.by_condition]
            if common and both:
                differences = np.stack(
                    [
                        ours.by_condition[c][[ours.seeds.index(seed) for seed in common]]
                        - base.by_condition[c][[base.seeds.index(seed) for seed in common]]
                        for c in both
                    ]
                )
                where = table.condition.isin(both)
                table.loc[where, INTERVALS] = np.stack(paired_bootstrap(differences), 1)
                table.loc[where, ["seeds", "images"]] = len(common), differences.shape[2]
        tables.append(table)
    columns = ["pushpull", "baseline", "condition", *INTERVALS, "seeds", "of", "images"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
