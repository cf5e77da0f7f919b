"""The four noises, drawn directly from the distribution of their 8-bit result.

Noise acts on each value of an image independently, so the result depends on one of 256 inputs and is one of 256
outputs: a noise is a 256 x 256 table of probabilities. Sampling from a row by Walker's alias method takes one 32-bit
word and one look-up for any distribution, with probabilities correct to 2^-32 (Gaussian tails included). This is
several times faster than drawing and rounding normal or Poisson numbers, and has the same distribution.
"""

import functools

import numpy as np

from common_corruptions.recipes.elementary import exp, log, normal_cdf

LEVELS = 256
CHUNK = 1 << 16  # values drawn at a time, so that they and the table (256 KiB) stay in the cache


@functools.lru_cache(maxsize=32)
def gaussian_table(std: float) -> np.ndarray:
    """x + N(0, std), with x in [0, 1]."""
    level = np.arange(LEVELS)
    return alias_table(_truncated_normal(mean=level, std=np.full(LEVELS, 255.0 * std)))


@functools.lru_cache(maxsize=32)
def speckle_table(std: float) -> np.ndarray:
    """x + x N(0, std), with x in [0, 1]."""
    level = np.arange(LEVELS)
    return alias_table(_truncated_normal(mean=level, std=level * std))


@functools.lru_cache(maxsize=32)
def shot_table(photons: int) -> np.ndarray:
    """Poisson(photons x) / photons, with x in [0, 1]."""
    counts = np.arange(photons)
    outputs = (counts / photons * 255.0).astype(np.intp)
    mean = np.arange(LEVELS)[:, None] / 255.0 * photons
    mass = poisson_mass(counts, mean)
    probabilities = np.zeros((LEVELS, LEVELS))
    np.add.at(probabilities.T, outputs, mass.T)
    probabilities[:, -1] += 1.0 - mass.sum(axis=1)  # at least as many photons as white
    return alias_table(probabilities)


@functools.lru_cache(maxsize=32)
def impulse_table(amount: float) -> np.ndarray:
    """Salt and pepper: a value becomes 0 or 1 with probability `amount` / 2 each."""
    probabilities = (1.0 - amount) * np.eye(LEVELS)
    probabilities[:, [0, -1]] += amount / 2
    return alias_table(probabilities)


def poisson_mass(counts: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """P(count) for counts 0, 1, ... (K,) under each mean (M, 1), float64 (M, K)."""
    log_factorial = np.append(0.0, np.cumsum(log(counts[1:].astype(np.float64))))
    positive = np.maximum(mean, np.finfo(np.float64).tiny)
    return np.where(mean > 0, exp(counts * log(positive) - mean - log_factorial), counts == 0)


def _truncated_normal(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """P(output | input) of a normal number clipped to 0..255 and truncated, float64 (256, 256), one row per input."""
    upper = np.arange(1, LEVELS) - mean[:, None]
    below = np.where(std[:, None] > 0, normal_cdf(upper / np.maximum(std[:, None], 1e-9)), upper > 0)
    return np.diff(below, axis=1, prepend=0.0, append=1.0)


def alias_table(probabilities: np.ndarray) -> np.ndarray:
    """Walker's alias table of each row of `probabilities` (256, 256), uint32 (65536,).

    Entry ``256 * input + column`` holds a threshold in its upper 24 bits and an alias in its lower 8: the column is
    kept with probability threshold / 2^24, and the alias taken otherwise.
    """
    weight = np.clip(probabilities, 0.0, None)
    weight *= LEVELS / weight.sum(axis=1, keepdims=True)  # now the mean of a row is 1, the room in a column
    rows = np.arange(LEVELS)
    order = np.argsort(weight, axis=1, kind="stable")
    weight = np.take_along_axis(weight, order, axis=1)
    keep, alias = np.ones((LEVELS, LEVELS)), np.tile(rows, (LEVELS, 1))
    # In all rows at once: the poorest column is filled from the richest, until that has itself become poor; then it is
    # filled from the next richest.
    poorest, richest = np.zeros(LEVELS, dtype=np.intp), np.full(LEVELS, LEVELS - 1)
    left = weight[rows, richest]
    for _ in range(LEVELS - 1):
        has_become_poor = left < 1.0
        filled = np.where(has_become_poor, richest, poorest)
        own = np.where(has_become_poor, left, weight[rows, poorest])
        left = np.where(has_become_poor, weight[rows, richest - 1], left) - (1.0 - own)
        richest = richest - has_become_poor
        poorest = poorest + ~has_become_poor
        keep[rows, order[rows, filled]] = own
        alias[rows, order[rows, filled]] = order[rows, richest]
    threshold = np.clip(np.rint(keep * 2**24), 0, 2**24 - 1).astype(np.uint32)
    return (threshold << np.uint32(8) | alias.astype(np.uint32)).ravel()


def add_noise(images: np.ndarray, table: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Replace each value of uint8 `images` by a draw from its row of `table`; uint8 of the same shape.

    `words` holds one uniform uint32 per value: its low 8 bits choose the column, the others whether it is kept.
    """
    out = np.empty(images.shape, dtype=np.uint8)
    flat_in, flat_words, flat_out = images.reshape(-1), words.reshape(-1), out.reshape(-1)
    for first in range(0, flat_in.size, CHUNK):
        part = slice(first, first + CHUNK)
        word = flat_words[part]
        index = flat_in[part].astype(np.intp)
        index <<= 8
        index |= word & np.uint32(0xFF)
        entry = table.take(index)
        kept = word < (entry & np.uint32(0xFFFFFF00))  # compares the upper 24 bits
        flat_out[part] = np.where(kept, word.astype(np.uint8), entry.astype(np.uint8))
    return out
