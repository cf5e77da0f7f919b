"""Every path of the response, value and gradient, against float64 loops over shapes that hypothesis draws."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pushpull import fast, push_pull_conv2d
from pushpull.geometry import place
from tests.pushpull import reference

DRAWS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}


@st.composite
def calls(draw, separable: bool):
    """Arguments of a push-pull response. With `separable`, such that the separable path takes them."""
    sides = st.sampled_from((1, 3, 5))
    kernel = draw(st.tuples(sides, sides))
    stride, dilation = (draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) for _ in range(2))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    scale = draw(st.sampled_from((0.5, 0.8, 1.0, 1.5, 2.0, 2.4, 3.0)))
    groups = 1 if separable else draw(st.integers(1, 3))
    in_channels = draw(st.sampled_from((1, 3, 8))) if separable else groups * draw(st.integers(1, 2))
    out_channels = groups * draw(st.integers(1, 2))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [max(draw(st.integers(1, 8)), r - 2 * p) for r, p in zip(reach, padding, strict=True)]
    return {
        "shape": (draw(st.integers(1, 3)), in_channels, *size),
        "weight": (out_channels, in_channels // groups, *kernel),
        "geometry": (stride, padding, dilation, groups),
        "scale": scale,
        "alpha": draw(st.sampled_from((0.0, 0.3, 1.0, 2.0, "tensor"))),
        "bias": draw(st.booleans()),
        "layout": draw(st.sampled_from((torch.contiguous_format, torch.channels_last))),
        "dtype": torch.float32 if separable else draw(st.sampled_from((torch.float32, torch.float64))),
        "seed": draw(st.integers(0, 2**31)),
    }


def check(call, separable: bool) -> None:
    rng = np.random.default_rng(call["seed"])
    x, weight = rng.normal(size=call["shape"]), rng.normal(size=call["weight"])
    bias = rng.normal(size=len(weight)) if call["bias"] else np.zeros(len(weight))
    alpha = (
        rng.uniform(0, 2, len(weight)) if call["alpha"] == "tensor" else np.full(len(weight), call["alpha"])
    )
    stride, padding, dilation, groups = call["geometry"]

    def tensor(array, layout=torch.contiguous_format):
        return torch.tensor(array, dtype=call["dtype"]).contiguous(memory_format=layout).requires_grad_()

    inputs = [tensor(x, call["layout"]), tensor(weight)]
    inputs += [tensor(bias)] if call["bias"] else []
    inputs += [tensor(alpha)] if call["alpha"] == "tensor" else []
    strength = inputs[-1] if call["alpha"] == "tensor" else call["alpha"]
    arguments = (*inputs[:2], inputs[2] if call["bias"] else None)
    geometry = place(weight.shape[2:], stride, padding, dilation, call["scale"])
    assume(not separable or min(geometry.pull_padding) >= 0)
    assert fast.suits(*arguments, strength, groups, geometry) == separable
    got = push_pull_conv2d(*arguments, stride, padding, dilation, groups, alpha=strength, scale=call["scale"])

    formula = (x, weight, bias, stride, padding, dilation, groups, alpha, call["scale"])
    expected = reference.push_pull(*formula)
    # The rounding grows with the number of products, as does the response.
    tolerance = {"rtol": TOLERANCE[call["dtype"]], "atol": TOLERANCE[call["dtype"]]}
    assume(expected.size > 0)
    np.testing.assert_allclose(got.detach().numpy(), expected, **tolerance)

    # Rounding can carry a response over the kink of its rectifier: no gradient is asked for next to it.
    *gradients, left = reference.push_pull_backward(
        *formula, rng.normal(size=expected.shape), margin=1e-3 if call["dtype"] == torch.float32 else 0
    )
    on = (True, True, call["bias"], call["alpha"] == "tensor")
    wanted = [gradient for gradient, needed in zip(gradients, on, strict=True) if needed]
    found = torch.autograd.grad(got, inputs, torch.tensor(left, dtype=call["dtype"]))
    for gradient, formula_gradient in zip(found, wanted, strict=True):
        np.testing.assert_allclose(gradient.numpy(), formula_gradient, **tolerance)


@DRAWS
@given(calls(separable=False))
def test_plain_path(monkeypatch, call):
    monkeypatch.setattr(fast, "LEAST_SAVED", float("inf"))
    check(call, separable=False)


@DRAWS
@given(calls(separable=True))
def test_separable_path(monkeypatch, one_thread, call):
    monkeypatch.setattr(fast, "LEAST_SAVED", float("-inf"))
    check(call, separable=True)


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("least_saved", [float("-inf"), float("inf")])
def test_every_path_refuses_a_negative_alpha(monkeypatch, alpha, least_saved):
    monkeypatch.setattr(fast, "LEAST_SAVED", least_saved)
    with pytest.raises(ValueError, match="alpha must be a finite number >= 0"):
        push_pull_conv2d(torch.ones(1, 3, 9, 9), torch.ones(4, 3, 3, 3), alpha=alpha)
