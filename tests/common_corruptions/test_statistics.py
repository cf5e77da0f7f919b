"""Intervals against what theory gives for them, and calibration against its definition."""

import numpy as np
import pytest
import torch
from scipy import stats

from common_corruptions.statistics import (
    expected_calibration_error,
    paired_bootstrap,
    seeds_needed,
    spread_interval,
)


def test_over_images_the_interval_is_that_of_a_mean():
    """One seed, many images: mean ± 1.96 standard errors."""
    random = np.random.default_rng(1)
    differences = random.normal([[[0.0]], [[-3.0]]], 2.0, size=(2, 1, 2000))
    found = paired_bootstrap(differences, resamples=4000)
    mean, error = differences.mean((1, 2)), differences.std((1, 2)) / np.sqrt(2000)
    np.testing.assert_allclose(found.mean, mean)
    np.testing.assert_allclose(found.low, mean - 1.96 * error, atol=0.1 * error.max())
    np.testing.assert_allclose(found.high, mean + 1.96 * error, atol=0.1 * error.max())
    np.testing.assert_array_equal(found.low, found.low_images)
    np.testing.assert_array_equal(found.high, found.high_images)


def test_two_seeds_of_which_resampling_has_only_three_means():
    """Resampled, the seeds 1 and 3 have the means 1, 2, 3, and spread about 2 by sqrt(2) * 12.706 / 1.96."""
    differences = np.array([1.0, 3.0])[None, :, None] * np.ones((1, 2, 5))
    found = paired_bootstrap(differences)
    reach = np.sqrt(2) * stats.t.ppf(0.975, 1) / stats.norm.ppf(0.975)
    assert (found.mean, found.low, found.high) == pytest.approx((2, 2 - reach, 2 + reach))
    assert (found.low_images, found.high_images) == pytest.approx((2, 2))


@pytest.mark.parametrize(
    ("seeds", "length", "held"), [(2, 0.722, 0.931), (3, 1.045, 0.949), (4, 0.96, 0.944), (5, 0.99, 0.946)]
)
def test_over_seeds_alone_the_interval_is_about_that_of_student(seeds, length, held):
    """4000 studies in which training alone is random and the true difference is 0; of two seeds it is too short."""
    differences = np.random.default_rng(seeds).normal(size=(4000, seeds, 1))
    found = paired_bootstrap(differences, resamples=1000)
    spread = differences[..., 0].std(1, ddof=1)
    of_student = 2 * stats.t.ppf(0.975, seeds - 1) * spread / np.sqrt(seeds)
    assert np.median((found.high - found.low) / of_student) == pytest.approx(length, abs=0.015)
    assert np.mean((found.low <= 0) & (found.high >= 0)) == pytest.approx(held, abs=0.01)


def test_two_seeds_miss_the_true_difference_as_often_as_the_documentation_says():
    reach = np.sqrt(2) / stats.norm.ppf(0.975)  # of Student's interval
    assert 2 * stats.t.sf(reach * stats.t.ppf(0.975, 1), 1) == pytest.approx(0.069, abs=5e-4)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_hold_the_true_difference_as_often_as_they_say(seeds):
    """4000 studies in which training, image and their interplay are random and the true difference is 0."""
    random = np.random.default_rng(seeds)
    differences = (
        random.normal(size=(4000, seeds, 1))
        + random.normal(size=(4000, 1, 30))
        + random.normal(size=(4000, seeds, 30))
    )
    found = paired_bootstrap(differences, resamples=1000)
    held = np.mean((found.low <= 0) & (found.high >= 0))
    assert 0.95 <= held <= 0.97
    assert np.mean((found.low_images <= 0) & (found.high_images >= 0)) < 0.8  # these nets do differ


def test_nets_that_answer_alike_do_not_differ():
    found = paired_bootstrap(np.zeros((3, 2, 10)))
    assert all((values == 0).all() for values in found)


def test_blocks_do_not_matter_and_neither_do_the_other_conditions(monkeypatch):
    random = np.random.default_rng(0)
    differences = random.normal(size=(4, 2, 50))
    whole = paired_bootstrap(differences, resamples=100)
    np.testing.assert_allclose(paired_bootstrap(differences[:1], resamples=100).low, whole.low[:1])
    # Pairing: the same images are drawn for each condition, so a shift of one moves its interval by the shift.
    shifted = paired_bootstrap(differences + 7, resamples=100)
    np.testing.assert_allclose(shifted.low, whole.low + 7)


