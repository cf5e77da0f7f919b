"""Augmentation of batches, against Pillow's operations on one image at a time and the published laws of the draws."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from training import augmentation, operations
from training.augmentation import POLICIES, augment, draw_chains


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Smooth, flat, noisy, dark and two-valued images (12, 32, 32, 3)."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (4, 32, 32, 3))
    ramp = np.add.outer(np.arange(32), np.arange(32))[..., None] * np.array([1, 3, 4])
    smooth = np.stack([ramp, 250 - ramp // 2, 100 + ramp // 8, ramp % 97])
    flat = np.stack([np.full((32, 32, 3), 200), np.tile([0, 90, 255], (32, 32, 1))])
    two = np.stack([np.where(noise[0] < 30, 10, 240), noise[1] // 16])
    return torch.from_numpy(np.concatenate([noise, smooth, flat, two]).clip(0, 255).astype(np.uint8))


NEAREST, BILINEAR = Image.Resampling.NEAREST, Image.Resampling.BILINEAR
MATRICES = {
    "shear_x": lambda v: (1, v, 0, 0, 1, 0),
    "shear_y": lambda v: (1, 0, 0, v, 1, 0),
    "translate_x": lambda v: (1, 0, math.trunc(32 * v), 0, 1, 0),
    "translate_y": lambda v: (1, 0, 0, 0, 1, math.trunc(32 * v)),
}


def moved(name: str, value: float, resample: Image.Resampling = NEAREST):
    """Pillow's rotation, or its affine transform by the matrix of the operation."""
    if name == "rotate":
        return lambda image: image.rotate(value, resample)
    return lambda image: image.transform(image.size, Image.Transform.AFFINE, MATRICES[name](value), resample)


# operation, magnitudes, Pillow's operation of each magnitude
PILLOW = {
    "shear_x": ((0.0, 0.33, -0.99), partial(moved, "shear_x")),
    "shear_y": ((0.0, 0.33, -0.99), partial(moved, "shear_y")),
    "translate_x": ((0.11, -0.5, 1.0), partial(moved, "translate_x")),
    "translate_y": ((0.11, -0.5, 1.0), partial(moved, "translate_y")),
    "rotate": ((0.0, 17.0, -133.0), partial(moved, "rotate")),
    "brightness": ((0.01, 0.7, 2.0), lambda v: lambda image: ImageEnhance.Brightness(image).enhance(v)),
    "color": ((0.01, 0.7, 2.0), lambda v: lambda image: ImageEnhance.Color(image).enhance(v)),
    "contrast": ((0.01, 0.7, 2.0), lambda v: lambda image: ImageEnhance.Contrast(image).enhance(v)),
    "sharpness": ((0.01, 0.7, 2.0), lambda v: lambda image: ImageEnhance.Sharpness(image).enhance(v)),
    "posterize": ((8.0, 5.0, 2.0), lambda v: lambda image: ImageOps.posterize(image, int(v))),
    "solarize": ((256.0, 128.0, 0.0), lambda v: lambda image: ImageOps.solarize(image, v)),
    "autocontrast": ((0.0, 0.0, 0.0), lambda v: ImageOps.autocontrast),
    "equalize": ((0.0, 0.0, 0.0), lambda v: ImageOps.equalize),
}


def of_pillow(images: torch.Tensor, transforms) -> np.ndarray:
    """Each image through a Pillow transform of its own."""
    made = []
    for image, transform in zip(images.numpy(), transforms, strict=True):
        grey = image.shape[2] == 1
        result = np.asarray(transform(Image.fromarray(image[..., 0] if grey else image)))
        made.append(result[..., None] if grey else result)
    return np.stack(made)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PILLOW)
