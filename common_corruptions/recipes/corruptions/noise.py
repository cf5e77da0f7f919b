"""The four noises. They have no lengths, so they are the same at every size."""

import numpy as np

from common_corruptions.recipes import noise
from common_corruptions.recipes.random import Draws


def gaussian_noise(images: np.ndarray, draws: Draws, std: float) -> np.ndarray:
    """Normal noise of standard deviation `std` (in units of 1) on every value."""
    return _add(images, draws, noise.gaussian_table(std))


def shot_noise(images: np.ndarray, draws: Draws, photons: int) -> np.ndarray:
    """Poisson noise of a sensor in which white is `photons` photons."""
    return _add(images, draws, noise.shot_table(photons))


def impulse_noise(images: np.ndarray, draws: Draws, amount: float) -> np.ndarray:
    """Salt and pepper, half each, on a fraction `amount` of all values."""
    return _add(images, draws, noise.impulse_table(amount))


def speckle_noise(images: np.ndarray, draws: Draws, std: float) -> np.ndarray:
    """Normal noise of standard deviation `std` times the value."""
    return _add(images, draws, noise.speckle_table(std))


def _add(images: np.ndarray, draws: Draws, table: np.ndarray) -> np.ndarray:
    return noise.add_noise(images, table, draws.words("noise", images.shape[1:]))
