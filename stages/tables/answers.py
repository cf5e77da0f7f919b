"""Statistics of the predictions for single images: paired differences with intervals, calibration, confusion."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common_corruptions.recipes.names import CORRUPTIONS, NOISE_PERTURBATIONS, PERTURBATIONS
from common_corruptions.statistics import expected_calibration_error, paired_bootstrap
from stages.files.predictions import Logits, load_frames, load_logits

INTERVALS = ["difference", "low", "high", "low_images", "high_images"]
TOLERANCE = 1e-5  # for an error in percent: the tables of measurements hold eight digits


class Scores(NamedTuple):
    """Scores of a net on single images or sequences: condition -> percent (S, N), for the S seeds in order."""

    seeds: list[int]
    by_condition: dict[str, np.ndarray]


class Answers(NamedTuple):
    """Statistics of the predictions of all nets.

    errors, flips: net -> scores by corruption (also `clean`) and by perturbation, and the `mean` of the benchmark's.
    official_flips: as `flips`, but each frame is compared with the previous one for noises too.
    calibration: net, seed, corruption, ece (percent, mean over severities).
    confusion: net -> set (clean, corrupted), label, predicted, count (over seeds, and the benchmark's corruptions).
    images: number of test images, None if there are no predictions.
    warnings: one line per file that is missing, unreadable or does not match the measurements.
    """

    errors: dict[str, Scores]
    flips: dict[str, Scores]
    official_flips: dict[str, Scores]
    calibration: pd.DataFrame
    confusion: dict[str, pd.DataFrame]
    images: int | None
    warnings: list[str]


def read_answers(
    files: Mapping[str, tuple[Path, Path]],
    seeds: Mapping[str, Sequence[int]],
    corruption: pd.DataFrame,
    perturbation: pd.DataFrame,
) -> Answers:
    """Read the predictions of every net, one net after the other.

    Args:
        files: net -> its file of logits on the corrupted sets, its file of predictions on the perturbed sequences.
        seeds: net -> its seeds; other seeds in the files are ignored.
        corruption, perturbation: the tidy measurements. Predictions that do not reproduce them are from another run and
            left out.
    """
    errors = corruption.groupby(["net", "seed", "corruption"]).error.mean()
    flips = perturbation.query("protocol == 'hendrycks' and metric == 'flip_probability'")
    flips = 100 * flips.set_index(["net", "seed", "perturbation"]).value
    answers = Answers({}, {}, {}, pd.DataFrame(columns=["net", "seed", "corruption", "ece"]), {}, None, [])
    for net, (of_corruptions, of_perturbations) in files.items():
        try:
            logits = load_logits(of_corruptions)
            scores = corruption_errors(logits, [seed for seed in seeds[net] if seed in logits.by_seed])
            check_agreement(scores, net, errors)
            calibration = calibration_errors(logits, scores.seeds).assign(net=net)
            answers = answers._replace(
                errors=answers.errors | {net: scores},
                calibration=pd.concat([answers.calibration, calibration], ignore_index=True),
                confusion=answers.confusion | {net: confusion(logits, scores.seeds)},
                images=len(logits.labels),
            )
        except UNUSABLE as error:
            answers.warnings.append(f"{of_corruptions}: {reason(error)}")
        try:
            frames = load_frames(of_perturbations)
            scores = flip_shares(frames, seeds[net])
            check_agreement(scores, net, flips)
            official = flip_shares(frames, seeds[net], official=True)
            answers = answers._replace(
                flips=answers.flips | {net: scores},
                official_flips=answers.official_flips | {net: official},
            )
        except UNUSABLE as error:
            answers.warnings.append(f"{of_perturbations}: {reason(error)}")
    return answers


class OtherRun(Exception):
    """The predictions do not match the measurements."""


UNUSABLE = (FileNotFoundError, OtherRun, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def reason(error: Exception) -> str:
    """Describe what is wrong with a file of predictions, and what to do."""
    if isinstance(error, FileNotFoundError):
        return "not there; `dvc repro` makes it"
    if isinstance(error, OtherRun):
        return "not the answers behind the measurements, left out"
    return f"cannot be read, left out ({error}); remove it, then `dvc repro`"


def check_agreement(scores: Scores, net: str, measured: pd.Series) -> None:
    """Compare the means of the scores with the measured ones (net, seed, condition), where both exist.

    Raises:
        OtherRun: there is no seed in common, or a mean differs.
    """
    if not scores.seeds:
        raise OtherRun
    for condition, values in scores.by_condition.items():
        for seed, mean in zip(scores.seeds, values.mean(1), strict=True):
            if abs(mean - measured.get((net, seed, condition), mean)) > TOLERANCE:
                raise OtherRun


def corruption_errors(logits: Logits, seeds: Sequence[int]) -> Scores:
    """Error on each image in percent, mean over severities; `mean` is over the benchmark's corruptions."""
    if not seeds:
        return Scores([], {})
    wrong = np.stack([logits.classes(seed) != logits.labels for seed in seeds], axis=1)
    names = [name for name, _ in logits.sets]
    errors = {name: 100 * wrong[[other == name for other in names]].mean(0) for name in dict.fromkeys(names)}
    corrupted = [values for name, values in errors.items() if name in CORRUPTIONS]
    return Scores(list(seeds), errors | {"mean": np.mean(corrupted, axis=0)})


def flip_shares(
    frames: Mapping[int, Mapping[str, np.ndarray]], seeds: Sequence[int], official: bool = False
) -> Scores:
    """Flip probability of each sequence in percent.

    Frames are compared with the previous one; frames of noises with the first one, unless `official`.
    """
    seeds = [seed for seed in seeds if seed in frames]
    flips = {}
    for name in frames[seeds[0]] if seeds else ():
        predicted = np.stack([frames[seed][name] for seed in seeds])
        first = name in NOISE_PERTURBATIONS and not official
        before = predicted[:, :, :1] if first else predicted[:, :, :-1]
        flips[name] = 100 * (predicted[:, :, 1:] != before).mean(2)
    averaged = [values for name, values in flips.items() if name in PERTURBATIONS]
    return Scores(seeds, flips | ({"mean": np.mean(averaged, axis=0)} if averaged else {}))


def calibration_errors(logits: Logits, seeds: Sequence[int]) -> pd.DataFrame:
    """seed, corruption, ece: the expected calibration error of each set, percent, mean over severities.

    Seeds with predicted classes but no logits are left out.
    """
    rows = [
        (seed, name, error)
        for seed in seeds
        if logits.by_seed[seed].ndim == 3
        for (name, _), error in zip(
            logits.sets, expected_calibration_error(logits.by_seed[seed], logits.labels), strict=True
        )
    ]
    table = pd.DataFrame(rows, columns=["seed", "corruption", "ece"])
    return table.groupby(["seed", "corruption"], sort=False).ece.mean().reset_index()


def confusion(logits: Logits, seeds: Sequence[int]) -> pd.DataFrame:
    """set, label, predicted, count: over all seeds, on clean images and on the benchmark's corrupted ones together."""
    predicted = np.stack([logits.classes(seed) for seed in seeds])
    answers = next(iter(logits.by_seed.values()))
    classes = answers.shape[2] if answers.ndim == 3 else int(max(logits.labels.max(), predicted.max())) + 1
    clean, corrupted = (
        np.array([name in which for name, _ in logits.sets]) for which in (("clean",), CORRUPTIONS)
    )
    tables = []
    for which, chosen in (("clean", clean), ("corrupted", corrupted)):
        answers = predicted[:, chosen]
        labels = np.broadcast_to(logits.labels, answers.shape)
        counts = pd.crosstab(labels.ravel(), answers.ravel())
        counts = counts.reindex(index=range(classes), columns=range(classes), fill_value=0).to_numpy()
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
        couples: pairs (baseline, push-pull).
        seeds: net -> its expected seeds.
        conditions: the expected conditions.

    Returns:
        pushpull, baseline, condition, difference, low, high, low_images, high_images (percentage points, as
        `common_corruptions.statistics.Intervals`), spread (standard deviation over seeds), seeds, of, images. Values
        are NaN if a net or condition has no scores; with one seed, so are spread and the interval over seeds.
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
        table[[*INTERVALS, "spread"]] = np.nan
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
                if len(common) > 1:
                    table.loc[where, "spread"] = differences.mean(2).std(1, ddof=1)
                else:
                    table[["low", "high"]] = np.nan  # one seed gives no interval over seeds
        tables.append(table)
    columns = ["pushpull", "baseline", "condition", *INTERVALS, "spread", "seeds", "of", "images"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