def test_an_operation_is_that_of_pillow(name, channels, images):
    images = images[..., :channels].contiguous()
    magnitudes, transform = PILLOW[name]
    drawn = [magnitudes[i % 3] for i in range(len(images))]
    made = getattr(operations, name)(images, torch.tensor(drawn))
    expected = of_pillow(images, [transform(value) for value in drawn])
    assert made.dtype == torch.uint8 and made.shape == images.shape
    difference = np.abs(made.numpy().astype(int) - expected)
    if name == "rotate":  # a place on the border between two pixels falls to either
        assert (difference.max(axis=3) > 0).mean() < 0.01
    else:
        rounded = name in ("brightness", "color", "contrast", "sharpness", "autocontrast")
        assert difference.max() <= rounded


@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
def test_between_pixels_it_is_bilinear(name, images):
    drawn = [[0.0, 0.09, -0.3, 0.27][i % 4] * (100 if name == "rotate" else 1) for i in range(len(images))]
    made = getattr(operations, name)(images, torch.tensor(drawn), bilinear=True)
    transforms = [moved(name, value, BILINEAR) for value in drawn]
    difference = np.abs(made.numpy().astype(int) - of_pillow(images, transforms))
    assert difference.max() <= 1  # Pillow cuts to whole levels


def test_sides_of_two_lengths(images):
    images = images[:3, :20].contiguous()
    drawn = torch.tensor([0.3, -0.6, 0.9])
    for axis, name in enumerate(("translate_y", "translate_x")):
        made = getattr(operations, name)(images, drawn)
        for image, share, moved in zip(images, drawn, made, strict=True):
            shift = int(share * images.shape[1 + axis])
            rolled = image.roll(-shift, axis)
            black = slice(-shift, None) if shift > 0 else slice(None, -shift)
            rolled[(black, slice(None))[axis], (slice(None), black)[axis]] = 0
            assert torch.equal(moved, rolled)
    turned = operations.rotate(images, torch.full((3,), 31.0))
    expected = of_pillow(images, [lambda image: image.rotate(31)] * 3)
    assert (turned.numpy() != expected).any(3).mean() < 0.01


def test_trivial_is_one_operation_of_fourteen_at_one_of_31_levels():
    count = 31_000
    drawn = draw_chains(POLICIES["trivial"], count, torch.Generator().manual_seed(0))
    assert drawn.operations.shape == (count, 1, 1)
    assert stats.chisquare(torch.bincount(drawn.operations.flatten(), minlength=15)[1:]).pvalue > 1e-3
    magnitudes = {place: drawn.magnitudes[drawn.operations == place] for place in range(1, 15)}
    functions = {function: place for place, (function, _) in enumerate(POLICIES["trivial"].operations, 1)}

    def levels(function) -> list[float]:
        return magnitudes[functions[function]].unique().double().numpy()

    np.testing.assert_allclose(levels(operations.contrast), np.linspace(0.01, 2, 31), rtol=1e-6)
    np.testing.assert_allclose(levels(operations.shear_y), np.linspace(-0.99, 0.99, 61), atol=1e-6)
    np.testing.assert_allclose(levels(operations.translate_x), np.linspace(-1, 1, 61), atol=1e-6)
    assert [*levels(operations.posterize)] == [2, 3, 4, 5, 6, 7, 8]
    assert {*levels(operations.rotate)} == {s * int(4.5 * k) for k in range(31) for s in (1, -1)}
    assert {*levels(operations.solarize)} == {256 - int(256 * k / 30) for k in range(31)}


