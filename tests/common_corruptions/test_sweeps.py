"""Gaussian noise by variance and Poisson noise by contrast, against the distributions they are to have."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from common_corruptions import sweeps
from common_corruptions.sweeps import (
    FIGURE4_VARIANCES,
    SWEEPS,
    TABLE4_VARIANCES,
    add_gaussian_noise,
    add_poisson_noise,
    measure_noise,
)

PUBLISHED = Path(__file__).parents[2] / "data" / "published"


def flat(level: int, count: int = 60) -> np.ndarray:
    return np.full((count, 32, 32, 1), level, dtype=np.uint8)


def agrees(images: np.ndarray, probabilities: np.ndarray) -> None:
    """Chi-square test of 8-bit values against the probability of each, rare values taken together."""
    counts = np.bincount(images.ravel(), minlength=256).astype(float)
    expected = probabilities * images.size
    common = expected > 20
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    if expected[-1] < 5:
        assert observed[-1] < 25
        observed, expected = observed[:-1], expected[:-1]
    if len(expected) == 1:
        assert observed[0] == images.size
        return
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert stats.chi2.sf(statistic, len(expected) - 1) > 1e-4


@pytest.mark.parametrize("variance", [0.0001, 0.01, 0.5])
@pytest.mark.parametrize("level", [0, 128, 250])
def test_gaussian_noise_is_normal_clipped_and_rounded(level, variance):
    edges = np.concatenate([[-np.inf], np.arange(255) + 0.5, [np.inf]])
    normal = stats.norm(level / 255, np.sqrt(variance))
    agrees(add_gaussian_noise(flat(level), variance, seed=3), np.diff(normal.cdf(edges / 255)))


@pytest.mark.parametrize("contrast", [1.0, 0.5, 0.2])
@pytest.mark.parametrize("level", [0, 100, 255])
def test_poisson_noise_counts_photons_of_the_changed_contrast(level, contrast):
    photons = 255 * ((level / 255 - 0.5) * contrast + 0.5)  # the paper's I_C, white being 255 photons
    probabilities = stats.poisson.pmf(np.arange(256), photons)
    probabilities[255] = stats.poisson.sf(254, photons)
    agrees(add_poisson_noise(flat(level), contrast, seed=3), probabilities)


@pytest.mark.parametrize("add", [add_gaussian_noise, add_poisson_noise])
def test_noise_belongs_to_the_image_and_the_seed(add):
    images = np.random.default_rng(0).integers(0, 256, (7, 17, 16, 3), dtype=np.uint8)
    whole = add(images, 0.3, seed=5)
    assert whole.dtype == np.uint8 and whole.shape == images.shape
    parts = [add(images[i : i + 3], 0.3, seed=5, start=i) for i in (0, 3, 6)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert (whole != add(images, 0.3, seed=6)).mean() > 0.5
    twins = add(np.repeat(images[:1], 2, axis=0), 0.3, seed=5)
    assert (twins[0] != twins[1]).mean() > 0.5


def test_no_noise_and_no_contrast():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(add_gaussian_noise(images, 0), images)
    grey = add_poisson_noise(np.repeat(images, 200, axis=0), 0)
    assert grey.mean() == pytest.approx(127.5, abs=0.2)


@pytest.mark.parametrize(("add", "what"), [(add_gaussian_noise, "variance"), (add_poisson_noise, "contrast")])
def test_impossible_levels_and_images_are_refused(add, what):
    images = flat(5, 1)
    for level in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=what):
            add(images, level)
    with pytest.raises(TypeError, match="uint8"):
        add(images / 255, 0.1)
    with pytest.raises(ValueError, match="start"):
        add(images, 0.1, start=-1)


def test_a_net_is_measured_at_every_level(monkeypatch):
    monkeypatch.setattr(sweeps, "BLOCK", 4)  # of 10 images: the noise must not begin anew in each block
    images = np.random.default_rng(1).integers(0, 256, (10, 16, 16, 1), dtype=np.uint8)
    labels = np.arange(10) % 2

    def net(x: torch.Tensor) -> torch.Tensor:
        bright = (x.mean((1, 2, 3)) > 0.5).float()
        return torch.stack([1 - bright, bright], 1)

    def error(noisy: np.ndarray) -> float:
        return 100 * float(((noisy.mean((1, 2, 3)) > 127.5) != labels).mean())

    rows = list(measure_noise(net, images, labels, seed=2))
    assert [row[:2] for row in rows] == [
        ("clean", 0.0), *((sweep, level) for sweep, levels in SWEEPS.items() for level in levels),
    ]  # fmt: skip
    assert rows[0][2] == pytest.approx(error(images))
    for sweep, level, value in rows[1:]:
        add = add_gaussian_noise if sweep == "gaussian_noise" else add_poisson_noise
        assert value == pytest.approx(error(add(images, level, seed=2)))


def test_the_levels_are_the_papers():
    assert {0, *TABLE4_VARIANCES} == set(pd.read_csv(PUBLISHED / "table4.csv").variance)
    assert set(pd.read_csv(PUBLISHED / "lenet.csv").variance) - {0} <= set(FIGURE4_VARIANCES)
    assert {*TABLE4_VARIANCES, *FIGURE4_VARIANCES} == set(SWEEPS["gaussian_noise"])
