"""What a net makes of opened sets: errors, their interval over images, calibration, and flips."""

from typing import Any

import numpy as np
from tqdm import tqdm

from common_corruptions.answers import perturbation_metrics, predict_sets, rank_sets
from common_corruptions.evaluation import Net
from common_corruptions.folders import Sets
from common_corruptions.metrics import classification_error
from common_corruptions.recipes.names import CORRUPTIONS
from common_corruptions.statistics import expected_calibration_error, paired_bootstrap

Error = tuple[str, int, float]
Flip = tuple[str, str, str, float]


def measure_errors(
    net: Net, sets: Sets, bar: tqdm, **options: Any
) -> tuple[list[Error], dict[str, float], str]:
    """Errors by corruption and severity, and what is known of their means.

    Args:
        net, options: as for `common_corruptions.evaluation.predict`.
        sets: as `common_corruptions.folders.open_sets` gives them.
        bar: moves by one for each corrupted set.

    Returns:
        (rows, figures, reason): rows (corruption, severity, error in percent), ("clean", 0, error) first where there
        are clean images. Figures of the clean images and of the benchmark's corruptions: `E_clean_low`, `E_clean_high`,
        `E_corr_low`, `E_corr_high`, the 95 % interval of the mean error over images (percentile bootstrap), and
        `ECE_clean`, `ECE_corr`, the expected calibration error (15 bins), a mean over the sets; all in percent. The
        reason why there is no ECE, or "".

    Raises:
        TypeError, ValueError: as `predict` and `classification_error`.
    """
    rows: list[Error] = []
    wrong: dict[str, list[np.ndarray]] = {}
    calibration: dict[str, list[float]] = {}
    reason = ""
    clean = None if sets.clean is None else sets.clean.images[: len(sets.labels)]
    for name, severity, logits in predict_sets(net, clean, sets.corruptions, **options):
        rows.append((name, severity, classification_error(logits, sets.labels)))
        bar.update(name != "clean")
        if name not in ("clean", *CORRUPTIONS):
            continue
        kind = "clean" if name == "clean" else "corr"
        wrong.setdefault(kind, []).append(logits.argmax(1) != sets.labels)
        reason = reason or _no_calibration(logits)
        if not reason:
            error = float(expected_calibration_error(logits, sets.labels))
            calibration.setdefault(kind, []).append(error)
    figures = _intervals(wrong)
    if not reason:
        figures |= {f"ECE_{kind}": float(np.mean(values)) for kind, values in calibration.items()}
    return rows, figures, reason


def measure_flips(net: Net, sets: Sets, bar: tqdm, **options: Any) -> list[Flip]:
    """(perturbation, protocol, metric, value): three metrics in both protocols; the bar moves by one for each.

    Args and errors as for `measure_errors`.
    """
    rows = []
    for name, ranks in rank_sets(net, sets.perturbations, **options):
        rows += perturbation_metrics(name, ranks)
        bar.update()
    return rows


def _intervals(wrong: dict[str, list[np.ndarray]]) -> dict[str, float]:
    """The 95 % interval over images of each mean error."""
    if not wrong:
        return {}
    by_image = np.stack([100 * np.mean(answers, axis=0) for answers in wrong.values()])
    found = paired_bootstrap(by_image[:, None])
    return {
        f"E_{kind}_{end}": float(bounds[i])
        for i, kind in enumerate(wrong)
        for end, bounds in (("low", found.low_images), ("high", found.high_images))
    }


def _no_calibration(logits: np.ndarray) -> str:
    if not np.isfinite(logits).all():
        return "a logit is not finite"
    if logits.min() >= 0 and np.abs(logits.sum(1) - 1).max() < 1e-3:
        return "the net returns probabilities; let it return their logarithm"
    return ""
