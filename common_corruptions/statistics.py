"""Statistics of a comparison: intervals of paired differences, the number of seeds needed, and calibration."""

import operator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, nctdtr, ndtri, stdtrit

from common_corruptions.metrics.arrays import as_array, class_indices

_BLOCK = 1 << 22  # elements of the bootstrap's weights in memory at a time
_ROUNDING = 1e-12  # of a mean, relative to the largest of its values


class Intervals(NamedTuple):
    """Mean differences and the bounds of their intervals, each an array (M,).

    low, high: over training seeds and images: whether the method differs.
    low_images, high_images: over images alone: whether these trained nets differ.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    low_images: np.ndarray
    high_images: np.ndarray


def paired_bootstrap(
    differences: ArrayLike, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Intervals:
    """Mean difference of two nets, with percentile bootstrap intervals over training seeds and test images.

    Each resample draws the seeds and, independently, the images, both with replacement. The images drawn are the same
    for all seeds and all conditions, since all nets saw the same images. Resampling two or three seeds as they are
    would give far too short intervals, so the means of the S seeds are first spread about their mean by
    sqrt(S / (S - 1)) t / z, with the quantiles t of Student's distribution with S - 1 degrees of freedom and z of the
    normal one: with the resulting standard deviation of the resampled mean, z standard deviations are Student's
        interval.
    If only seeds vary, normally, the 95 % interval over three to five of them is 96 to 105 % as long as Student's and
    misses the true difference in 5.1 to 5.6 % of studies. Two seeds have at most three resampled means, and the
    interval reaches from the first to the last: it is 72 % as long as Student's, and misses in 6.9 %. Variation over
    images makes it longer. With one seed both intervals are over images only.

    Args:
        differences: (M, S, N): for M conditions, S seeds and N images the score of one net minus that of the
            other, for instance the difference of two 0/1 errors times 100.
        resamples: number of resamples.
        level: share of the resampled means within an interval.
        seed: of the resampling; equal input gives equal intervals.

    Raises:
        TypeError: a number of resamples that is not an integer.
        ValueError: another shape, an empty array, a value that is not finite, no resamples, or a level outside 0 to 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 3 or 0 in values.shape:
        raise ValueError(f"differences have shape {values.shape}; expected (M, S, N), none of them 0")
    if not np.isfinite(values).all():
        raise ValueError("differences must all be finite")
    if operator.index(resamples) < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    conditions, seeds, images = values.shape
    random = np.random.default_rng(seed)
    if seeds > 1:
        deviation = values.mean(2) - values.mean((1, 2))[:, None]
        values = values + ((_widening(seeds, level) - 1) * deviation)[:, :, None]
    by_image = values.reshape(conditions * seeds, images).T
    over_images, over_both = np.empty((2, resamples, conditions))
    step = max(1, _BLOCK // images)
    for start in range(0, resamples, step):
        block = slice(start, min(start + step, resamples))
        count = block.stop - start
        drawn = (_draw(random, count, images) @ by_image / images).reshape(count, conditions, seeds)
        over_images[block] = drawn.mean(2)
        over_both[block] = np.einsum("bms,bs->bm", drawn, _draw(random, count, seeds) / seeds)
    tails = [(1 - level) / 2, (1 + level) / 2]
    bounds = np.concatenate([np.quantile(means, tails, axis=0) for means in (over_both, over_images)])
    # A mean of 0 comes out as 0 up to rounding, and an interval that ends there includes it.
    bounds[np.abs(bounds) <= _ROUNDING * np.abs(values).max()] = 0
    return Intervals(values.mean((1, 2)), *bounds)


def seeds_needed(
    spread: float, difference: float, *, power: float = 0.8, level: float = 0.95, most: int = 1000
) -> int:
    """Number of seeds that a two-sided t-test, paired by seed, needs to detect a difference (Cohen 1988, chapter 2).

    Args:
        spread: standard deviation over seeds of the paired difference, in its unit; at least 0.
        difference: the difference to be detected, in the same unit; not 0.
        power: probability that it is detected.
        level: 1 minus the probability that a difference is detected if there is none.
        most: returned if even this number is too small.

    Raises:
        ValueError: a spread below 0 or not finite, a difference of 0 or not finite, or a power or level outside 0 to 1.
    """
    if not 0 <= spread < np.inf:
        raise ValueError(f"spread must be at least 0 and finite, not {spread}")
    if not difference or not np.isfinite(difference):
        raise ValueError(f"difference must be finite and not 0, not {difference}")
    for name, share in (("power", power), ("level", level)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must be between 0 and 1, not {share}")
    if spread == 0:
        return 2
    seeds = np.arange(2, most + 1)
    freedom, shift = seeds - 1, np.sqrt(seeds) * abs(difference) / spread
    critical = stdtrit(freedom, (1 + level) / 2)
    # SciPy's lower tail is NaN for many large shifts, where it is 0 up to rounding.
    found = 1 - nctdtr(freedom, shift, critical) + np.nan_to_num(nctdtr(freedom, shift, -critical))
    enough = seeds[found >= power]
    return int(enough[0]) if len(enough) else most


def spread_interval(spread: float, seeds: int, *, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a standard deviation over seeds, for normal values.

    Args:
        spread: the standard deviation, with `seeds` - 1 degrees of freedom; at least 0.
        seeds: number of seeds, at least 2.
        level: share of the intervals that include the true value.

    Raises:
        ValueError: a spread below 0 or not finite, fewer than 2 seeds, or a level outside 0 to 1.
    """
    if not 0 <= spread < np.inf:
        raise ValueError(f"spread must be at least 0 and finite, not {spread}")
    if seeds < 2:
        raise ValueError(f"a spread needs at least 2 seeds, not {seeds}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    low, high = spread * np.sqrt((seeds - 1) / chdtri(seeds - 1, tails))
    return float(low), float(high)


def _widening(seeds: int, level: float) -> float:
    """Factor to spread the means of so few seeds: z standard deviations of their mean then are Student's interval."""
    quantile = (1 + level) / 2
    return float(np.sqrt(seeds / (seeds - 1)) * stdtrit(seeds - 1, quantile) / ndtri(quantile))


def _draw(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    """(count, size): how often each of `size` items is drawn, with replacement, in each of `count` resamples."""
    drawn = random.integers(size, size=(count, size)) + size * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size).astype(np.float64)


def expected_calibration_error(logits: ArrayLike, labels: ArrayLike, *, bins: int = 15) -> np.ndarray:
    """Expected calibration error (ECE, Guo et al. 2017), in percent.

    Images are binned by confidence, the largest softmax probability. The ECE is the mean over images of
    |accuracy - mean confidence| of the image's bin; the bins divide 0..1 equally, and each includes its upper bound.

    Args:
        logits: (..., N, K) floating point, of the same N images under any number of conditions.
        labels: class indices (N,).
        bins: number of bins.

    Returns:
        One value for each condition, shape (...).

    Raises:
        TypeError: a number of bins that is not an integer.
        ValueError: other shapes, fewer than 2 classes, logits that are not finite, labels that are not classes, or no
            bins.
    """
    logits = as_array(logits).astype(np.float32)
    labels = class_indices(labels, "labels", 1)
    if logits.ndim < 2 or 0 in logits.shape or labels.shape != logits.shape[-2:-1] or logits.shape[-1] < 2:
        raise ValueError(
            f"logits {logits.shape} and labels {labels.shape}; expected (..., N, K), (N,), K >= 2"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits must all be finite")
    if labels.max() >= logits.shape[-1]:
        raise ValueError(f"label {labels.max()} for logits of {logits.shape[-1]} classes")
    if operator.index(bins) < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    *conditions, images, classes = logits.shape
    rows = logits.reshape(-1, classes).astype(np.float64)
    predicted = rows.argmax(1)
    rows -= rows.max(1, keepdims=True)
    confidence = 1 / np.exp(rows, out=rows).sum(1)  # the largest softmax probability
    correct = predicted.reshape(-1, images) == labels
    return _calibration_error(confidence.reshape(-1, images), correct, bins).reshape(conditions)


def calibration_error(confidence: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> float:
    """The expected calibration error of one condition, in percent, from confidences instead of logits.

    Args:
        confidence: (N,) largest softmax probability of each image.
        correct: (N,) whether the predicted class is the label.
        bins: as for `expected_calibration_error`.
    """
    rows = np.asarray(confidence, np.float64)[None], np.asarray(correct)[None]
    return float(_calibration_error(*rows, bins)[0])


def _calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int) -> np.ndarray:
    """(M,) of (M, N) confidences."""
    sets, images = confidence.shape
    index = (np.ceil(confidence * bins).astype(np.int64) - 1).clip(0, bins - 1) + bins * np.arange(sets)[
        :, None
    ]
    sums = np.bincount(index.ravel(), (correct - confidence).ravel(), minlength=sets * bins)
    error: np.ndarray = 100 * np.abs(sums.reshape(sets, bins)).sum(1) / images
    return error
