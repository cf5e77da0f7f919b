"""The normalisation of a set."""

import numpy as np
import pytest

from training.normalisation import normalisation


@pytest.mark.parametrize("channels", [1, 3])
def test_normalisation_is_mean_and_deviation_of_all_values(channels):
    """Over more images than are counted at once."""
    images = np.random.default_rng(0).integers(0, 200, (5000, 4, 5, channels), dtype=np.uint8)
    mean, std = normalisation("mine", images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-12)


def test_black_images_do_not_divide_by_zero():
    assert normalisation("mine", np.zeros((2, 4, 4, 1), np.uint8)) == ([0.0], [1 / 255])
