"""Each filter against SciPy, Matplotlib or a formula written out, and motion blur against ImageMagick's results."""

import cv2
import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from scipy import ndimage

from benchmarks.reference_corruptions import blur_along
from robustness import filters

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (3, 20, 33, 3), dtype=np.uint8)


def test_truncation_clips_and_does_not_round():
    levels = np.array([-3.0, 0.0, 0.99, 1.0, 127.9, 254.99, 255.0, 300.0], dtype=np.float32)
    np.testing.assert_array_equal(filters.to_uint8(levels), [0, 0, 0, 1, 127, 254, 255, 255])
    almost = np.float32(128) - np.float32(2**-14)  # what single precision makes of a sum that is exactly 128
    assert filters.to_uint8(almost[None])[0] == 128


@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.0, 2.7])
@pytest.mark.parametrize(
    ("border", "mode"), [(cv2.BORDER_REPLICATE, "nearest"), (cv2.BORDER_REFLECT, "reflect")]
)
@pytest.mark.parametrize("truncate", [3.0, 4.0, 7.0])
def test_gaussian_filter_is_scipys(sigma, border, mode, truncate):
    result = filters.gaussian_filter(IMAGES, sigma, truncate=truncate, border=border)
    expected = ndimage.gaussian_filter(
        IMAGES.astype(float), (0, sigma, sigma, 0), mode=mode, truncate=truncate
    )
    np.testing.assert_allclose(result, expected, atol=2e-3)
    one_channel = filters.gaussian_filter(
        IMAGES[..., 0].astype(np.float32), sigma, truncate=truncate, border=border
    )
    np.testing.assert_allclose(one_channel, expected[..., 0], atol=2e-3)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0])
def test_gaussian_kernel_sums_to_one(sigma):
    assert filters.gaussian_kernel(sigma).sum() == pytest.approx(1, abs=1e-6)


def test_motion_blur_is_imagemagicks(shared):
    golden = np.load(shared / "reference" / "golden" / "motion-blur.npz")
    for (radius, sigma, angle), expected in zip(golden["cases"], golden["blurred"], strict=True):
        result = filters.motion_blur(golden["images"], int(radius), sigma, angle).astype(int)
        assert np.abs(result - expected).max() <= 1
        assert (result != expected).mean() < 0.005


@pytest.mark.parametrize(("radius", "sigma"), [(2, 0.5), (6, 1.5), (9, 2.5), (14, 12.0), (40, 30.0)])
def test_motion_blur_sums_its_taps(radius, sigma):
    angles = np.array([-180.0, -135.0, -61.3, 0.0, 12.5, 45.0, 90.0, 170.2])
    images = RANDOM.integers(0, 256, (len(angles), 32, 32, 3), dtype=np.uint8)
    expected = [blur_along(image, radius, sigma, angle) for image, angle in zip(images, angles, strict=True)]
    assert np.abs(filters.motion_blur(images, radius, sigma, angles).astype(int) - expected).max() <= 1


def test_motion_blur_keeps_a_flat_image():
    """The taps sum to one, beyond the edge too."""
    flat = np.full((60, 9, 17), 201, dtype=np.uint8)
    angles = np.linspace(-180, 180, 60)
    assert (filters.motion_blur(flat, 14, 12.0, angles) == 201).all()


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.25, 1.75, 2.25, 4.5])
@pytest.mark.parametrize("size", [(32, 32), (17, 40), (8, 8)])
def test_clipped_zoom_is_scipys(factor, size):
    images = RANDOM.random((2, *size), dtype=np.float32)
    crops = [int(np.ceil(side / factor)) for side in size]
    (top, left) = ((side - crop) // 2 for side, crop in zip(size, crops, strict=True))
    for image, result in zip(images, filters.clipped_zoom(images, factor), strict=True):
        zoomed = ndimage.zoom(image[top : top + crops[0], left : left + crops[1]], factor, order=1)
        y, x = ((full - side) // 2 for full, side in zip(zoomed.shape, size, strict=True))
        np.testing.assert_allclose(result, zoomed[y : y + size[0], x : x + size[1]], atol=1e-5)


@pytest.mark.parametrize("amount", [-0.225, -0.015, 0.05, 0.3, 1.0])
def test_value_is_that_of_hsv(amount):
    images = IMAGES.copy()
    images[0, 0], images[0, 1], images[0, 2] = 0, 255, 90
    hsv = rgb_to_hsv(images / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + amount, 0, 1)
    expected = (hsv_to_rgb(hsv) * 255).astype(int)
    assert np.abs(filters.add_to_value(images, amount).astype(int) - expected).max() <= 1
    one_channel = np.clip(images[..., :1] / 255 + amount, 0, 1) * 255
    assert np.abs(filters.add_to_value(images[..., :1], amount) - one_channel).max() <= 1


def test_snow_is_whitening_and_two_layers():
    layer = RANDOM.integers(0, 120, (3, 20, 33), dtype=np.uint8)
    x = IMAGES / 255
    grey = (x @ [0.299, 0.587, 0.114])[..., None]
    snow = layer[..., None] / 255 + np.rot90(layer, 2, axes=(1, 2))[..., None] / 255
    expected = 0.85 * x + 0.15 * np.maximum(x, 1.5 * grey + 0.5) + snow
    result = filters.lay_snow(IMAGES, layer, 0.85)
    assert np.abs(result - np.floor(np.clip(expected, 0, 1) * 255)).max() <= 1


def test_snow_layer_drops_what_is_below_the_threshold():
    flakes = RANDOM.normal(0.1, 0.5, (4, 32, 32)).astype(np.float32)
    layer = filters.snow_layer(flakes, 1.0, 0.6)
    np.testing.assert_array_equal(
        layer, np.where(flakes < 0.6, 0, np.clip(flakes, 0, 1) * 255).astype(np.uint8)
    )


def test_no_water_leaves_the_image():
    dry = np.zeros((3, 20, 33), dtype=np.float32)
    np.testing.assert_array_equal(filters.spatter_water(IMAGES, dry, 0.6), IMAGES)


def test_water_is_where_the_layer_is():
    layer = np.zeros((2, 32, 32), dtype=np.float32)
    layer[0, 10:18, 12:20] = 0.8  # the second image stays dry
    black = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    result = filters.spatter_water(black, layer, 0.5)
    assert (result[1] == 0).all()
    assert (result[0][layer[0] == 0] == 0).all()
    np.testing.assert_allclose(result[0].max(axis=(0, 1)), 0.5 * np.array([175, 238, 238]), atol=1)
