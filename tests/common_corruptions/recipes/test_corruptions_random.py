"""The distribution of each corruption with chance in it, on its own terms and against one image at a time."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.reference_corruptions import corrupt_one
from common_corruptions import corrupt
from common_corruptions.recipes.corruptions.blur import pick_neighbours
from common_corruptions.recipes.corruptions.weather import FROST_PHOTOS, frost_photo, plasma_fractal
from common_corruptions.recipes.names import SEVERITIES
from common_corruptions.recipes.noise import gaussian_table, impulse_table, shot_table, speckle_table
from common_corruptions.recipes.random import Draws
from common_corruptions.recipes.registry import recipe

NOISES = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
QUICK = (
    *NOISES,
    "motion_blur",
    "snow",
    "frost",
    "spatter",
    "elastic_transform",
)  # one image at a time, that is


def constant(name: str, severity: int) -> float:
    return recipe(name).constants[severity - 1][0]


def flat(level: int, count: int = 40) -> np.ndarray:
    return np.full((count, 32, 32, 3), level, dtype=np.uint8)


def moments(images: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of what an 8-bit result was before truncation, which takes half a level."""
    values = images.astype(float) + 0.5
    return values.mean(), np.sqrt(values.var() - 1 / 12)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_noise_has_its_mean_and_deviation(severity):
    mean, deviation = moments(corrupt(flat(128), "gaussian_noise", severity))
    assert mean == pytest.approx(128, abs=0.25)
    assert deviation == pytest.approx(255 * constant("gaussian_noise", severity), rel=0.01)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_is_poisson(severity):
    photons = constant("shot_noise", severity)
    for level in (30, 128):
        values = corrupt(flat(level), "shot_noise", severity).astype(float)
        expected = np.floor(np.arange(photons + 1) / photons * 255 + 1e-9)
        pmf = stats.poisson.pmf(np.arange(photons + 1), level / 255 * photons)
        assert values.mean() == pytest.approx((pmf * expected).sum(), abs=0.25)
        assert values.var() == pytest.approx(
            (pmf * expected**2).sum() - (pmf * expected).sum() ** 2, rel=0.03
        )
        assert set(np.unique(values)) <= set(expected)  # nothing between two numbers of photons


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise_is_half_salt_and_half_pepper(severity):
    amount = constant("impulse_noise", severity)
    values = corrupt(flat(100), "impulse_noise", severity)
    for share in ((values == 255).mean(), (values == 0).mean()):
        assert share == pytest.approx(amount / 2, abs=4 * np.sqrt(amount / 2 / values.size))
    assert ((values == 0) | (values == 100) | (values == 255)).all()
    hit = (values != 100).astype(float)  # each channel on its own
    assert abs(np.corrcoef(hit[..., 0].ravel(), hit[..., 1].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("severity", SEVERITIES)
def test_speckle_noise_grows_with_the_value(severity):
    std = constant("speckle_noise", severity)
    for level in (60, 120):
        mean, deviation = moments(corrupt(flat(level), "speckle_noise", severity))
        assert mean == pytest.approx(level, abs=0.25)
        assert deviation == pytest.approx(level * std, rel=0.02)
    assert (corrupt(flat(0), "speckle_noise", severity) == 0).all()


@pytest.mark.parametrize(
    "table", [gaussian_table(0.1), shot_table(50), impulse_table(0.07), speckle_table(0.2)]
)
def test_alias_tables_are_probabilities(table):
    """Every input has 256 columns of equal weight, so the probabilities they imply sum to one and can be checked."""
    keep, alias = (table >> 8) / 2**24, table & 255
    implied = np.zeros((256, 256))
    for level in range(256):
        row = slice(256 * level, 256 * level + 256)
        implied[level] += keep[row] / 256
        np.add.at(implied[level], alias[row], (1 - keep[row]) / 256)
    np.testing.assert_allclose(implied.sum(axis=1), 1, atol=1e-12)
    outputs = np.arange(256)
    if table is gaussian_table(0.1):
        cdf = stats.norm.cdf(outputs[None] + 1, loc=outputs[:, None], scale=25.5)
        cdf[:, -1] = 1
        np.testing.assert_allclose(implied.cumsum(axis=1), cdf, atol=1e-7)
    if table is impulse_table(0.07):
        np.testing.assert_allclose(np.diag(implied)[1:-1], 0.93, atol=1e-7)
        np.testing.assert_allclose(implied[1:-1, 0], 0.035, atol=1e-7)
    if table is shot_table(50):
        levels = np.minimum(np.arange(400) / 50, 1) * 255
        pmf = stats.poisson.pmf(np.arange(400), outputs[:, None] / 255 * 50)
        np.testing.assert_allclose(implied @ outputs, pmf @ np.floor(levels + 1e-9), atol=1e-4)
    if table is speckle_table(0.2):
        # P(result < 100) where the value is 120: its deviation is 24 levels
        assert implied[120, :100].sum() == pytest.approx(stats.norm.cdf(100, 120, 24), abs=1e-7)


STATISTICS = {
    "mean": lambda images: images.mean(axis=(1, 2, 3)),
    "spread": lambda images: images.std(axis=(1, 2, 3)),
    "detail": lambda images: np.abs(np.diff(images, axis=2)).mean(axis=(1, 2, 3)),
    "top rows": lambda images: images[:, :6].mean(axis=(1, 2, 3)),
}


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_results_are_distributed_as_one_image_at_a_time(name, severity):
    compare_distributions(name, severity, references=80)


@pytest.mark.parametrize("name", ["glass_blur", "fog"])
@pytest.mark.parametrize("severity", [2, 5])
def test_results_of_slow_references_are_distributed_alike(name, severity):
    compare_distributions(name, severity, references=25)


def compare_distributions(name: str, severity: int, references: int) -> None:
    """Statistics of one image under many draws agree within five standard errors."""
    y, x = np.mgrid[:32, :32]
    image = np.stack([x * 5 + 40, y * 6 + 20, (x // 4 + y // 4) % 2 * 120 + 60], axis=-1).astype(np.uint8)
    random = np.random.default_rng(severity)
    expected = np.stack([corrupt_one(image, name, severity, random) for _ in range(references)]).astype(float)
    result = corrupt(image[None].repeat(400, axis=0), name, severity).astype(float)
    for label, statistic in STATISTICS.items():
        ours, theirs = statistic(result), statistic(expected)
        error = np.sqrt(ours.var() / len(ours) + theirs.var() / len(theirs))
        assert abs(ours.mean() - theirs.mean()) <= 5 * error + 0.15, label


@pytest.mark.parametrize(("size", "distance"), [((32, 32), 1), ((32, 32), 2), ((40, 24), 3), ((64, 64), 8)])
def test_glass_blur_hands_values_on_in_the_published_order(size, distance):
    """One pass, pixel after pixel, with both pixels of an exchange ending up with the second's value."""
    height, width = size
    sources = pick_neighbours(Draws(0, ("test",), 0, 3), "neighbours", height, width, distance)
    offsets_of = Draws(0, ("test",), 0, 3).integers
    picked = offsets_of("neighbours", (height - 2 * distance, width - 2 * distance), (2 * distance) ** 2)
    for offsets, result in zip(picked, sources, strict=True):
        image = np.arange(height * width).reshape(height, width)
        for row in range(height - distance, distance, -1):
            for column in range(width - distance, distance, -1):
                offset = offsets[row - distance - 1, column - distance - 1]
                down, right = offset // (2 * distance) - distance, offset % (2 * distance) - distance
                value = image[row + down, column + right]
                image[row, column] = image[row + down, column + right] = value
        np.testing.assert_array_equal(result.reshape(height, width), image)


def test_glass_blur_moves_pixels_to_all_neighbours_alike():
    sources = pick_neighbours(Draws(0, ("test",), 0, 200), "neighbours", 32, 32, 1).reshape(-1, 32, 32)
    own = np.arange(1024).reshape(32, 32)
    moves = (own - sources)[:, 2:, 2:].ravel()
    shares = [(moves == move).mean() for move in (0, 1, 32, 33)]
    np.testing.assert_allclose(shares, 0.25, atol=0.005)
    assert (sources[:, :2] == own[:2]).all() and (sources[:, :, :2] == own[:, :2]).all()


def test_plasma_is_diamond_square():
    field = Draws(0, ("test",), 4, 2).uniform("plasma", (32, 32), low=-1, high=1).astype(float)
    for cells, result in zip(field, plasma_fractal(Draws(0, ("test",), 4, 2), 32, 2.5), strict=True):
        cells[0, 0] = 0
        step, wobble = 32, 100.0
        while step >= 2:
            half = step // 2
            square = [(y, x) for y in range(half, 32, step) for x in range(half, 32, step)]
            diamond = [
                (y, x) for y in range(0, 32, half) for x in range(0, 32, half) if (y // half + x // half) % 2
            ]
            for y, x in square + diamond:
                corners = (half, half), (half, -half), (-half, half), (-half, -half)
                if (y, x) in diamond:
                    corners = (half, 0), (-half, 0), (0, half), (0, -half)
                mean = np.mean([cells[(y + dy) % 32, (x + dx) % 32] for dy, dx in corners])
                cells[y, x] = mean + wobble * wobble * cells[y, x]
            step, wobble = half, wobble / 2.5
        np.testing.assert_allclose(result, (cells - cells.min()) / np.ptp(cells), atol=1e-4)


def test_fog_keeps_the_brightest_level():
    images = np.random.default_rng(0).integers(0, 200, (8, 32, 32, 3), dtype=np.uint8)
    for severity in SEVERITIES:
        result = corrupt(images, "fog", severity)
        assert (result.max(axis=(1, 2, 3)) <= images.max(axis=(1, 2, 3))).all()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_falls_the_same_turned_by_half(severity):
    """On black, only the whitening and the layer with its half turn are left, and they are symmetric."""
    result = corrupt(flat(0, 8), "snow", severity).astype(int)
    assert np.abs(result - result[:, ::-1, ::-1]).max() <= 1
    assert result.min() >= int((1 - recipe("snow").constants[severity - 1][-2]) * 127.5)


def test_frost_is_a_crop_of_one_of_the_photographs():
    result = corrupt(flat(0, 300), "frost", 1)
    found = dict.fromkeys(FROST_PHOTOS, 0)
    photos = {name: frost_photo(name, 0.2, 32, 32, 3) for name in found}
    for image in result:
        matches = [name for name in found if has_crop(photos[name], image)]
        assert len(matches) == 1
        found[matches[0]] += 1
    shares = [FROST_PHOTOS.count(name) / 5 for name in found]
    assert stats.chisquare(list(found.values()), 300 * np.array(shares)).pvalue > 0.01


def has_crop(photo: np.ndarray, image: np.ndarray) -> bool:
    photo = np.floor(photo * 0.2 + 1e-3).astype(np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(photo, (32, 32), axis=(0, 1))
    places = np.argwhere((windows[..., 0, 0] == image[0, 0]).all(axis=-1))
    return any((windows[y, x].transpose(1, 2, 0) == image).all() for y, x in places)


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_water_brightens_up_to_its_opacity(severity):
    result = corrupt(flat(0, 60), "spatter", severity)
    strength = recipe("spatter").constants[severity - 1][4]
    wet = result.max(axis=(1, 2)) > 0
    np.testing.assert_allclose(
        result.max(axis=(1, 2))[wet.any(axis=1)] - strength * np.array([175, 238, 238]), 0, atol=1
    )
    assert (result == 0).any()


@pytest.mark.parametrize("severity", [4, 5])
def test_mud_covers_or_leaves(severity):
    result = corrupt(flat(255, 60), "spatter", severity).astype(int)
    covered = (np.abs(result - [63, 42, 20]) <= 1).all(axis=-1)
    clean = (result == 255).all(axis=-1)
    assert covered.any() and clean.mean() > 0.5
    edge = result[~covered & ~clean]
    assert edge.max() <= 255 - 0.8 * (255 - 63) + 1  # thinner mud than 0.8 is left out


def test_elastic_transform_leaves_a_flat_image_alone():
    for severity in SEVERITIES:
        assert (corrupt(flat(77, 4), "elastic_transform", severity) == 77).all()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform_moves_a_point_as_far_as_it_says(severity):
    """The mean squared displacement of the centre: the affine jitter's and that of the smoothed noise."""
    amplitude, sigma, jitter = recipe("elastic_transform").constants[severity - 1]
    y, x = np.mgrid[:32, :32]
    ramp = np.stack([x * 8, y * 8, 0 * x], axis=-1).astype(np.uint8)
    result = corrupt(ramp[None].repeat(1500, axis=0), "elastic_transform", severity)
    moved = (result[:, 16, 16, :2].astype(float) + 0.5) / 8 - 16
    # The three points are (q, q), (q, -q), (-q, -q) from the centre: it moves as the mean of the first and the third.
    expected = jitter**2 / 3 / 2
    if amplitude:
        reach = int(3 * sigma + 0.5)
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        taps /= taps.sum()
        places = np.pad(np.arange(32), reach, mode="symmetric")[16 : 16 + len(taps)]
        weights = np.bincount(places, taps)
        expected += amplitude**2 / 3 * (weights**2).sum() ** 2
    assert (moved**2).mean(axis=0) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform_moves_a_larger_image_in_proportion(severity):
    moves = []
    for side, count in ((32, 400), (128, 100)):
        y, x = np.mgrid[:side, :side] * (256 / side)
        ramp = np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)
        result = corrupt(ramp[None].repeat(count, axis=0), "elastic_transform", severity, scale="cifar")
        centre = result[:, side // 4 : -side // 4, side // 4 : -side // 4, :2].astype(float)
        moves.append((centre - ramp[side // 4 : -side // 4, side // 4 : -side // 4, :2]).std())
    assert moves[1] == pytest.approx(moves[0], rel=0.15)


def test_motion_blur_goes_along_angles_from_minus_45_to_45_degrees():
    """A point smears to the side the taps read from, so its trace lies in a quarter to the left."""
    point = np.zeros((400, 32, 32, 1), dtype=np.uint8)
    point[:, 16, 24] = 255
    trace = corrupt(point, "motion_blur", 5)[..., 0] > 0
    _, rows, columns = np.nonzero(trace)
    assert (columns <= 24).all() and (np.abs(rows - 16) <= 24 - columns + 1).all()
    ends = np.array([image.nonzero()[0][np.argmin(image.nonzero()[1])] - 16 for image in trace])
    assert abs((ends > 0).mean() - (ends < 0).mean()) < 0.15


def test_uniform_numbers():
    numbers = Draws(1, ("test",), 0, 100).uniform("u", (1000,), low=-2, high=3)
    assert stats.kstest(numbers.ravel(), stats.uniform(-2, 5).cdf).pvalue > 0.01
    assert numbers.dtype == np.float32 and numbers.min() >= -2 and numbers.max() < 3


def test_normal_numbers():
    numbers = Draws(1, ("test",), 0, 100).normal("n", (31, 33), mean=2.0, std=0.5)
    assert numbers.shape == (100, 31, 33)
    assert stats.kstest(numbers.ravel(), stats.norm(2, 0.5).cdf).pvalue > 0.01
    pairs = numbers.reshape(100, -1)[:, :1022].reshape(100, 2, 511)  # from the same words: still independent
    assert abs(np.corrcoef(pairs[:, 0].ravel(), pairs[:, 1].ravel())[0, 1]) < 0.02


def test_integers():
    counts = np.bincount(Draws(1, ("test",), 0, 100).integers("i", (1000,), 5).ravel())
    assert len(counts) == 5 and stats.chisquare(counts).pvalue > 0.01


def test_draws_differ_by_seed_purpose_label_and_image():
    base = Draws(0, ("test", 1), 0, 4).words("a", (100,))
    others = (
        Draws(1, ("test", 1), 0, 4).words("a", (100,)),
        Draws(0, ("test", 2), 0, 4).words("a", (100,)),
        Draws(0, ("test", 1), 0, 4).words("b", (100,)),
        Draws(0, ("test", 1), 1, 4).words("a", (100,)),
        np.roll(base, 1, axis=0),
    )
    assert all(np.isin(other, base).mean() < 0.01 for other in others[:3])
    np.testing.assert_array_equal(others[3][:-1], base[1:])
    assert np.isin(others[4][0], base[0]).mean() < 0.01
