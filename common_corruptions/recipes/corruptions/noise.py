"""The four noises. Their constants contain no lengths and are the same at every size."""

import numpy as np

from common_corruptions.recipes import noise
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import corruption


@corruption(
    "gaussian_noise",
    group="noise",
    constants=((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
    imagenet=((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
)
def gaussian_noise(images: np.ndarray, draws: Draws, std: float) -> np.ndarray:
    """Normal noise of standard deviation `std` on every value, for values 0..1."""
    return _add(images, draws, noise.gaussian_table(std))


@corruption(
    "shot_noise",
    group="noise",
    constants=((500,), (250,), (100,), (75,), (50,)),
    imagenet=((60,), (25,), (12,), (5,), (3,)),
)
def shot_noise(images: np.ndarray, draws: Draws, photons: int) -> np.ndarray:
    """Poisson noise of a sensor in which white is `photons` photons."""
    return _add(images, draws, noise.shot_table(photons))


@corruption(
    "impulse_noise",
    group="noise",
    constants=((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
    imagenet=((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
)
def impulse_noise(images: np.ndarray, draws: Draws, amount: float) -> np.ndarray:
    """Salt and pepper, half each, on a fraction `amount` of all values."""
    return _add(images, draws, noise.impulse_table(amount))


@corruption(
    "speckle_noise",
    group="noise",
    constants=((0.06,), (0.1,), (0.12,), (0.16,), (0.2,)),
    imagenet=((0.15,), (0.2,), (0.35,), (0.45,), (0.6,)),
)
def speckle_noise(images: np.ndarray, draws: Draws, std: float) -> np.ndarray:
    """Normal noise of standard deviation `std` times the value."""
    return _add(images, draws, noise.speckle_table(std))


def _add(images: np.ndarray, draws: Draws, table: np.ndarray) -> np.ndarray:
    return noise.add_noise(images, table, draws.words("noise", images.shape[1:]))
