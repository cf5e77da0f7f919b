"""The noise sweeps of the paper: Gaussian noise by variance, and Poisson noise by contrast.

Strisciuglio et al. 2020 add Gaussian noise of growing variance to CIFAR-10 (section 4.3, table 4) and MNIST (section
4.1.2, figure 4), and Poisson noise to MNIST images of lowered contrast (section 4.1.2, figure 5). Variances are for
values 0..1. What the paper leaves open follows MATLAB's `imnoise` for 8-bit images: results are clipped
to 0..1 and rounded to 8 bits, and a photon is one grey level, so that white is 255 photons.

An image's noise depends only on the seed, the variance or contrast, and its index in the set.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from common_corruptions.checks import check_images, check_seed
from common_corruptions.evaluation import Net, predict
from common_corruptions.evaluation.onnx_runtime import for_many
from common_corruptions.logits import naming_set
from common_corruptions.metrics import classification_error
from common_corruptions.recipes.elementary import normal_cdf
from common_corruptions.recipes.noise import LEVELS, add_noise, alias_table, poisson_mass
from common_corruptions.recipes.random import Draws

TABLE4_VARIANCES = (0.0001, 0.0005, 0.001, 0.005, 0.01)
FIGURE4_VARIANCES = (0.01, 0.1, 0.2, 0.3, 0.5)  # the figure leaves out 0.2, which section 4.1.2 mentions
FIGURE5_CONTRASTS = (0.5, 0.4, 0.3, 0.2)

# Name of a sweep: its levels, variances or contrasts.
SWEEPS = {
    "gaussian_noise": tuple(sorted({*TABLE4_VARIANCES, *FIGURE4_VARIANCES})),
    "poisson_noise": FIGURE5_CONTRASTS,
}

BLOCK = 1000  # images made at a time


def add_gaussian_noise(images: np.ndarray, variance: float, *, seed: int = 0, start: int = 0) -> np.ndarray:
    """Add normal noise to every value, independently (sections 4.1.2 and 4.3).

    Args:
        images: uint8 (N, H, W, C), 16 to 1024 pixels a side, C 1 or 3.
        variance: of the noise, for values 0..1; 0 leaves the images unchanged.
        seed: of the noise.
        start: index of the first image in its set.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        TypeError, ValueError: other images, a negative or infinite variance, or an invalid seed or start.
    """
    if not 0 <= variance < np.inf:
        raise ValueError(f"variance must be a number of at least 0, not {variance!r}")
    return _add(images, gaussian_table(float(variance)), ("gaussian_noise", float(variance)), seed, start)


def add_poisson_noise(images: np.ndarray, contrast: float, *, seed: int = 0, start: int = 0) -> np.ndarray:
    """Change the contrast to (I - 0.5) C + 0.5, then draw every value from the Poisson distribution (section 4.1.2).

    Args:
        images: uint8 (N, H, W, C), 16 to 1024 pixels a side, C 1 or 3.
        contrast: the factor C, at least 0; 1 keeps the contrast.
        seed: of the noise.
        start: index of the first image in its set.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        TypeError, ValueError: other images, a negative or infinite contrast, or an invalid seed or start.
    """
    if not 0 <= contrast < np.inf:
        raise ValueError(f"contrast must be a number of at least 0, not {contrast!r}")
    return _add(images, poisson_table(float(contrast)), ("poisson_noise", float(contrast)), seed, start)


ADD: dict[str, Callable[..., np.ndarray]] = {
    "gaussian_noise": add_gaussian_noise,
    "poisson_noise": add_poisson_noise,
}


def measure_noise(
    net: Net, images: np.ndarray, labels: np.ndarray, *, seed: int = 0, **options: Any
) -> Iterator[tuple[str, float, float]]:
    """Yield (sweep, level, error in percent) of `net` for every level of `SWEEPS`, with ("clean", 0, error) first.

    Args:
        net, options: as for `common_corruptions.evaluation.predict`.
        images, labels: uint8 (N, H, W, C), which may be memory-mapped, and (N,).
        seed: of the noise.

    Raises:
        TypeError, ValueError: images of another type or shape.
        UndefinedLogits: a ValueError that names the set; the net returns NaN or tied infinities.
    """
    sets = 1 + sum(map(len, SWEEPS.values()))
    net = for_many(net, sets * len(images), options.get("device"))
    with naming_set("clean"):
        error = classification_error(predict(net, images, **options), labels)
    yield "clean", 0.0, error
    for sweep, levels in SWEEPS.items():
        for level in levels:
            logits = [
                predict(
                    net, ADD[sweep](np.array(images[i : i + BLOCK]), level, seed=seed, start=i), **options
                )
                for i in range(0, len(images), BLOCK)
            ]
            with naming_set(f"{sweep} of level {level:g}"):
                error = classification_error(np.concatenate(logits), labels)
            yield sweep, level, error


@functools.lru_cache(maxsize=32)
def gaussian_table(variance: float) -> np.ndarray:
    """x + N(0, variance), clipped and rounded, as an alias table; x in [0, 1]."""
    level = np.arange(LEVELS)
    upper = np.arange(LEVELS - 1) + 0.5 - level[:, None]  # a value is rounded down below it
    std = 255.0 * np.sqrt(variance)
    below = normal_cdf(upper / std) if std > 0 else (upper > 0).astype(float)
    return alias_table(np.diff(below, axis=1, prepend=0.0, append=1.0))


@functools.lru_cache(maxsize=32)
def poisson_table(contrast: float) -> np.ndarray:
    """Poisson of mean 255 ((x - 0.5) contrast + 0.5), in grey levels, as an alias table; x in [0, 1]."""
    white = LEVELS - 1
    counts = np.arange(white)
    mean = np.clip((np.arange(LEVELS)[:, None] / white - 0.5) * contrast + 0.5, 0.0, 1.0) * white
    mass = poisson_mass(counts, mean)
    return alias_table(np.append(mass, 1.0 - mass.sum(axis=1, keepdims=True), axis=1))


def _add(
    images: np.ndarray, table: np.ndarray, purpose: tuple[str | float, ...], seed: int, start: int
) -> np.ndarray:
    check_images(images)
    check_seed(seed, start)
    draws = Draws(seed, ("sweep", *purpose), start, len(images))
    return add_noise(np.ascontiguousarray(images), table, draws.words("noise", images.shape[1:]))