@pytest.mark.parametrize("shape", [(0, 1, 5), (1, 0, 5), (1, 1, 0), (5,), (2, 5)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(M, S, N\)"):
        paired_bootstrap(np.zeros(shape))


def test_differences_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="must all be finite"):
        paired_bootstrap(np.full((1, 1, 2), np.nan))


def by_definition(logits, labels, bins):
    """ECE as Guo et al. define it, bin by bin."""
    exp = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exp / exp.sum(1, keepdims=True)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    total = 0.0
    for i in range(bins):
        inside = (confidence > i / bins) & (confidence <= (i + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return 100 * total


def test_calibration_error_is_the_definition():
    random = np.random.default_rng(0)
    logits = (3 * random.normal(size=(2, 3, 500, 10))).astype(np.float32)
    labels = random.integers(10, size=500)
    found = expected_calibration_error(logits, labels)
    assert found.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        assert found[i, j] == pytest.approx(by_definition(logits[i, j].astype(float), labels, 15), abs=1e-4)


def test_calibration_error_of_known_cases():
    sure, half = np.array([[50.0, -50.0]] * 4), np.zeros((4, 2))
    assert expected_calibration_error(sure, [0, 0, 0, 0]) == pytest.approx(0)
    assert expected_calibration_error(sure, [0, 0, 1, 1]) == pytest.approx(50)
    assert expected_calibration_error(half, [0, 0, 1, 1]) == pytest.approx(0)
    assert expected_calibration_error(half, [1, 1, 1, 1]) == pytest.approx(50)


def test_calibration_refuses_what_is_not_logits_of_the_images():
    with pytest.raises(ValueError, match="expected"):
        expected_calibration_error(np.zeros((4, 2)), [0, 1, 0])
    with pytest.raises(ValueError, match="must all be finite"):
        expected_calibration_error(np.full((1, 2), np.inf), [0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"resamples": 0}, ValueError, "resamples must be at least 1, not 0"),
        ({"resamples": -3}, ValueError, "resamples must be at least 1, not -3"),
        ({"resamples": 10.5}, TypeError, "float"),
        ({"level": 95}, ValueError, "level must be between 0 and 1, not 95"),
        ({"level": 0}, ValueError, "level must be between"),
        ({"level": 1}, ValueError, "level must be between"),
        ({"level": float("nan")}, ValueError, "level must be between"),
        ({"seed": -1}, ValueError, "non-negative"),
    ],
)
@pytest.mark.parametrize("seeds", [1, 2])
def test_bootstrap_refuses(seeds, options, error, message):
    with pytest.raises(error, match=message):
        paired_bootstrap(np.ones((1, seeds, 4)), **options)


@pytest.mark.parametrize(
    ("logits", "labels", "options", "error", "message"),
    [
        (np.zeros((2, 2)), [0, 7], {}, ValueError, "label 7 for logits of 2 classes"),
        (np.zeros((2, 2)), [0, -1], {}, ValueError, "labels of shape"),
        (np.zeros((2, 2)), [0.2, 0.9], {}, ValueError, "labels of shape"),
        (np.zeros((2, 1)), [0, 0], {}, ValueError, "K >= 2"),
        (np.zeros((0, 2)), [], {}, ValueError, "empty"),
        (np.zeros((2, 2)), [0, 1], {"bins": 0}, ValueError, "bins must be at least 1, not 0"),
        (np.zeros((2, 2)), [0, 1], {"bins": 1.5}, TypeError, "float"),
    ],
)
def test_calibration_refuses(logits, labels, options, error, message):
    with pytest.raises(error, match=message):
        expected_calibration_error(logits, labels, **options)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_are_those_of_power_tables(effect, seeds):
    """Of a two-sided paired t-test at 5 % with a power of 80 %, as G*Power prints them."""
    assert seeds_needed(1 / effect, 1.0) == seeds
    assert seeds_needed(3.0, -3 * effect) == seeds


def test_a_larger_spread_never_needs_fewer_seeds():
    """SciPy's tail of the non-central t is NaN for some of these, of which each needs two or three."""
    found = [seeds_needed(spread, 1.0) for spread in np.arange(0.005, 0.5, 0.005)]
    assert found == sorted(found) and set(found) == {2, 3, 4, 5} - set(range(found[-1] + 1, 6))


def test_seeds_needed_find_the_difference_so_often():
    random = np.random.default_rng(0)
    seeds = seeds_needed(0.7, 1.0)
    drawn = random.normal(1.0, 0.7, (20000, seeds))
    p = stats.ttest_1samp(drawn, 0, axis=1).pvalue
    assert (p < 0.05).mean() >= 0.8 - 0.01
    p = stats.ttest_1samp(drawn[:, :-1], 0, axis=1).pvalue
    assert (p < 0.05).mean() < 0.8 + 0.01


def test_an_interval_that_ends_at_0_holds_it():
    """Sums of the same errors in another order round to 1e-15 and more, which is no difference."""
    random = np.random.default_rng(200)
    differences = np.zeros((1, 3, 300))
    for seed in range(3):
        worse, better = random.integers(9, 16), random.integers(2, 7)
        drawn = random.choice(300, worse + better, replace=False)
        differences[0, seed, drawn[:worse]], differences[0, seed, drawn[worse:]] = 100, -100
    intervals = paired_bootstrap(differences)
    assert intervals.low_images == 0 < intervals.high_images
    tiny = paired_bootstrap(1e-9 * (differences + 1))  # a small difference is one
    assert tiny.low_images == pytest.approx(1e-9)


def test_the_interval_of_a_spread_holds_it_so_often():
    random = np.random.default_rng(0)
    for seeds in (2, 3, 8):
        spreads = random.normal(0, 0.7, (4000, seeds)).std(1, ddof=1)
        bounds = np.array([spread_interval(spread, seeds) for spread in spreads])
        assert np.mean((bounds[:, 0] < 0.7) & (bounds[:, 1] > 0.7)) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1.0, 3), "spread must be"), ((1.0, 1), "at least 2 seeds, not 1")],
)
def test_the_interval_of_a_spread_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        spread_interval(*arguments)


def test_seeds_needed_at_the_ends():
    assert seeds_needed(0.0, 1.0) == 2
    assert seeds_needed(1e3, 1.0, most=50) == 50


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((-1.0, 1.0), {}, "spread must be at least 0 and finite, not -1.0"),
        ((float("nan"), 1.0), {}, "spread must be"),
        ((1.0, 0.0), {}, "difference must be finite and not 0"),
        ((1.0, 1.0), {"power": 80}, "power must be between 0 and 1, not 80"),
        ((1.0, 1.0), {"level": 1}, "level must be between 0 and 1, not 1"),
    ],
)
def test_seeds_needed_refuses(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        seeds_needed(*arguments, **options)


def test_calibration_takes_tensors_as_they_come():
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0]], requires_grad=True)
    expected = expected_calibration_error(logits.detach().numpy(), [0, 1])
    assert expected_calibration_error(logits.bfloat16(), torch.tensor([0, 1])) == pytest.approx(expected)
