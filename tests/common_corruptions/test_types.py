"""The types of the public names, for who checks a program of theirs: `make lint` reads this file, and it runs too."""

import io
from typing import Any, assert_type

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from common_corruptions import CORRUPTIONS, Corrupt, CorruptedDataset, corrupt, corruption, perturb
from common_corruptions.metrics import flip_probability

ARRAY: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
PICTURE = Image.fromarray(ARRAY[0])
TENSOR = torch.from_numpy(ARRAY).movedim(-1, -3)


def test_corrupt_returns_what_it_is_given() -> None:
    assert assert_type(corrupt(ARRAY, "contrast"), NDArray[np.uint8]).dtype == np.uint8
    assert isinstance(assert_type(corrupt(PICTURE, "contrast", severity=1, seed=2), Image.Image), Image.Image)
    assert isinstance(assert_type(corrupt(TENSOR, "contrast"), Tensor), Tensor)
    with io.BytesIO() as file:
        PICTURE.save(file, "PNG")
        opened = Image.open(file)
        assert type(assert_type(corrupt(opened, "contrast"), Image.Image)) is Image.Image
        assert type(assert_type(corrupt([opened], "contrast"), list[Image.Image])[0]) is Image.Image
    assert isinstance(assert_type(corrupt([PICTURE], "contrast"), list[Image.Image])[0], Image.Image)
    assert isinstance(assert_type(corrupt([ARRAY], "contrast"), list[NDArray[np.uint8]])[0], np.ndarray)
    assert isinstance(assert_type(corrupt((TENSOR,), "contrast"), tuple[Tensor])[0], Tensor)


def test_perturb_makes_sequences_of_it() -> None:
    assert assert_type(perturb(ARRAY, "scale"), NDArray[np.uint8]).ndim == 5
    assert isinstance(assert_type(perturb(PICTURE, "scale"), list[Image.Image])[0], Image.Image)
    assert assert_type(perturb(TENSOR, "scale"), Tensor).ndim == 5
    assert isinstance(assert_type(perturb([PICTURE], "scale"), list[list[Image.Image]])[0][0], Image.Image)
    assert isinstance(assert_type(perturb([ARRAY], "scale"), list[NDArray[np.uint8]])[0], np.ndarray)


def test_what_is_refused_is_of_another_type() -> None:
    with pytest.raises(TypeError, match="must be uint8"):
        corrupt(ARRAY / 255, "contrast")  # type: ignore[type-var]
    with pytest.raises(TypeError, match="must be a NumPy array"):
        corrupt("picture.png", "contrast")  # type: ignore[call-overload]


def test_a_corruption_stays_the_function_that_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from common_corruptions.recipes import registry

    monkeypatch.setattr(registry, "_declared", dict(registry._declared))

    @corruption("upside_down", group="digital", constants=((1,), (1,), (1,), (1,), (1,)))
    def flipped(images: NDArray[np.uint8], draws: Any, step: int) -> NDArray[np.uint8]:
        return images[:, ::-step]

    assert np.array_equal(assert_type(flipped(ARRAY, None, 1), NDArray[np.uint8])[:, ::-1], ARRAY)


def test_the_rest() -> None:
    assert assert_type(CORRUPTIONS, tuple[str, ...])
    assert assert_type(flip_probability(np.zeros((2, 3), np.intp)), float) == 0
    assert assert_type(len(CorruptedDataset(list(ARRAY), "fog")), int) == 2
    assert isinstance(Corrupt("fog", severity=2)(PICTURE), Image.Image)
