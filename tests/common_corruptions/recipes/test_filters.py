"""Each filter against SciPy, Matplotlib or a formula written out, and motion blur against ImageMagick's results."""

import cv2
import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from scipy import ndimage

from benchmarks.reference_corruptions import blur_along
from common_corruptions.recipes import colour, filters, precipitation

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (3, 20, 33, 3), dtype=np.uint8)
BLACK = np.zeros((1, 32, 32, 3), dtype=np.uint8)


def test_truncation_clips_and_does_not_round():
    levels = np.array([-3.0, 0.0, 0.99, 1.01, 127.9, 254.99, 255.0, 300.0])
    np.testing.assert_array_equal(filters.to_uint8(levels / 255), [0, 0, 0, 1, 127, 254, 255, 255])
    almost = np.nextafter(128 / 255, 0)  # nothing is lifted
    assert filters.to_uint8(np.array([almost])) == int(almost * 255) == 127


@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.0, 2.7])
@pytest.mark.parametrize("truncate", [3.0, 4.0, 7.0])
def test_gaussian_filter_is_scipys(sigma, truncate):
    unit = IMAGES / 255
    expected = ndimage.gaussian_filter(unit, (0, sigma, sigma, 0), mode="nearest", truncate=truncate)
    np.testing.assert_allclose(
        filters.gaussian_filter(unit, sigma, truncate=truncate), expected, rtol=0, atol=1e-15
    )
    one_channel = filters.gaussian_filter(unit[..., 0], sigma, truncate=truncate)
    np.testing.assert_allclose(one_channel, expected[..., 0], rtol=0, atol=1e-15)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 1.3, 3.0, 6.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_blur_of_levels_is_scipys_truncated(sigma, channels):
    images = IMAGES[..., :channels]
    blurred = ndimage.gaussian_filter(images / 255, (0, sigma, sigma, 0), mode="nearest")
    result = filters.gaussian_blurred(np.ascontiguousarray(images), sigma)
    distance = np.abs(result.astype(int) - filters.to_uint8(blurred))
    assert distance.max() <= 1 and (distance > 0).mean() <= 1e-3
    assert (filters.gaussian_blurred(np.full_like(images, 255), sigma) == 255).all()


@pytest.mark.parametrize(("size", "enlarged"), [(4, 8), (32, 45), (32, 32), (1, 5), (20, 13)])
def test_enlarged_is_opencvs_linear_resize(size, enlarged):
    planes = RANDOM.random((2, size, 7))
    expected = [cv2.resize(plane, (11, enlarged), interpolation=cv2.INTER_LINEAR) for plane in planes]
    np.testing.assert_allclose(filters.enlarged(planes, enlarged, 11), expected, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 6.4])
@pytest.mark.parametrize("size", [8, 32])
def test_smoothing_matrix_is_scipys_gaussian_with_border_reflect(sigma, size):
    noise = RANDOM.uniform(-1, 1, size)
    expected = ndimage.gaussian_filter1d(noise, sigma, mode="reflect", truncate=1.0)
    np.testing.assert_allclose(filters.smoothing_matrix(size, sigma, 1.0) @ noise, expected, atol=1e-7)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0])
def test_gaussian_kernel_sums_to_one(sigma):
    assert filters.gaussian_kernel(sigma).sum() == pytest.approx(1, abs=1e-6)


def test_motion_blur_is_imagemagicks(shared):
    golden = np.load(shared / "reference" / "golden" / "motion-blur.npz")
    for (radius, sigma, angle), expected in zip(golden["cases"], golden["blurred"], strict=True):
        result = filters.motion_blur(golden["images"], int(radius), sigma, angle)
        assert (result != expected).mean() <= 1e-4


@pytest.mark.parametrize(("radius", "sigma"), [(2, 0.5), (6, 1.5), (9, 2.5), (14, 12.0), (40, 30.0)])
def test_motion_blur_sums_its_taps(radius, sigma):
    angles = np.array([-180.0, -135.0, -61.3, 0.0, 12.5, 45.0, 90.0, 170.2])
    images = RANDOM.integers(0, 256, (len(angles), 32, 32, 3), dtype=np.uint8)
    expected = [blur_along(image, radius, sigma, angle) for image, angle in zip(images, angles, strict=True)]
    result = filters.motion_blur(images, radius, sigma, angles)
    assert np.abs(result.astype(int) - expected).max() <= 1
    assert (result != expected).mean() <= 1e-3
    for image, angle, alone in zip(images, angles, result, strict=True):
        np.testing.assert_array_equal(filters.motion_blur(image[None], radius, sigma, angle)[0], alone)


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


