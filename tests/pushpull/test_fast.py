"""The separable path: when it is taken, what it leaves as it was; and the kept kernel."""

import copy
import pickle

import pytest
import torch
from torch import nn

from pushpull import PushPull2d, fast, functional, pull_kernel

BATCH = (40, 3, 32, 32)


def layer_and_batch(channels: int = 3, **options) -> tuple[PushPull2d, torch.Tensor]:
    torch.manual_seed(0)
    layer = PushPull2d(channels, 8, 3, padding=1, **options)
    return layer, torch.randn(40, channels, 32, 32)


@pytest.fixture
def taken(monkeypatch) -> list[int]:
    """Grows by one at every call of the separable path."""
    calls, original = [], fast.push_pull

    def counted(*arguments):
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(fast, "push_pull", counted)
    return calls


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("alpha", [0.7, "trained"])
def test_equals_the_plain_path(monkeypatch, one_thread, taken, layout, channels, alpha):
    options = {"train_alpha": True, "alpha": 0.7} if alpha == "trained" else {"alpha": alpha}
    layer, batch = layer_and_batch(channels, **options)
    batch = batch.contiguous(memory_format=layout).requires_grad_()
    monkeypatch.setattr(fast, "BLOCK", 16 * 8 * 32 * 32)  # without a gradient, 16 images at a time, then 8
    inputs = (batch, *layer.parameters())
    output = layer(batch)
    assert len(taken) == 1
    gradients = torch.autograd.grad(output.square().sum(), inputs)
    with torch.no_grad():
        in_blocks = layer(batch)
    torch.testing.assert_close(in_blocks, output)
    assert in_blocks.stride() == output.stride()
    monkeypatch.setattr(fast, "LEAST_SAVED", float("inf"))
    expected = layer(batch)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    assert output.stride() == expected.stride()
    assert len(taken) == 2
    for got, plain in zip(gradients, torch.autograd.grad(expected.square().sum(), inputs), strict=True):
        torch.testing.assert_close(got, plain, rtol=1e-3, atol=1e-3)


