"""Random draws that belong to an image, not to a batch.

The seed, the purpose and the index of the image in its data set determine a draw. The counter-based generator
Philox makes this cheap: image ``i`` owns a fixed part of one long stream, so a block of consecutive images is one
call at an offset, and the same image gets the same draws for any batch size, order or number of workers.

Numbers are made from the raw words of the generator, which NumPy guarantees to stay the same between versions, not
with the methods of ``numpy.random.Generator``, for which it gives no such guarantee.
"""

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np

from common_corruptions.recipes.elementary import cos_sin, log

WORDS_PER_COUNT = 4  # Philox-4x64 makes four 64-bit words for each value of its counter


@dataclass(frozen=True)
class Draws:
    """The random draws of `count` consecutive images, the first of which has index `start` in its data set.

    `purpose` names what the draws are for, such as ("corruption", "snow", 3). Each method takes a `label`, which also
    determines the draw, and the shape of one image's draw; it returns an array (count, *shape). A repeated label would
    give the same numbers again, so it raises ValueError.
    """

    seed: int
    purpose: tuple[str | float, ...]
    start: int
    count: int
    _used: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def words(self, label: str, shape: tuple[int, ...]) -> np.ndarray:
        """Uniform 32-bit integers, uint32 (count, *shape)."""
        if label in self._used:
            raise ValueError(
                f"the label {label!r} was already used for a draw, and would give the same numbers; give each draw its "
                f"own label, or reuse its result"
            )
        self._used.add(label)
        size = math.prod(shape)
        # An image begins at a whole count, so that its draws are the same in any block.
        counts = -(-size // (2 * WORDS_PER_COUNT))
        purpose = repr((int(self.seed), *self.purpose, label)).encode()
        key = np.frombuffer(hashlib.blake2b(purpose, digest_size=16).digest(), dtype="<u8").astype(np.uint64)
        generator = np.random.Philox(key=key, counter=self.start * counts)
        raw = generator.random_raw(self.count * counts * WORDS_PER_COUNT).astype("<u8", copy=False)
        return raw.view("<u4").reshape(self.count, -1)[:, :size].reshape(self.count, *shape)

    def uniform(
        self, label: str, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0
    ) -> np.ndarray:
        """Uniform numbers from `low` to `high`, float32 (count, *shape), on a grid of 2^-24 of the interval."""
        unit = (self.words(label, shape) >> np.uint32(8)).astype(np.float32)
        unit *= np.float32((high - low) * 2.0**-24)
        unit += np.float32(low)
        return unit

    def normal(self, label: str, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0) -> np.ndarray:
        """Normal numbers, float32 (count, *shape), by the Box-Muller transform (a fixed number of words each)."""
        size = math.prod(shape)
        half = -(-size // 2)
        words = self.words(label, (2, half)).astype(np.float64)
        # Half a step keeps the logarithm finite; 32 bits reach 6.7 standard deviations.
        radius = std * np.sqrt(-2.0 * log((words[:, 0] + 0.5) * 2.0**-32))
        cosine, sine = cos_sin(words[:, 1] * (2.0 * math.pi * 2.0**-32))
        out = np.empty((self.count, 2, half), dtype=np.float32)
        np.multiply(radius, cosine, out=out[:, 0], casting="same_kind")
        np.multiply(radius, sine, out=out[:, 1], casting="same_kind")
        out += np.float32(mean)
        return out.reshape(self.count, -1)[:, :size].reshape(self.count, *shape)

    def integers(self, label: str, shape: tuple[int, ...], high: int) -> np.ndarray:
        """Uniform integers in 0 .. high - 1, int64 (count, *shape); relative errors of probabilities <= high / 2^32."""
        return (self.words(label, shape).astype(np.int64) * high) >> 32
