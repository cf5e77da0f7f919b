"""What the nets compute: initialisation, blocks, low-pass filters, memory-efficient DenseNets."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nets import create_net
from nets.densenet import DenseNet
from nets.lowpass import LowPass
from nets.wide_resnet import WideResNet


@pytest.mark.parametrize("name", ["resnet20", "densenet100_12"])
def test_kernels_start_with_the_variance_of_he(name):
    torch.manual_seed(0)
    net = create_net(name, pushpull="first")
    for key, weight in net.named_parameters():
        if weight.ndim == 4 and weight.numel() > 2000:
            out_channels, _, height, width = weight.shape
            assert weight.std().item() == pytest.approx(
                (2 / (out_channels * height * width)) ** 0.5, rel=0.1
            ), key
            assert abs(weight.mean().item()) < 0.1 * weight.std().item(), key
        elif weight.ndim == 1 and ("bn" in key or "norm" in key):
            assert torch.equal(weight.detach(), torch.full_like(weight, float(key.endswith("weight"))))


def test_a_resnet_layer_by_layer():
    torch.manual_seed(0)
    net = create_net("resnet14").eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    state, images = net.state_dict(), torch.randn(2, 3, 32, 32)

    def conv_norm(x, conv, norm, stride=1):
        weight = state[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var, scale, shift = (
            state[f"{norm}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = conv_norm(images, "conv1", "bn1").relu()
    for stage in (1, 2, 3):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            shrinks = stage > 1 and block == 0
            out = conv_norm(x, f"{name}.conv1", f"{name}.bn1", 2 if shrinks else 1).relu()
            out = conv_norm(out, f"{name}.conv2", f"{name}.bn2")
            if shrinks:
                x = conv_norm(x, f"{name}.downsample.0", f"{name}.downsample.1", 2)
            x = (x + out).relu()
    expected = x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("side", [8, 9])
def test_low_pass_filter(size, side):
    row = np.ones(1)
    for _ in range(size - 1):  # each convolution with [1 1] is a row of Pascal's triangle
        row = np.convolve(row, [0.5, 0.5])
    images = np.random.default_rng(0).normal(size=(2, 3, side, side))
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    padded = np.pad(images, ((0, 0), (0, 0), (before, after), (before, after)), mode="reflect")
    expected = np.zeros_like(images)
    for i in range(size):
        for j in range(size):
            expected += row[i] * row[j] * padded[..., i : i + side, j : j + side]
    result = LowPass(3, size).double()(torch.from_numpy(images))
    np.testing.assert_allclose(result.numpy(), expected[..., ::2, ::2], rtol=1e-6, atol=1e-8)


def test_low_pass_filters_stand_before_every_stride():
    plain, filtered = create_net("resnet14"), create_net("resnet14", lpf_size=3)
    assert [module.stride for module in filtered.modules() if isinstance(module, nn.Conv2d)] == [(1, 1)] * 15
    filters = [name for name, module in filtered.named_modules() if isinstance(module, LowPass)]
    assert filters == [f"layer{s}.0.{part}.0" for s in (2, 3) for part in ("conv1", "downsample")]
    assert sum(p.numel() for p in filtered.parameters()) == sum(p.numel() for p in plain.parameters())
    # A constant filter is no weight: files do not hold it.
    assert sum(v.numel() for v in filtered.state_dict().values()) == sum(
        v.numel() for v in plain.state_dict().values()
    )
    bottleneck = create_net("resnet50", lpf_size=5)
    assert {module.stride for module in bottleneck.modules() if isinstance(module, nn.Conv2d)} == {(1, 1)}


def test_low_pass_filters_reduce_the_change_that_a_shift_makes():
    torch.manual_seed(0)
    images = F.interpolate(torch.randn(16, 3, 16, 16), size=(48, 48), mode="bilinear")
    windows = images[..., 8:40, 8:40], images[..., 8:40, 9:41]
    changes = {}
    for size in (1, 3, 5):
        torch.manual_seed(1)
        net = create_net("resnet14", lpf_size=size).eval()
        with torch.no_grad():
            one, other = (net(window) for window in windows)
        changes[size] = ((one - other).norm() / one.norm()).item()
    assert changes[5] < changes[3] < changes[1]


class TestMemoryEfficientDenseNet:
    @pytest.fixture(scope="class")
    def passes(self):
        """Logits, gradients, running statistics and bytes stored for backward, plain and memory-efficient."""
        torch.manual_seed(0)
        images = torch.randn(4, 3, 16, 16)
        plain = DenseNet(40, 12)
        efficient = DenseNet(40, 12, memory_efficient=True)
        efficient.load_state_dict(copy.deepcopy(plain.state_dict()))
        results = []
        for net in (plain, efficient):
            stored = {}

            def keep(tensor, stored=stored):
                stored[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                logits = net(images)
            logits.square().sum().backward()
            gradients = {key: value.grad for key, value in net.named_parameters()}
            results.append((logits.detach(), gradients, dict(net.named_buffers()), sum(stored.values())))
        return results

    def test_computes_the_same(self, passes):
        (logits, gradients, _, _), (logits_efficient, gradients_efficient, _, _) = passes
        torch.testing.assert_close(logits_efficient, logits)
        for key in gradients:
            torch.testing.assert_close(gradients_efficient[key], gradients[key], rtol=1e-4, atol=1e-6)

    def test_counts_every_batch_once_in_the_running_statistics(self, passes):
        (_, _, buffers, _), (_, _, buffers_efficient, _) = passes
        for key in buffers:
            torch.testing.assert_close(buffers_efficient[key], buffers[key])
        assert buffers_efficient["features.denseblock2.denselayer1.norm1.num_batches_tracked"] == 1

    def test_stores_less(self, passes):
        assert passes[1][3] < 0.6 * passes[0][3]

    def test_is_an_option_of_create_net(self):
        assert create_net(
            "densenet40_12", memory_efficient=True
        ).features.denseblock1.denselayer1.memory_efficient


def test_dense_stem_is_linear_and_has_24_channels():
    net = create_net("densenet100_24")
    assert [name for name, _ in net.features.named_children()][:2] == ["conv0", "denseblock1"]
    assert net.features.conv0.out_channels == 24
    assert net.features.transition1.conv.out_channels == (24 + 16 * 24) // 2


def test_depths_that_do_not_exist():
    with pytest.raises(ValueError, match="6 n \\+ 4"):
        DenseNet(42, 12)
    with pytest.raises(ValueError, match="6 n \\+ 4"):
        WideResNet(20, 4)


def test_a_wide_resnet_block():
    torch.manual_seed(0)
    net = WideResNet(10, 1).eval()
    block = net.block2.layer[0]
    x = torch.randn(2, 16, 8, 8)
    normalised = (x / (1 + 1e-5) ** 0.5).relu()
    inner = (F.conv2d(normalised, block.conv1.weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5).relu()
    expected = F.conv2d(normalised, block.convShortcut.weight, stride=2)
    expected = expected + F.conv2d(inner, block.conv2.weight, padding=1)
    torch.testing.assert_close(block(x), expected)
