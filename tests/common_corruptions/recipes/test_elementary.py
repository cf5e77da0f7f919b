"""The elementary functions against those of the library of C, and identities at round numbers."""

import math

import numpy as np
import pytest
from scipy.special import ndtr

from common_corruptions.recipes.elementary import cos_sin, exp, log, normal_cdf
from common_corruptions.recipes.noise import poisson_mass

RANDOM = np.random.default_rng(0)


def apart(ours: np.ndarray, theirs: list[float]) -> float:
    """The largest distance in units in the last place."""
    return float(np.max(np.abs(ours - theirs) / np.spacing(np.abs(theirs))))


def test_exp():
    x = np.concatenate([RANDOM.uniform(-700, 700, 5000), RANDOM.uniform(-1, 1, 5000), [0.0]])
    assert apart(exp(x), [math.exp(value) for value in x]) <= 2
    np.testing.assert_array_equal(exp(np.array([0.0, -709.0, -1e6])), [1, 0, 0])


def test_log():
    x = np.concatenate([RANDOM.uniform(0, 2, 5000), np.exp(RANDOM.uniform(-300, 300, 5000))])
    assert apart(log(x), [math.log(value) for value in x]) <= 3
    np.testing.assert_array_equal(log(np.array([1.0, 2.0, 0.5])), [0, math.log(2), -math.log(2)])


def test_cos_sin():
    x = RANDOM.uniform(-50, 50, 10_000)
    cosine, sine = cos_sin(x)
    np.testing.assert_allclose(cosine, [math.cos(value) for value in x], rtol=0, atol=3e-16)
    np.testing.assert_allclose(sine, [math.sin(value) for value in x], rtol=0, atol=3e-16)
    cosine, sine = cos_sin(np.radians([0.0, 90.0, -90.0, 180.0]))
    np.testing.assert_allclose(cosine, [1, 0, 0, -1], atol=1e-15)
    np.testing.assert_allclose(sine, [0, 1, -1, 0], atol=1e-15)


def test_normal_cdf():
    x = np.linspace(-12, 12, 100_001)
    np.testing.assert_allclose(normal_cdf(x), ndtr(x), rtol=0, atol=2e-15)
    assert normal_cdf(np.array([0.0])) == 0.5


@pytest.mark.parametrize("mean", [0.0, 0.3, 25.0, 700.0])
def test_poisson_mass(mean):
    counts = np.arange(900)
    mass = poisson_mass(counts, np.array([[mean]]))[0]
    expected = [
        math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) if mean else float(k == 0) for k in counts
    ]
    np.testing.assert_allclose(mass, expected, atol=1e-12)
    assert mass.sum() == pytest.approx(1, abs=1e-10)
