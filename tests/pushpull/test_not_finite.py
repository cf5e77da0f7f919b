"""What is not finite comes out of every path as it does of two convolutions, rectified and subtracted."""

import pytest
import torch
from torch.nn import functional as F

from pushpull import fast, push_pull_conv2d

# Where a path is taken: the separable one from LEAST_SAVED on, without a gradient in blocks; two images stay below it.
PATHS = {"plain": 2, "separable": 40, "in blocks": 40}


def written_out(x, weight, bias, alpha):
    pull = -F.interpolate(weight, size=(7, 7), mode="bilinear", align_corners=True)
    push = F.conv2d(x, weight, bias, padding=1)
    push = torch.where(push.isnan(), push, push.clamp(min=0))
    pull = F.conv2d(x, pull, -bias, padding=3)
    pull = torch.where(pull.isnan(), pull, pull.clamp(min=0))
    return push - alpha.view(-1, 1, 1) * pull


def arguments(images: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "input": torch.randn(images, 3, 32, 32),
        "weight": torch.randn(16, 3, 3, 3),
        "bias": torch.randn(16),
        "alpha": torch.full((16,), 0.7),
    }


def spoil(values: dict[str, torch.Tensor], where: str, what: float) -> None:
    place = {"input": (1, 0, 9, 9), "weight": (4, 1, 1, 1), "bias": (4,), "alpha": (4,)}[where]
    values[where][place] = what


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("what", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["input", "weight", "bias", "alpha"])
def test_comes_out(monkeypatch, one_thread, path, where, what):
    monkeypatch.setattr(fast, "BLOCK", 16 * 8 * 32 * 32)
    values = arguments(PATHS[path])
    spoil(values, where, what)
    values = {name: value.requires_grad_(path != "in blocks") for name, value in values.items()}
    got = push_pull_conv2d(**{**values, "padding": 1})
    expected = written_out(values["input"], values["weight"], values["bias"], values["alpha"])
    # In a weight it spoils more of the pull kernel than of the push kernel, by which way it is upsampled.
    spoilt = ~expected.isfinite()
    assert spoilt.any() and (~got.isfinite())[spoilt].all()
    if where != "weight":
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4, equal_nan=True)
    if path == "in blocks":
        return
    gradients = torch.autograd.grad(got.sum(), tuple(values.values()))
    wanted = torch.autograd.grad(expected.sum(), tuple(values.values()))
    for name, found, formula in zip(values, gradients, wanted, strict=True):
        assert (~found.isfinite())[~formula.isfinite()].all(), name


@pytest.mark.parametrize("images", [2, 40])
def test_a_gradient_that_is_not_a_number_reaches_the_weights(one_thread, images):
    values = {name: value.requires_grad_() for name, value in arguments(images).items()}
    output = push_pull_conv2d(**values, padding=1)
    gradient = torch.ones_like(output)
    gradient[1, 4] = float("nan")
    for name, found in zip(
        values, torch.autograd.grad(output, tuple(values.values()), gradient), strict=True
    ):
        assert found[1 if name == "input" else 4].isnan().any(), name
