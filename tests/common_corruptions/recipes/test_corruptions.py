"""What `corrupt` promises of all 19: names, shapes, seeds, errors; the published results of those without chance."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from benchmarks.reference_corruptions import corrupt_one
from common_corruptions import CORRUPTIONS, corrupt
from common_corruptions.recipes.boxes import shrunk_by_box
from common_corruptions.recipes.corruptions import BLOCK_VALUES
from common_corruptions.recipes.corruptions.digital import pixelate
from common_corruptions.recipes.names import (
    CORRUPTION_GROUPS,
    EXTRA_CORRUPTIONS,
    MAIN_CORRUPTIONS,
    SEVERITIES,
)
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import recipe

DETERMINISTIC = (
    "defocus_blur",
    "zoom_blur",
    "gaussian_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "saturate",
)
ROUNDED = {"zoom_blur": 3e-3}
"""The share of values on the borderline between two levels, where there are any."""
RANDOM = tuple(name for name in CORRUPTIONS if name not in DETERMINISTIC)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """24 smooth coloured images with black, white and grey in them, uint8 (24, 32, 32, 3)."""
    random = np.random.default_rng(0)
    waves = random.normal(size=(24, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    images = np.clip(128 + 60 * waves + random.normal(0, 8, (24, 32, 32, 3)), 0, 255).astype(np.uint8)
    images[0], images[1, :8], images[2, :8] = 0, 255, images[2, :8, :, :1]
    return images


def test_names_are_one_ordered_list_with_subsets():
    assert len(CORRUPTIONS) == len(set(CORRUPTIONS)) == 19
    assert len(MAIN_CORRUPTIONS) == 15 and len(EXTRA_CORRUPTIONS) == 4
    assert set(MAIN_CORRUPTIONS) | set(EXTRA_CORRUPTIONS) == set(CORRUPTIONS)
    assert sum(CORRUPTION_GROUPS.values(), ()) == CORRUPTIONS


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_published_results_without_chance(shared, name):
    """To the last level, but where rounding within the published sums decides between two."""
    golden = np.load(shared / "reference" / "golden" / "corruptions-deterministic.npz")
    for severity, expected in zip(SEVERITIES, golden[name], strict=True):
        distance = np.abs(corrupt(golden["images"], name, severity).astype(int) - expected)
        assert distance.max() <= 1
        assert (distance > 0).mean() <= ROUNDED.get(name, 0)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_published_spatter_of_given_noise(shared, severity, monkeypatch):
    """One image of severity 3 has more water than 8 bits hold."""
    golden = np.load(shared / "reference" / "golden" / "from-noise.npz")
    monkeypatch.setattr(Draws, "normal", lambda *arguments: golden[f"c_spatter_{severity}_layer"])
    np.testing.assert_array_equal(
        corrupt(golden["images"], "spatter", severity), golden[f"c_spatter_{severity}"]
    )


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_lifts_no_value_over_what_is_truncated(images, severity, monkeypatch):
    """The recipe with the same neighbours, one pixel at a time."""
    _, distance, passes = recipe("glass_blur").constants[severity - 1]
    picks = np.random.default_rng(5).integers(
        -distance, distance, (len(images), passes, 32 - 2 * distance, 32 - 2 * distance, 2)
    )  # from the last pixel to the first

    def drawn(draws, label, shape, high):
        part = picks[draws.start : draws.start + draws.count]
        down, right = part[:, int(label[-1]), ::-1, ::-1].transpose(3, 0, 1, 2)
        return (down + distance) * 2 * distance + right + distance

    class Picked:
        def __init__(self, image: int):
            self.left = iter(picks[image].reshape(-1, 2))

        def integers(self, low, high, size):
            down, right = next(self.left)
            return right, down

    monkeypatch.setattr(Draws, "integers", drawn)
    result = corrupt(images, "glass_blur", severity)
    expected = [corrupt_one(image, "glass_blur", severity, Picked(i)) for i, image in enumerate(images)]
    assert (result != np.stack(expected)).mean() <= 1e-4


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_one_image_at_a_time_gives_the_same(images, name, severity):
    random = np.random.default_rng(0)
    expected = np.stack([corrupt_one(image, name, severity, random) for image in images])
    distance = np.abs(corrupt(images, name, severity).astype(int) - expected)
    assert distance.max() <= 1
    assert (distance > 0).mean() <= 10 * ROUNDED.get(name, 0)


@pytest.mark.parametrize("share", [0.95, 0.9, 0.85, 0.75, 0.65, 0.6, 0.5, 0.4, 0.3, 0.25, 0.1])
def test_pixelate_is_pillows_box_filter_at_every_size(share):
    random = np.random.default_rng(0)
    for size in range(16, 257):
        images = random.integers(0, 256, (1, size, 16 + size % 9, 3), dtype=np.uint8)
        made = pixelate(images, None, share)
        turned = pixelate(np.ascontiguousarray(images.swapaxes(1, 2)[..., :1]), None, share)
        for image, pixels, grey in zip(images, made, turned, strict=True):
            np.testing.assert_array_equal(pixels, shrunk_and_enlarged(image, share))
            np.testing.assert_array_equal(grey[..., 0], shrunk_and_enlarged(image[..., 0].T, share))


def shrunk_and_enlarged(image, share):
    """By Pillow's box filter; first along the rows, which from version 13 on it does by itself not for every shape."""
    height, width = image.shape[:2]
    tall, wide = int(share * height), int(share * width)
    picture = Image.fromarray(np.ascontiguousarray(image))
    for size in ((wide, height), (wide, tall), (width, height)):
        picture = picture.resize(size, Image.Resampling.BOX)
    return np.asarray(picture)