def test_augmix_is_three_chains_of_up_to_three_operations():
    count = 20_000
    policy = POLICIES["augmix"]
    drawn = draw_chains(policy, count, torch.Generator().manual_seed(0))
    lengths = (drawn.operations > 0).sum(2)
    assert stats.chisquare(torch.bincount(lengths.flatten(), minlength=4)[1:]).pvalue > 1e-3
    assert torch.equal(drawn.operations > 0, torch.arange(3) < lengths[..., None])  # an end stays an end
    assert stats.chisquare(torch.bincount(drawn.operations.flatten(), minlength=10)[1:]).pvalue > 1e-3
    by_operation = {place: drawn.magnitudes[drawn.operations == place] for place in range(1, 10)}
    bits, turns, thresholds, shears = (by_operation[place] for place in (3, 4, 5, 6))
    assert {*bits.tolist()} == {3.0, 4.0}
    # A level is uniform in 0.1..3 of 10: its 0.4th part reaches 1 above 2.5.
    assert abs((bits == 3).float().mean() - 0.5 / 2.9) < 0.01
    assert {*turns.tolist()} == {float(v) for v in range(-8, 9)}
    assert thresholds.min() == 256 - 76 and thresholds.max() == 256 - 2
    assert stats.kstest(shears.abs(), stats.uniform(0.003, 0.087).cdf).pvalue > 1e-3
    assert abs((shears < 0).float().mean() - 0.5) < 0.02
    # The image keeps Beta(1, 1), and of the rest each chain's share is a margin of Dirichlet(1, 1, 1), Beta(1, 2).
    np.testing.assert_allclose(drawn.shares.sum(1), 1, atol=1e-6)
    assert stats.kstest(drawn.shares[:, 0], stats.uniform.cdf).pvalue > 1e-3
    of_rest = drawn.shares[:, 1:] / (1 - drawn.shares[:, :1])
    for chain in of_rest.T:
        assert stats.kstest(chain, stats.beta(1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", POLICIES)
def test_an_image_is_augmented_as_if_it_were_alone(name, images):
    """Chain after chain, operation after operation, on one image at a time; then the mixture in double precision."""
    policy = POLICIES[name]
    batch = images.repeat(20, 1, 1, 1)
    drawn = draw_chains(policy, len(batch), torch.Generator().manual_seed(1))
    made = augment(batch, drawn)
    assert made.dtype == torch.uint8
    for place in range(len(batch)):
        ends = []
        for chain in range(policy.chains):
            image = batch[place : place + 1]
            for step in range(policy.lengths[1]):
                number = int(drawn.operations[place, chain, step])
                if number:
                    image = policy.operations[number - 1][0](
                        image, drawn.magnitudes[place, chain, step : step + 1]
                    )
            ends.append(image[0].double())
        shares = drawn.shares[place].double()
        mixture = shares[0] * batch[place] + sum(
            share * end for share, end in zip(shares[1:], ends, strict=True)
        )
        assert (made[place] - mixture).abs().max() < 0.5001
    assert (made != batch).flatten(1).any(1).float().mean() > 0.5


def test_augmix_is_that_of_pillow_to_the_end_of_every_chain(images):
    """An error of one level in a turn would be a large one after a later equalization."""
    policy = POLICIES["augmix"]
    batch = images.repeat(20, 1, 1, 1)
    drawn = draw_chains(policy, len(batch), torch.Generator().manual_seed(2))
    names = ["autocontrast", "equalize", "posterize", "rotate", "solarize", *MATRICES]
    pillow = [
        partial(moved, n, resample=BILINEAR) if n in ("rotate", *MATRICES) else PILLOW[n][1] for n in names
    ]
    expected = []
    for place, image in enumerate(batch.numpy()):
        ends = [image]
        for numbers, magnitudes in zip(drawn.operations[place], drawn.magnitudes[place], strict=True):
            picture = Image.fromarray(image)
            for number, magnitude in zip(numbers.tolist(), magnitudes.tolist(), strict=True):
                picture = pillow[number - 1](magnitude)(picture) if number else picture
            ends.append(np.asarray(picture))
        expected.append(
            np.einsum("k,khwc->hwc", drawn.shares[place].double().numpy(), np.stack(ends).astype(float))
        )
    difference = np.abs(augment(batch, drawn).numpy() - np.stack(expected))
    assert (difference > 1).mean() < 1e-3


@pytest.mark.parametrize("name", POLICIES)
def test_without_reading_back_it_is_the_same(name, images, monkeypatch):
    batch = images.repeat(20, 1, 1, 1)
    drawn = draw_chains(POLICIES[name], len(batch), torch.Generator().manual_seed(1))
    expected = augment(batch, drawn)
    monkeypatch.setattr(augmentation, "_operate_on_each", augmentation._operate_on_all)
    assert torch.equal(augment(batch, drawn), expected)
