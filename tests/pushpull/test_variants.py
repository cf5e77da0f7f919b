"""Layers of one and three sides, and other rectifiers, against scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from pushpull import PushPull1d, PushPull2d, PushPull3d, pull_kernel, push_pull_conv2d
from tests.pushpull.reference import hats


def respond(x, weight, bias, alpha, scale, rectifier=lambda y: np.maximum(y, 0)):
    """Response of x (C, ...) to weight (O, C, ...) with the padding that keeps the size."""
    outputs = []
    for kernel, b, a in zip(weight, bias, alpha, strict=True):
        responses = []
        for sign in (1, -1):
            total = sign * b
            for channel, k in zip(x, kernel, strict=True):
                if sign < 0:
                    for axis in range(k.ndim):
                        k = np.moveaxis(np.tensordot(hats(k.shape[axis], scale), k, (1, axis)), 0, axis)
                total = total + ndimage.correlate(channel, sign * k, mode="constant")
            responses.append(rectifier(total))
        outputs.append(responses[0] - a * responses[1])
    return np.stack(outputs)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize(
    ("kind", "kernel", "sides"),
    [(PushPull1d, 3, (11,)), (PushPull2d, (3, 5), (9, 8)), (PushPull3d, (1, 3, 5), (5, 6, 7))],
)
def test_every_number_of_sides(kind, kernel, sides, scale):
    torch.manual_seed(0)
    kernel = (kernel,) * len(sides) if isinstance(kernel, int) else kernel
    alpha = torch.tensor([0.0, 0.5, 1.3], dtype=torch.float64)
    layer = kind(
        2, 3, kernel, padding=tuple(k // 2 for k in kernel), alpha=alpha, scale=scale, dtype=torch.float64
    )
    x = torch.randn(2, 2, *sides, dtype=torch.float64)
    weight, bias = (p.detach().numpy() for p in (layer.weight, layer.bias))
    expected = [respond(image, weight, bias, alpha.numpy(), scale) for image in x.numpy()]
    np.testing.assert_allclose(layer(x).detach().numpy(), np.stack(expected), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(layer(x[0]), layer(x)[0])


@pytest.mark.parametrize(("kind", "convolution"), [(PushPull1d, nn.Conv1d), (PushPull3d, nn.Conv3d)])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_shape_and_parameters_of_the_convolution(kind, convolution, scale):
    sides = (13,) * kind.dimensions
    arguments = (4, 8, 3, 2, 1, 2, 2)
    layer, conv = kind(*arguments, scale=scale), convolution(*arguments)
    x = torch.randn(1, 4, *sides)
    assert layer(x).shape == conv(x).shape
    assert {n: p.shape for n, p in layer.named_parameters()} == {
        n: p.shape for n, p in conv.named_parameters()
    }
    dual = kind(*arguments, scale=scale, dual_output=True)
    assert dual(x).shape == conv(x).shape


def test_a_number_of_sides_that_does_not_fit():
    with pytest.raises(ValueError, match="kernel_size must be an integer or 1 integers"):
        PushPull1d(1, 1, (3, 3))
    with pytest.raises(ValueError, match="stride must be an integer or 3 integers"):
        PushPull3d(1, 1, 3, (1, 2))


@pytest.mark.parametrize(
    ("rectifier", "function"),
    [("tanh", np.tanh), (nn.Softplus(), lambda y: np.logaddexp(0, y)), ("relu", None)],
)
def test_rectifiers(rectifier, function):
    torch.manual_seed(0)
    layer = PushPull2d(2, 3, 3, padding=1, alpha=0.4, rectifier=rectifier, dtype=torch.float64)
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    weight, bias = (p.detach().numpy() for p in (layer.weight, layer.bias))
    function = {} if function is None else {"rectifier": function}
    expected = respond(x[0].numpy(), weight, bias, np.full(3, 0.4), 2.0, **function)
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_with_an_odd_rectifier_the_pull_response_adds():
    kernel, x = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 9, 9)
    without = push_pull_conv2d(x, kernel, padding=1, alpha=0, rectifier="tanh")
    assert (push_pull_conv2d(x, kernel, padding=1, alpha=1, rectifier="tanh") > without).all()


def test_unknown_rectifier():
    with pytest.raises(ValueError, match="one of relu, tanh, got 'gelu'"):
        PushPull2d(1, 1, 3, rectifier="gelu")


@pytest.mark.parametrize("kind", [PushPull1d, PushPull3d])
def test_pull_kernel_of_a_constant_is_constant(kind):
    kernel = pull_kernel(torch.ones(1, 1, *(3,) * kind.dimensions), 2)
    torch.testing.assert_close(kernel, -torch.ones(1, 1, *(7,) * kind.dimensions))