@pytest.mark.parametrize("number", range(1, 161))
def test_a_mean_is_rounded_as_by_pillows_fixed_point(number):
    images = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None, None], number, axis=1)
    images = np.concatenate([images, images])
    images[256:, -1:] //= 2
    made = shrunk_by_box(images, 1, 1)[:, 0, 0, 0]
    sums = images.sum(axis=(1, 2, 3), dtype=np.int64)
    expected = (sums * round(2**22 / number) + 2**21) >> 22
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_shape_type_and_input_are_kept(images, name):
    before = images.copy()
    for severity in SEVERITIES:
        result = corrupt(images, name, severity)
        assert result.shape == images.shape and result.dtype == np.uint8
        assert (result != images).any()
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_any_batch(images, name):
    whole = corrupt(images, name, 4, seed=3, start=5)
    parts = [corrupt(images[i:j], name, 4, seed=3, start=5 + i) for i, j in ((0, 1), (1, 9), (9, 24))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(corrupt(images[::2], name, 4, seed=3, start=5)[0], whole[0])


def test_blocks_and_threads_do_not_show(images):
    many = np.tile(images, (8, 1, 1, 1))
    assert many.size > 2 * BLOCK_VALUES
    with ThreadPoolExecutor(4) as pool:
        for name in RANDOM:
            whole = corrupt(many, name, 2)
            starts = range(0, len(many), 50)
            parts = pool.map(lambda i, name=name: corrupt(many[i : i + 50], name, 2, start=i), starts)
            np.testing.assert_array_equal(np.concatenate(list(parts)), whole)


@pytest.mark.parametrize("name", RANDOM)
def test_seed_index_and_severity_decide_the_draws(name):
    image = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    image = image.repeat(2, axis=0)
    result = corrupt(image, name, 3, seed=7)
    np.testing.assert_array_equal(corrupt(image, name, 3, seed=7), result)
    assert (result[0] != result[1]).any()  # one image twice in a batch: other draws
    assert (corrupt(image, name, 3, seed=8) != result).any()
    assert (corrupt(image, name, 3, seed=7, start=1)[0] == result[1]).all()


def test_severities_have_draws_of_their_own():
    grey = np.full((1, 32, 32, 3), 128, dtype=np.uint8)
    mild, strong = (corrupt(grey, "gaussian_noise", severity).astype(float) - 127.5 for severity in (1, 5))
    assert abs(np.corrcoef(mild.ravel(), strong.ravel())[0, 1]) < 0.06


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_seed_does_not_matter_without_chance(images, name):
    np.testing.assert_array_equal(corrupt(images, name, 2, seed=0), corrupt(images, name, 2, seed=1))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_grey_in_one_channel_agrees_with_grey_in_three(name):
    """One channel is treated as grey in three; where the result is coloured, it is its luma."""
    ramp = np.linspace(0, 110, 32, dtype=np.uint8)  # dark enough for no channel to be clipped
    grey = np.broadcast_to(ramp[:, None] // 2 + ramp // 2, (64, 32, 32))[..., None]
    one = corrupt(np.ascontiguousarray(grey), name, 4).astype(float)[..., 0]
    three = corrupt(np.repeat(grey, 3, axis=-1), name, 4).astype(float) @ [0.299, 0.587, 0.114]
    if name.endswith("noise"):  # drawn for every value: not the same draws
        assert abs(one.mean() - three.mean()) < 1
    elif name in ("jpeg_compression", "saturate", "frost", "spatter", "elastic_transform"):
        assert np.abs(one - three).max() <= 3
    else:
        assert np.abs(one - three).max() <= 1.01


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_accepts_what_is_not_contiguous_or_is_on_disk(images, name, tmp_path):
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    result = corrupt(images, name, 3)
    np.testing.assert_array_equal(corrupt(mapped, name, 3), result)
    swapped = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(corrupt(swapped, name, 3), result)
    np.testing.assert_array_equal(corrupt(np.asfortranarray(images), name, 3), result)
    assert type(corrupt(mapped, name, 3)) is np.ndarray
    assert corrupt(images[:0], name, 1).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": [[0]]}, TypeError, r"images\[0\]: .* NumPy array, .* not list"),
        ({"images": np.zeros((1, 32, 32, 3), np.float32)}, TypeError, "uint8 .* not float32"),
        ({"images": np.zeros((32, 32, 4), np.uint8)}, ValueError, r"shape \(N, H, W, C\)"),
        ({"images": np.zeros((1, 3, 32, 32), np.uint8)}, ValueError, "C 1 or 3"),
        ({"images": np.zeros((1, 15, 32, 3), np.uint8)}, ValueError, "16 to 1024 pixels a side, not 15 x 32"),
        ({"images": np.zeros((1, 32, 1025, 3), np.uint8)}, ValueError, r"not 32 x 1025 \(height x width\)"),
        ({"scale": "cifar-10"}, ValueError, 'scale must be "cifar" or "imagenet", not .cifar-10.'),
        ({"name": "gausian_noise"}, ValueError, "unknown corruption .* did you mean 'gaussian_noise'"),
        ({"name": "qqq"}, ValueError, "choose from gaussian_noise, .*saturate"),
        ({"severity": 0}, ValueError, "from 1 to 5, not 0"),
        ({"severity": 6}, ValueError, "from 1 to 5, not 6"),
        ({"severity": 2.5}, ValueError, r"from 1 to 5, not 2\.5"),
        ({"severity": 3.0}, ValueError, r"from 1 to 5, not 3\.0"),
        ({"severity": True}, ValueError, "from 1 to 5, not True"),
        ({"severity": "3"}, ValueError, "from 1 to 5, not '3'"),
        ({"seed": 0.5}, TypeError, r"seed must be an integer, not 0\.5"),
        ({"seed": None}, TypeError, "seed must be an integer"),
        ({"start": -1}, ValueError, "at least 0, not -1"),
    ],
)
def test_one_clear_error_for_bad_input(change, error, message):
    arguments = {
        "images": np.zeros((1, 32, 32, 3), np.uint8),
        "name": "fog",
        "severity": 1,
        "seed": 0,
    } | change
    with pytest.raises(error, match=message):
        corrupt(**arguments)
