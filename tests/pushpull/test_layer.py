"""The layer against the formula of `reference.py`, and its behaviour as a module."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from pushpull import PushPull2d, pull_kernel, push_pull_conv2d
from tests.pushpull import reference

CASES = [
    # kernel, stride, padding, dilation, groups, scale, bias, train_alpha, dual_output
    ((3, 3), (1, 1), (1, 1), (1, 1), 1, 2.0, False, False, False),
    ((3, 3), (1, 1), (0, 0), (1, 1), 1, 2.0, True, False, False),
    ((5, 5), (2, 2), (2, 2), (1, 1), 1, 1.5, True, True, False),
    ((3, 3), (1, 2), (1, 0), (2, 1), 1, 2.0, True, False, False),
    ((3, 5), (2, 1), (3, 1), (1, 2), 2, 2.0, False, True, False),
    ((3, 3), (1, 1), (1, 1), (3, 3), 4, 2.0, True, False, False),
    ((5, 3), (3, 2), (0, 2), (1, 1), 2, 0.5, True, False, False),
    ((5, 5), (1, 1), (1, 0), (2, 1), 1, 0.5, True, True, False),
    ((3, 3), (1, 1), (1, 1), (1, 1), 1, 1.0, True, False, False),
    ((1, 1), (1, 1), (0, 0), (1, 1), 1, 2.0, True, False, False),
    ((1, 1), (2, 2), (1, 1), (1, 1), 2, 3.0, False, False, False),
    ((3, 3), (2, 2), (1, 1), (1, 1), 1, 3.0, True, False, True),
    ((3, 5), (1, 1), (2, 2), (2, 2), 2, 1.5, True, False, True),
]


def make(case, alpha=0.7, dtype=torch.float64, channels=(4, 8)) -> PushPull2d:
    kernel, stride, padding, dilation, groups, scale, bias, train_alpha, dual_output = case
    torch.manual_seed(0)
    layer = PushPull2d(
        *channels, kernel, stride, padding, dilation, groups, bias,
        alpha=alpha, scale=scale, train_alpha=train_alpha, dual_output=dual_output, dtype=dtype,
    )  # fmt: skip
    if train_alpha:  # values below zero, which forward rectifies, among them
        layer.alpha.data = torch.linspace(-0.5, 1.5, len(layer.alpha), dtype=dtype)
    return layer


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_formula(case):
    layer = make(case)
    x = torch.randn(2, 4, 11, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kernels = len(layer.weight)
    alpha = layer.alpha.detach().clamp(min=0).numpy() if layer.train_alpha else np.full(kernels, 0.7)
    bias = np.zeros(kernels) if layer.bias is None else layer.bias.detach().numpy()
    expected = reference.push_pull(
        x.numpy(), layer.weight.detach().numpy(), bias, layer.stride, layer.padding, layer.dilation, layer.groups,
        alpha, layer.scale, layer.dual_output,
    )  # fmt: skip
    got = layer(x)
    assert got.shape == nn.Conv2d(4, 8, *case[:5])(x.float()).shape
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", [CASES[1], CASES[4], CASES[7], CASES[11]], ids=str)
def test_gradient(case):
    layer = make(case, channels=(2, 4))  # few, since every value is changed by itself
    names, parameters = zip(*layer.named_parameters(), strict=True)
    x = torch.randn(
        1, 2, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True
    )

    def run(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    # alpha is held off the kink of its rectifier at zero, which finite differences cannot see past
    parameters = [
        p if n != "alpha" else torch.linspace(0.2, 1.5, len(p)).double() for n, p in layer.named_parameters()
    ]
    assert torch.autograd.gradcheck(run, (x, *(p.detach().requires_grad_() for p in parameters)))


def test_gradient_reaches_push_kernel_through_the_pull():
    layer = PushPull2d(1, 1, 3, padding=1, bias=False, dtype=torch.float64)
    layer.weight.data = torch.ones_like(layer.weight)
    layer(
        -torch.ones(1, 1, 9, 9, dtype=torch.float64)
    ).sum().backward()  # the push response is zero everywhere
    assert (layer.weight.grad > 0).all() or (layer.weight.grad < 0).all()


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        (3, 2, 7),
        (3, 1, 3),
        (3, 1.5, 5),
        (3, 1.7, 5),
        (5, 2, 11),
        (5, 0.5, 3),
        (3, 0.5, 1),
        (7, 2.5, 17),
        (1, 2, 3),
    ],
)
def test_pull_kernel_size(size, scale, expected):
    assert pull_kernel(torch.randn(2, 3, size, size), scale).shape == (2, 3, expected, expected)


def test_pull_kernel_is_upsampled_and_inverted():
    push = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
    ramp = 1 + torch.arange(7) / 3 + torch.arange(7)[:, None]  # a plane stays a plane
    torch.testing.assert_close(pull_kernel(push, 2)[0, 0], -ramp)


def test_alpha_zero_is_rectified_convolution():
    layer = PushPull2d(3, 8, 3, stride=2, padding=1, alpha=0)
    x = torch.randn(2, 3, 16, 16)
    expected = torch.conv2d(x, layer.weight, layer.bias, 2, 1).relu()
    torch.testing.assert_close(layer(x), expected)


def test_alpha_per_channel():
    alpha = torch.linspace(0, 2, 6)
    layer = PushPull2d(3, 6, 3, padding=1, alpha=alpha)
    x = torch.randn(2, 3, 9, 9)
    for channel, value in enumerate(alpha.tolist()):
        single = push_pull_conv2d(x, layer.weight, layer.bias, padding=1, alpha=value)
        torch.testing.assert_close(layer(x)[:, channel], single[:, channel])
    assert "alpha" in layer.state_dict() and "alpha" not in dict(layer.named_parameters())


def test_trained_alpha_starts_where_told_and_learns():
    layer = PushPull2d(3, 4, 3, alpha=0.5, train_alpha=True)
    assert layer.alpha.shape == (4,) and (layer.alpha == 0.5).all()
    layer(torch.randn(2, 3, 9, 9)).sum().backward()
    assert (layer.alpha.grad < 0).any()


@pytest.mark.parametrize("train_alpha", [False, True])
def test_parameters_are_those_of_the_convolution(train_alpha):
    names = {
        name: tuple(p.shape) for name, p in PushPull2d(3, 16, 3, train_alpha=train_alpha).named_parameters()
    }
    expected = {name: tuple(p.shape) for name, p in nn.Conv2d(3, 16, 3).named_parameters()}
    assert names == expected | ({"alpha": (16,)} if train_alpha else {})


def test_same_initialisation_as_convolution():
    torch.manual_seed(3)
    layer = PushPull2d(3, 16, 3)
    torch.manual_seed(3)
    convolution = nn.Conv2d(3, 16, 3)
    assert torch.equal(layer.weight, convolution.weight) and torch.equal(layer.bias, convolution.bias)


def test_without_batch_dimension():
    layer = PushPull2d(3, 4, 3, padding=1)
    x = torch.randn(3, 8, 8)
    torch.testing.assert_close(layer(x), layer(x[None])[0])


def test_a_learned_alpha_is_the_same_function_where_it_is_fixed():
    learned = PushPull2d(3, 4, 3, alpha=0.5, train_alpha=True)
    with torch.no_grad():
        learned.alpha.copy_(torch.tensor([-1.0, -0.5, 0.2, 0.3]))
    fixed = PushPull2d(3, 4, 3, alpha=torch.ones(4))
    state = learned.state_dict()
    fixed.load_state_dict(state)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(fixed(x), learned(x))
    assert torch.equal(state["alpha"], learned.alpha)  # as it was given


def test_copies_and_state_dict():
    layer = PushPull2d(3, 4, 3, alpha=0.3, scale=1.5, train_alpha=True)
    x = torch.randn(1, 3, 9, 9)
    other = PushPull2d(3, 4, 3, alpha=0.3, scale=1.5, train_alpha=True)
    other.load_state_dict(layer.state_dict())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), other):
        assert torch.equal(twin(x), layer(x))
    assert PushPull2d(3, 4, 3, device="meta")(torch.empty(1, 3, 9, 9, device="meta")).shape == (1, 4, 7, 7)


def test_refuses_even_kernels_at_construction():
    for kernel in (2, (3, 4), (4, 3)):
        with pytest.raises(ValueError, match="odd"):
            PushPull2d(3, 4, kernel)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": -1}, "alpha must be"),
        ({"alpha": float("nan")}, "alpha must be"),
        ({"alpha": torch.ones(3)}, r"shape \(4,\)"),
        ({"alpha": -torch.ones(4)}, ">= 0"),
        ({"scale": 0}, "scale must be"),
        ({"scale": -2}, "scale must be"),
        ({"scale": float("inf")}, "scale must be"),
        ({"groups": 2}, "groups=2"),
        ({"padding": "same", "stride": 2}, "padding"),
        ({"padding": "reflect"}, "padding"),
        ({"dual_output": True, "train_alpha": True}, "nothing to train"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PushPull2d(3, 4, 3, **arguments)
    with pytest.raises(ValueError, match="even number"):
        PushPull2d(3, 5, 3, dual_output=True)


def test_response_to_preferred_stimulus_is_kept_and_to_noise_is_lowered():
    """The aim of the layer (paper, section 3.1): less response to noise than the rectified convolution gives."""
    bar = torch.tensor([[-1.0, 2.0, -1.0]]).expand(3, 3)[None, None]
    noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    line = torch.zeros(1, 1, 64, 64)
    line[..., 32] = 1
    rectified = {
        name: torch.conv2d(x, bar, padding=1).relu().sum() for name, x in (("line", line), ("noise", noise))
    }
    inhibited = {
        name: push_pull_conv2d(x, bar, padding=1).relu().sum()
        for name, x in (("line", line), ("noise", noise))
    }
    assert inhibited["noise"] / rectified["noise"] < 0.8 * inhibited["line"] / rectified["line"]


def test_every_combination_keeps_the_shape_of_the_convolution():
    x = torch.randn(1, 2, 17, 15)
    for kernel, stride, padding, dilation, scale in itertools.product(
        (1, 3, 5), (1, 2), (0, 2), (1, 2), (0.5, 1, 1.5, 2, 3)
    ):
        layer = PushPull2d(2, 2, kernel, stride, padding, dilation, scale=scale)
        assert layer(x).shape == torch.conv2d(x, layer.weight, None, stride, padding, dilation).shape


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name(padding):
    torch.manual_seed(0)
    x, weight = torch.randn(1, 2, 9, 12), torch.randn(3, 2, 3, 5)
    convolution = torch.nn.Conv2d(2, 3, (3, 5), padding=padding, dilation=(1, 2), bias=False)
    layer = PushPull2d(2, 3, (3, 5), padding=padding, dilation=(1, 2), bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    assert layer(x).shape == convolution(x).shape
    by_function = push_pull_conv2d(x, weight, padding=padding, dilation=(1, 2))
    assert torch.equal(layer(x), by_function)


def test_integers_of_numpy():
    one, sides = np.int64(1), np.array([3, 5])
    layer = PushPull2d(
        np.int64(2), np.int64(3), sides, one, np.int32(1), (one, one), one, alpha=np.float32(0.5)
    )
    x = torch.randn(1, 2, 9, 8)
    assert layer.kernel_size == (3, 5) and type(layer.kernel_size[0]) is int
    expected = push_pull_conv2d(x, layer.weight, layer.bias, 1, 1, alpha=0.5)
    assert torch.equal(layer(x), expected)
    assert torch.equal(push_pull_conv2d(x, layer.weight, layer.bias, one, one, one, alpha=0.5), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": [1.0] * 4}, TypeError, r"alpha must be a number or a tensor of shape \(4,\), got \[1.0"),
        ({"alpha": None}, TypeError, "alpha must be a number or a tensor"),
        ({"alpha": torch.tensor([1, 1, 1, float("inf")])}, ValueError, "alpha must be finite and >= 0"),
        ({"alpha": torch.tensor(float("nan"))}, ValueError, "alpha must be finite and >= 0"),
        ({"stride": 1.5}, TypeError, "stride must be an integer or 2 integers, got 1.5"),
        ({"padding": (1, 1, 1)}, ValueError, "padding must be an integer or 2 integers"),
        ({"padding": "full"}, ValueError, 'pixels, "same" or "valid", got \'full\''),
        ({"kernel_size": "3"}, ValueError, "kernel_size must be an integer or 2 integers"),
        ({"kernel_size": -1}, ValueError, "kernel_size must be at least 1, got -1"),
        ({"kernel_size": (3, 0)}, ValueError, r"kernel_size must be at least 1, got \(3, 0\)"),
        ({"padding_mode": "reflect"}, TypeError, "unexpected keyword argument 'padding_mode'"),
    ],
)
def test_one_clear_line(arguments, error, message):
    with pytest.raises(error, match=message):
        PushPull2d(**({"in_channels": 2, "out_channels": 4, "kernel_size": 3} | arguments))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"stride": (1, -1)}, ValueError, r"stride must be at least 1, got \(1, -1\)"),
        ({"dilation": 0}, ValueError, "dilation must be at least 1, got 0"),
        ({"padding": -1}, ValueError, "padding must be at least 0, got -1"),
        ({"scale": "2"}, TypeError, "scale must be a number, got '2'"),
        ({"scale": None}, TypeError, "scale must be a number, got None"),
    ],
)
def test_one_clear_line_of_the_layer_and_the_function(arguments, error, message):
    with pytest.raises(error, match=message):
        PushPull2d(2, 4, 3, **arguments)
    with pytest.raises(error, match=message):
        push_pull_conv2d(torch.zeros(1, 2, 9, 9), torch.zeros(4, 2, 3, 3), **arguments)


@pytest.mark.parametrize("shape", [(3, 2), (3,), (1, 1, 3, 3, 3, 3)])
def test_a_pull_kernel_needs_sides(shape):
    with pytest.raises(ValueError, match="one to three sides"):
        pull_kernel(torch.ones(shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_upsampling_is_float32_in_autocast(dtype):
    weight = torch.randn(4, 2, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pull_kernel(weight), pull_kernel(weight))
        inside = pull_kernel(weight.to(dtype))
    assert torch.equal(inside, pull_kernel(weight.to(dtype)))


@pytest.mark.parametrize("sides", [(3, 3), (1, 5), (7, 3)])
@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0, 3.4])
def test_upsampling_is_that_of_interpolate(sides, scale):
    weight = torch.randn(4, 2, *sides, requires_grad=True)
    kernel = pull_kernel(weight, scale)
    expected = -torch.nn.functional.interpolate(weight, kernel.shape[2:], mode="bilinear", align_corners=True)
    torch.testing.assert_close(kernel, expected, rtol=1e-5, atol=1e-6)
    gradient = torch.randn_like(kernel)
    (got,), (wanted,) = (torch.autograd.grad(k, weight, gradient) for k in (kernel, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
