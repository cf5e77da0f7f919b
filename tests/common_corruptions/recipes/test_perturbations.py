"""The perturbations against the published recipes: their outputs and their statistics."""

import numpy as np
import pytest

from benchmarks.reference_perturbations import REFERENCE, snow, spatter
from common_corruptions import PERTURBATIONS, perturb
from common_corruptions.recipes.names import FRAMES, NOISE_PERTURBATIONS, NOISE_VARIANTS
from common_corruptions.recipes.perturbations import RECIPES
from common_corruptions.recipes.random import Draws

NAMES = (*PERTURBATIONS, *NOISE_VARIANTS)
RANDOM = (*NOISE_PERTURBATIONS, "snow", "spatter")
WITHOUT_RANDOMNESS = tuple(name for name in PERTURBATIONS if name not in RANDOM)


def images(count=3, height=32, width=32, channels=3, seed=0):
    """Smooth blobs with noise on them: edges, flat parts, and levels up to both ends."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-60, 316, (count, 1 + height // 4, 1 + width // 4, channels))
    fine = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width]
    return np.clip(fine + rng.integers(-9, 10, fine.shape), 0, 255).astype(np.uint8)


ROUNDED = {"scale": 6e-3, "shear": 3e-3, "zoom_blur": 1e-3}
"""The share of values on the borderline between two levels, where it is more than one in ten thousand."""


def assert_same(ours, expected, share):
    distance = np.abs(ours.astype(int) - expected)
    assert distance.max() <= 1
    assert (distance > 0).mean() <= share


def test_every_name_has_a_recipe():
    assert set(RECIPES) == set(FRAMES) == set(NAMES)


@pytest.mark.parametrize("name", WITHOUT_RANDOMNESS)
def test_published_outputs(shared, name):
    """To the last level, but where the sum of rounded double precision decides between two."""
    golden = np.load(shared / "reference" / "golden" / "perturbations-deterministic.npz")
    assert_same(perturb(golden["images"], name), golden[name], ROUNDED.get(name, 1e-4))


@pytest.mark.parametrize(("name", "label"), [("snow", "flakes"), ("spatter", "drops")])
def test_published_outputs_of_given_noise(shared, name, label, monkeypatch):
    golden = np.load(shared / "reference" / "golden" / "from-noise.npz")
    noise = {label: golden[f"p_{name}_layer"]}
    monkeypatch.setattr(Draws, "normal", lambda draws, label, shape, mean, std: noise[label])
    np.testing.assert_array_equal(perturb(golden["images"], name), golden[f"p_{name}"])


def test_sequences_without_a_drop_are_black(shared):
    """The published set holds them; about 5 % of the frames are."""
    black = np.load(shared / "reference" / "golden" / "from-noise.npz")["p_spatter"].max(axis=(2, 3, 4)) == 0
    assert black.all(axis=1).sum() == 2 and black[1].sum() == 1
    ours = perturb(images(200), "spatter").max(axis=(2, 3, 4)) == 0
    assert 0.02 < ours.mean() < 0.09


@pytest.mark.parametrize("name", WITHOUT_RANDOMNESS)
def test_recipe_one_image_at_a_time(name):
    x = images()
    expected = np.stack([REFERENCE[name](image, None) for image in x])
    assert_same(perturb(x, name), expected, 3 * ROUNDED.get(name, 1e-4))


@pytest.mark.parametrize(
    ("name", "recipe", "label", "mean", "std"),
    [("snow", snow, "flakes", 0.05, 0.3), ("spatter", spatter, "drops", 0.6, 0.265)],
)
def test_recipe_with_the_same_layer(name, recipe, label, mean, std):
    x = images(8)
    layers = Draws(4, ("perturbation", name), 0, 8).normal(label, (32, 32), mean, std).astype(np.float64)
    expected = [recipe(image, None, layer) for image, layer in zip(x, layers, strict=True)]
    assert_same(perturb(x, name, 4), np.stack(expected), 1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(16, 16, 3), (19, 45, 1), (96, 40, 3)])
def test_shape_and_type_at_any_size(name, shape):
    x = images(2, *shape)
    sequences = perturb(x, name)
    assert sequences.shape == (2, FRAMES[name], *shape)
    assert sequences.dtype == np.uint8
    if (name, shape) != ("spatter", (16, 16, 3)):  # many an image has no drop
        assert (sequences != sequences[:, :1]).any(axis=(1, 2, 3, 4)).all()


def test_largest_image():
    assert perturb(images(1, 256, 256), "rotate").shape == (1, 31, 256, 256, 3)
    assert perturb(images(1, 256, 16, 1), "spatter").shape == (1, 31, 256, 16, 1)


def test_no_images():
    assert perturb(images(1)[:0], "snow").shape == (0, 31, 32, 32, 3)


@pytest.mark.parametrize("name", NAMES)
def test_same_image_same_sequence_however_it_is_batched(name):
    x = images(47)
    whole = perturb(x, name, seed=5, start=3)
    parts = [perturb(x[a:b], name, seed=5, start=3 + a) for a, b in [(0, 1), (1, 30), (30, 47)]]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("name", RANDOM)
def test_draws_differ_between_images_and_seeds(name):
    x = images(1).repeat(2, axis=0)
    sequences = perturb(x, name, seed=0)
    assert not np.array_equal(sequences[0], sequences[1])
    assert not np.array_equal(sequences, perturb(x, name, seed=1))
    np.testing.assert_array_equal(sequences, perturb(x, name, seed=np.int64(0)))


@pytest.mark.parametrize("name", WITHOUT_RANDOMNESS)
def test_nothing_drawn_nothing_to_seed(name):
    np.testing.assert_array_equal(perturb(images(), name, seed=0), perturb(images(), name, seed=1))


@pytest.mark.parametrize(
    ("frame", "names"),
    [
        (0, (*NOISE_PERTURBATIONS, "zoom_blur")),
        (7, ("translate",)),
        (15, ("rotate", "scale", "shear")),
    ],
)
def test_frame_that_is_the_image(frame, names):
    for name in names:
        np.testing.assert_array_equal(perturb(images(), name)[:, frame], images())


def test_frame_of_brightness_that_is_the_image_but_for_truncation():
    lost = images() - perturb(images(), "brightness")[:, 15]
    assert set(np.unique(lost)) <= {0, 1} and lost.mean() < 0.2


@pytest.mark.parametrize(
    ("name", "spread"),
    [
        # standard deviation of the recipe's result in levels, for a channel of level v
        ("gaussian_noise", lambda v: 0.02 * 255),
        ("gaussian_noise_2", lambda v: 0.04 * 255),
        ("gaussian_noise_3", lambda v: 0.06 * 255),
        ("shot_noise", lambda v: np.sqrt(v * 255 / 700)),
        ("shot_noise_2", lambda v: np.sqrt(v * 255 / 400)),
        ("shot_noise_3", lambda v: np.sqrt(v * 255 / 200)),
        ("speckle_noise", lambda v: 0.05 * v),
        ("speckle_noise_2", lambda v: 0.07 * v),
        ("speckle_noise_3", lambda v: 0.10 * v),
    ],
)
@pytest.mark.parametrize("level", [100, 160])
def test_mean_and_spread_of_the_noises(name, spread, level):
    noisy = perturb(np.full((8, 32, 32, 3), level, np.uint8), name, seed=2)[:, 1:].astype(float)
    error = spread(level) / np.sqrt(noisy.size)
    # Truncation takes half a level on average, and adds the variance of a uniform rounding error.
    assert noisy.mean() == pytest.approx(level - 0.5, abs=6 * error)
    assert noisy.std() == pytest.approx(np.sqrt(spread(level) ** 2 + 1 / 12), rel=0.01)


@pytest.mark.parametrize("name", NOISE_PERTURBATIONS)
def test_noise_is_independent_between_frames_and_channels(name):
    noise = perturb(np.full((4, 32, 32, 3), 128, np.uint8), name)[:, 1:].astype(float) - 127.5
    frames = np.corrcoef(noise.swapaxes(0, 1).reshape(30, -1))
    channels = np.corrcoef(noise.reshape(-1, 3).T)
    assert np.abs(frames - np.eye(30)).max() < 5 / np.sqrt(4 * 3072)
    assert np.abs(channels - np.eye(3)).max() < 5 / np.sqrt(4 * 30 * 1024)


@pytest.mark.parametrize("name", ["motion_blur", "zoom_blur", "gaussian_blur", "tilt"])
def test_blurs_and_warps_keep_a_flat_image(name):
    flat = np.full((1, 32, 32, 3), 77, np.uint8)
    inner = perturb(flat, name)[:, :, 6:-6, 6:-6]
    assert np.abs(inner.astype(int) - 77).max() <= 1


def test_steps_of_a_translation_grow_with_the_width():
    x = images(2, 64, 64)
    sequences = perturb(x, "translate")
    for frame in range(16):
        shift = 2 * (frame - 7)
        np.testing.assert_array_equal(
            sequences[:, frame, :, max(shift, 0) : 64 + shift], x[:, :, max(-shift, 0) : 64 - shift]
        )
        assert not sequences[:, frame, :, : max(shift, 0)].any()


def test_drops_fall_with_the_size_of_the_image():
    """The centre of the water moves down as fast, in image heights, at twice the size."""

    def fall(side):
        black = np.zeros((24, side, side, 3), np.uint8)
        water = perturb(black, "spatter", seed=1)[..., 0].astype(float)
        half = water[:, :, : side // 2].sum(axis=(0, 2, 3)) / water.sum(axis=(0, 2, 3))
        return half[0] - half[20]  # the share of water in the upper half that has left it

    assert fall(32) == pytest.approx(fall(64), abs=0.15)
    assert fall(32) > 0.2


def test_drops_cover_as_much_of_a_larger_image():
    shares = []
    for side, count in ((32, 160), (64, 40), (128, 10)):
        first = perturb(np.zeros((count, side, side, 3), np.uint8), "spatter", seed=1)[:, 0]
        shares.append((first > 0).mean())
    ratios = np.array(shares[1:]) / shares[0]
    assert ((ratios > 0.5) & (ratios < 2)).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOISE_PERTURBATIONS])
def test_grey_image_of_one_channel_and_of_three(name):
    grey = images(2, channels=1) // 3  # dark, so that nothing is clipped
    one, three = perturb(grey, name, seed=3), perturb(grey.repeat(3, axis=-1), name, seed=3)
    if name == "spatter":  # drops have a colour; in grey its luma
        weights = [0.299, 0.587, 0.114]
        np.testing.assert_allclose(one[..., 0], three @ np.array(weights), atol=2)
    else:
        assert np.abs(one - three.astype(int)).max() <= 1


def test_memory_map_and_strided_images(tmp_path):
    np.save(tmp_path / "x.npy", images(4))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = perturb(images(4), "rotate")
    sequences = perturb(mapped, "rotate")
    assert type(sequences) is np.ndarray
    np.testing.assert_array_equal(sequences, expected)
    mirrored = images(4)[:, ::-1, ::-1]
    np.testing.assert_array_equal(perturb(mirrored, "rotate"), perturb(mirrored.copy(), "rotate"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((images().astype(np.float32), "rotate"), TypeError, "uint8"),
        ((images().tolist(), "rotate"), TypeError, "NumPy array"),
        ((images()[0, 0, 0], "rotate"), ValueError, r"\(N, H, W, C\)"),
        ((images(channels=2), "rotate"), ValueError, "C 1 or 3"),
        ((images(height=7), "rotate"), ValueError, "16 to 256 pixels a side, not 7 x 32"),
        ((images(), "rotat"), ValueError, "did you mean 'rotate'"),
        ((images(), "fog"), ValueError, "unknown perturbation 'fog'"),
        ((images(), "snow", 1.5), TypeError, "seed"),
    ],
)
def test_wrong_input(arguments, error, message):
    with pytest.raises(error, match=message):
        perturb(*arguments)


def test_negative_start():
    with pytest.raises(ValueError, match="start"):
        perturb(images(), "snow", start=-1)
