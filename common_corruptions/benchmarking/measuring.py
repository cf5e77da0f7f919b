"""Measure a net on opened sets: errors and their intervals over images, calibration, and flips."""

from typing import Any

import numpy as np
from tqdm import tqdm

from common_corruptions.benchmarking.kept import Arrays, Keeping, places
from common_corruptions.benchmarking.per_image import Flip, answer_images, answer_sequences
from common_corruptions.evaluation import Net
from common_corruptions.logits import naming_set
from common_corruptions.metrics import classification_error
from common_corruptions.recipes.names import CORRUPTIONS
from common_corruptions.sets.opened import Sets
from common_corruptions.sets.staging import Images
from common_corruptions.statistics import calibration_error, paired_bootstrap

Error = tuple[str, int, float]


def measure_errors(
    net: Net, sets: Sets, bar: tqdm, keeping: Keeping | None, reusable: set[str], **options: Any
) -> tuple[list[Error], dict[str, float], str]:
    """Measure errors by corruption and severity, and the intervals and calibration of their means.

    Args:
        net, options: as for `common_corruptions.evaluation.predict`.
        sets: as returned by `common_corruptions.sets.any_data.open_data`.
        bar: advances by one per image.
        keeping: where the predictions are kept, if they are.
        reusable: the places of the predictions that can be reused.

    Returns:
        (rows, figures, reason): rows are (corruption, severity, error in percent), with ("clean", 0, error) first if
        there are clean images. figures are over the clean images and the benchmark's corruptions: `E_clean_low`,
        `E_clean_high`, `E_corr_low`, `E_corr_high`, the 95 % interval of the mean error over images (percentile
        bootstrap), and `ECE_clean`, `ECE_corr`, the expected calibration error (15 bins), a mean over the sets; all in
        percent. reason says why there is no ECE, or is "".

    Raises:
        TypeError, ValueError: as `per_image.answer_images`; UndefinedLogits names the set.
    """
    rows: list[Error] = []
    wrong: dict[str, list[np.ndarray]] = {}
    calibration: dict[str, list[float]] = {}
    reason = ""
    for place, images in places(sets):
        if place.startswith("p/"):
            continue
        name, _, severity = place.removeprefix("c/").partition("-")
        if place in reusable and keeping is not None:
            found = keeping.load(place)
            bar.update(len(images))
        else:
            with naming_set(name, int(severity or 0)):
                found = _answers(net, images, sets, bar, **options)
            if keeping is not None:
                keeping.save(place, images, sets.labels, found)
        rows.append((name, int(severity or 0), classification_error(found["predicted"], found["labels"])))
        if name not in ("clean", *CORRUPTIONS):
            continue
        kind = "clean" if name == "clean" else "corr"
        wrong.setdefault(kind, []).append(~found["correct"])
        reason = reason or str(found["no_confidence"])
        if not reason:
            error = calibration_error(found["confidence"], found["correct"])
            calibration.setdefault(kind, []).append(error)
    figures = _intervals(wrong)
    if not reason:
        figures |= {f"ECE_{kind}": float(np.mean(values)) for kind, values in calibration.items()}
    return rows, figures, reason


def _answers(net: Net, images: Images, sets: Sets, bar: tqdm, **options: Any) -> Arrays:
    answers = answer_images(net, images, sets.labels, sets.classes, bar.update, **options)
    return {
        "predicted": answers.predicted,
        "confidence": answers.confidence,
        "correct": answers.predicted == sets.labels,
        "labels": sets.labels,
        "no_confidence": np.array(answers.no_confidence),
    }


def measure_flips(
    net: Net, sets: Sets, bar: tqdm, keeping: Keeping | None, reusable: set[str], **options: Any
) -> list[Flip]:
    """Measure (perturbation, protocol, metric, value): up to three metrics in both protocols.

    Arguments and errors are as for `measure_errors`; the bar advances by one per frame.
    """
    rows: list[Flip] = []
    for name, sequences in sets.perturbations.items():
        place = f"p/{name}"
        if place in reusable and keeping is not None:
            found = keeping.load(place)
            kept = zip(
                found["protocol"].tolist(), found["metric"].tolist(), found["value"].tolist(), strict=True
            )
            rows += [(name, *row) for row in kept]
            bar.update(found["predicted"].size)
            continue
        with naming_set(name):
            predicted, measured = answer_sequences(net, name, sequences, bar.update, **options)
        rows += measured
        if keeping is not None:
            _, protocols, metrics, values = (np.array(column) for column in zip(*measured, strict=True))
            arrays = {"predicted": predicted, "protocol": protocols, "metric": metrics, "value": values}
            keeping.save(place, sequences, sets.labels, arrays)
    return rows


def _intervals(wrong: dict[str, list[np.ndarray]]) -> dict[str, float]:
    """The 95 % interval of each mean error, over images."""
    if not wrong:
        return {}
    by_image = np.stack([100 * np.mean(answers, axis=0) for answers in wrong.values()])
    found = paired_bootstrap(by_image[:, None])
    return {
        f"E_{kind}_{end}": float(bounds[i])
        for i, kind in enumerate(wrong)
        for end, bounds in (("low", found.low_images), ("high", found.high_images))
    }