@pytest.mark.parametrize("change", [-0.225, -0.015, 0.2, 1.0])
def test_colours_are_those_of_hsv_to_the_last_bit(change):
    images = IMAGES.copy()
    images[0, 0], images[0, 1], images[0, 2] = 0, 255, 90
    images[1, :, :10, 1] = images[1, :, :10, 0]
    hsv = rgb_to_hsv(images / 255)
    hue, saturation, value = colour.to_hsv(images)
    np.testing.assert_array_equal(hue, hsv[..., 0] * 6.0)
    np.testing.assert_array_equal(saturation, hsv[..., 1])
    np.testing.assert_array_equal(value, hsv[..., 2])
    for channel in (1, 2):
        changed = hsv.copy()
        changed[..., channel] = np.clip(changed[..., channel] + change, 0, 1)
        shares = colour.shares_of_value(hue, changed[..., 1])
        np.testing.assert_array_equal(changed[..., 2] * shares, hsv_to_rgb(changed).transpose(3, 0, 1, 2))


def test_planes_are_the_channels():
    planes = colour.to_planes(IMAGES)
    np.testing.assert_array_equal(planes, IMAGES.transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(colour.from_planes(planes), IMAGES)
    one = np.ascontiguousarray(IMAGES[..., :1])
    np.testing.assert_array_equal(colour.from_planes(colour.to_planes(one)), one)


def test_snow_is_whitening_and_two_layers():
    layer = RANDOM.integers(0, 120, (3, 20, 33), dtype=np.uint8)
    x = IMAGES / 255
    grey = (x @ [0.299, 0.587, 0.114])[..., None]
    snow = layer[..., None] / 255 + np.rot90(layer, 2, axes=(1, 2))[..., None] / 255
    expected = 0.85 * x + 0.15 * np.maximum(x, 1.5 * grey + 0.5) + snow
    result = precipitation.lay_snow(precipitation.whiten(IMAGES, 0.85), layer)
    assert np.abs(result - np.floor(np.clip(expected, 0, 1) * 255)).max() <= 1
    assert (result != np.floor(np.clip(expected, 0, 1) * 255)).mean() < 1e-3


def test_snow_layer_drops_what_is_below_the_threshold():
    flakes = RANDOM.normal(0.1, 0.5, (4, 32, 32))
    layer = precipitation.snow_layer(flakes, 1.0, 0.6)
    np.testing.assert_array_equal(
        layer, np.where(flakes < 0.6, 0, np.clip(flakes, 0, 1) * 255).astype(np.uint8)
    )


def test_no_water_leaves_a_black_image():
    """As published: a share of the largest amount, of 0 / 0."""
    layer = np.zeros((3, 20, 33))
    layer[1, 5:12, 5:12] = 0.8
    result = precipitation.lay_water(IMAGES, *precipitation.water_mask(layer, 0.6))
    assert not result[[0, 2]].any()
    assert (result[1] >= IMAGES[1]).all() and (result[1] > IMAGES[1]).any()


def test_water_is_where_the_layer_is():
    layer = np.zeros((1, 32, 32))
    layer[0, 10:18, 12:20] = 0.8
    result = precipitation.lay_water(BLACK, *precipitation.water_mask(layer, 0.5))
    assert (result[layer == 0] == 0).all()
    np.testing.assert_allclose(result[0].max(axis=(0, 1)), 0.5 * np.array([175, 238, 238]), atol=1)


def test_water_above_one_counts_from_zero_again():
    """256 levels are none: a drop so thick is dry, and its thinner rim is wet."""
    layer = np.zeros((1, 32, 32))
    layer[0, 8:24, 8:24], layer[0, 12:20, 12:20] = 0.8, 256.5 / 255
    result = precipitation.lay_water(BLACK, *precipitation.water_mask(layer, 0.5))
    assert not result[0, 12:20, 12:20].any()
    assert result[0, 8:24, 8:24].any()
