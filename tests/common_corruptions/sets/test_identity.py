"""Digests by which images of an earlier run are known."""

import numpy as np
import pytest

from common_corruptions.sets.identity import of_images

IMAGES = np.random.default_rng(0).integers(256, size=(6, 4, 4, 3), dtype=np.uint8)


def test_an_array_is_known_by_its_bytes():
    changed = IMAGES.copy()
    assert of_images(changed) == of_images(IMAGES)
    changed[3, 0, 0, 0] ^= 1
    assert of_images(changed) != of_images(IMAGES)


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_a_change_of_a_mapped_array_is_seen(tmp_path, mode):
    """That of one mapped as a copy stays in memory, where neither size nor time of the file tells of it."""
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode=mode)
    before = of_images(mapped)
    mapped[3, 0, 0, 0] ^= 1
    mapped.flush()
    assert of_images(mapped) != before
