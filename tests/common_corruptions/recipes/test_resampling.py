"""Truncation of a resampled image: exact, though most of it is computed in single precision."""

import numpy as np
import pytest
import scipy.sparse

from common_corruptions import corrupt
from common_corruptions.recipes.resampling import GRID, by_pixel, in_single, truncated
from common_corruptions.recipes.zooms import MANY, SEVERAL, zoom_operators

SHAPE = (60, 70)
ZOOMS = (1.31, 0.01)


def pictures() -> np.ndarray:
    """uint8 (8, 60, 70, 3): noise, black and white, two of one colour, a white ground, and gentle slopes."""
    random = np.random.default_rng(0)
    images = np.empty((8, *SHAPE, 3), dtype=np.uint8)
    images[0] = random.integers(0, 256, images[0].shape)
    images[1] = 255 * (random.random(images[1].shape) < 0.5)
    images[2], images[3], images[4] = 255, (0, 100, 201), 255
    images[4, 20:30, 20:30] = random.integers(0, 256, (10, 10, 3))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    images[5:] = np.stack([x + y, 2 * x, 3 * y])[..., None]
    return images


@pytest.mark.parametrize("some", [slice(2), slice(None), slice(2, 4)], ids=["noise", "all", "of one colour"])
def test_truncated_is_exact(some):
    operator, single = zoom_operators(*SHAPE, *ZOOMS)
    assert single is not None and operator.nnz > MANY * operator.shape[0]
    images = pictures()[some]
    whole = operator.copy()
    whole.data = np.rint(whole.data * GRID).astype(np.int64)
    sums = whole @ by_pixel(images).astype(np.int64)
    expected = (sums // int(GRID)).reshape(*SHAPE, 3, len(images))
    made = truncated(images, operator, single)
    np.testing.assert_array_equal(np.moveaxis(made, 0, -1), expected)
    if some != slice(2):  # in single precision alone some would be others
        alone = (single @ by_pixel(images).astype(np.float32)).astype(np.uint8).reshape(expected.shape)
        assert (alone != expected).any()


def test_truncated_where_no_value_is_near_a_whole_number():
    images = np.full((2, 16, 16, 1), 1, dtype=np.uint8)
    images[:, ::2] = 2
    operator = scipy.sparse.csr_array(np.full((256, 256), 1 / 256))
    assert (truncated(images, operator, in_single(operator)) == 1).all()


@pytest.mark.parametrize("severity", [1, 5])
def test_zoom_blur_is_the_same_in_batches_of_any_size(severity):
    images = np.tile(pictures(), (3, 2, 2, 1))
    at_once = corrupt(images, "zoom_blur", severity, scale="imagenet")
    for image, made in zip(images[: SEVERAL + 2], at_once, strict=False):
        alone = corrupt(image[None], "zoom_blur", severity, scale="imagenet")
        np.testing.assert_array_equal(alone[0], made)