def test_the_second_derivative_is_that_of_the_plain_path(monkeypatch, one_thread, taken):
    layer, batch = layer_and_batch(train_alpha=True)
    batch = batch.requires_grad_()
    inputs = (batch, *layer.parameters())

    def penalty() -> list[torch.Tensor]:
        output = layer(batch)
        gradients = torch.autograd.grad(output.pow(3).sum() / 1e3, inputs, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs)

    fast_path = penalty()
    assert len(taken) == 1
    monkeypatch.setattr(fast, "LEAST_SAVED", float("inf"))
    for got, expected in zip(fast_path, penalty(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


@pytest.mark.parametrize("channels", [3, 16])
def test_several_gradients_at_once(one_thread, taken, channels):
    """What `torch.autograd.functional.jacobian(..., vectorize=True)` asks for."""
    torch.manual_seed(0)
    layer = PushPull2d(channels, 16, 3, padding=1, train_alpha=True)
    x = torch.randn(32, channels, 32, 32, requires_grad=True)
    wanted = (x, *layer.parameters())
    output = layer(x)
    assert taken[-1]
    gradients = torch.randn(2, *output.shape)
    together = torch.autograd.grad(output, wanted, gradients, is_grads_batched=True, retain_graph=True)
    for index, gradient in enumerate(gradients):
        each = torch.autograd.grad(output, wanted, gradient, retain_graph=True)
        for found, expected in zip(together, each, strict=True):
            assert not found.requires_grad
            torch.testing.assert_close(found[index], expected, rtol=1e-3, atol=1e-2)


def test_the_same_bits_every_time(one_thread, taken):
    layer, batch = layer_and_batch(channels=16)

    def run() -> list[torch.Tensor]:
        output = layer(batch)
        return [output, *torch.autograd.grad(output.square().sum(), tuple(layer.parameters()))]

    first = run()
    assert all(torch.equal(a, b) for _ in range(3) for a, b in zip(first, run(), strict=True))
    assert len(taken) == 4


def test_a_frozen_layer_gives_the_gradient_of_its_input_alone(one_thread, taken):
    layer, batch = layer_and_batch()
    layer.requires_grad_(False)
    batch = batch.requires_grad_()
    layer(batch).sum().backward()
    assert taken and batch.grad is not None and layer.weight.grad is None


@pytest.mark.parametrize(
    ("options", "batch"),
    [
        ({"dtype": torch.float64}, torch.ones(BATCH, dtype=torch.float64)),
        ({"device": "meta"}, torch.ones(BATCH, device="meta")),
        ({"scale": 1.0}, torch.ones(BATCH)),
        ({"scale": 0.5}, torch.ones(BATCH)),
        ({"dual_output": True}, torch.ones(BATCH)),
        ({"rectifier": "tanh"}, torch.ones(BATCH)),
        ({}, torch.ones(1, 3, 32, 32)),
        ({}, torch.ones(3, 200, 200)),
        ({}, torch.ones(5, 3, 200, 200)),  # tall
        ({"in_channels": 16, "groups": 2}, torch.ones(40, 16, 32, 32)),
    ],
)
def test_what_it_was_not_measured_for_takes_the_plain_path(taken, options, batch):
    layer = PushPull2d(**({"in_channels": 3, "out_channels": 8, "kernel_size": 3, "padding": 1} | options))
    assert layer(batch).shape[-2:] == batch.shape[-2:]
    assert not taken


class TestKeptKernel:
    @pytest.fixture
    def derived(self, monkeypatch) -> list[int]:
        """Grows by one at every upsampling of a push kernel."""
        calls, original = [], fast.upsample

        def counted(*arguments):
            calls.append(1)
            return original(*arguments)

        monkeypatch.setattr(fast, "upsample", counted)
        monkeypatch.setattr(functional, "upsample", counted)
        return calls

    @pytest.mark.parametrize("images", [1, 40])  # the plain path and the separable one
    def test_is_derived_once_in_eval_mode(self, one_thread, derived, images):
        layer, batch = layer_and_batch()
        with torch.no_grad():
            expected = layer(batch[:images])
            layer.eval()
            before = len(derived)
            for _ in range(3):
                assert torch.equal(layer(batch[:images]), expected)
        assert len(derived) == before + 1

    @pytest.mark.parametrize(
        "change",
        [
            lambda layer: layer.weight.data.mul_(2),
            lambda layer: layer.weight.mul_(2),
            lambda layer: setattr(layer.weight, "data", 2 * layer.weight.data),
            lambda layer: layer.load_state_dict({n: 2 * t for n, t in layer.named_parameters()}),
            lambda layer: setattr(layer, "scale", 3.0),
            lambda layer: layer.double(),
        ],
    )
    def test_follows_every_change(self, change):
        layer, batch = layer_and_batch()
        layer.eval()
        with torch.no_grad():
            layer(batch[:1])
            change(layer)
            batch = batch[:1].to(layer.weight.dtype)
            assert torch.equal(layer(batch), layer.train()(batch))

    def test_does_not_cut_the_gradient(self):
        layer, batch = layer_and_batch()
        layer.eval()
        with torch.inference_mode():
            layer(batch[:1])
        (got,) = torch.autograd.grad(layer(batch[:1]).sum(), layer.weight)
        (expected,) = torch.autograd.grad(layer.train()(batch[:1]).sum(), layer.weight)
        assert torch.equal(got, expected)

    def test_made_in_inference_mode_it_serves_a_graph(self, one_thread):
        layer, batch = layer_and_batch()
        layer.eval().requires_grad_(False)
        with torch.inference_mode():
            layer(batch[:1])
        batch = batch[:1].requires_grad_()
        layer(batch).sum().backward()
        assert batch.grad.abs().sum() > 0

    def test_is_not_copied_saved_or_part_of_the_state(self):
        layer, batch = layer_and_batch()
        layer.eval()
        fresh = len(pickle.dumps(layer))
        with torch.no_grad():
            layer(batch[:1])
        assert len(pickle.dumps(layer)) == fresh
        assert set(layer.state_dict()) == {"weight", "bias", "_extra_state"}
        twin = copy.deepcopy(layer)
        assert twin._kernels is not layer._kernels
        with torch.no_grad():
            nn.init.ones_(twin.weight)
            kernel = pull_kernel(twin.weight)
            expected = torch.relu(torch.conv2d(batch[:1], kernel, -twin.bias, padding=3))
            push = torch.relu(torch.conv2d(batch[:1], twin.weight, twin.bias, padding=1))
            torch.testing.assert_close(twin(batch[:1]), push - expected)
