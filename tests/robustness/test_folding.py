"""Folding batch normalisation changes no logit."""

import pytest
import torch
from torch import nn

from nets import create_net
from robustness.folding import fold_norms


def evaluated(name: str, **options) -> nn.Module:
    """A net whose batch normalisation has statistics and weights of its own."""
    torch.manual_seed(0)
    net = create_net(name, **options).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.running_mean, module.bias):
                nn.init.uniform_(value, -1, 1)
            for value in (module.running_var, module.weight):
                nn.init.uniform_(value, 0.5, 1.5)
    return net


@pytest.mark.parametrize(
    ("name", "options", "left"),
    [
        ("resnet20", {}, 0),
        ("resnet14", {"pushpull": "first", "lpf_size": 3}, 1),  # push-pull is no convolution to fold into
        ("resnet14", {"pushpull": "all"}, 7 + 6 + 2 - 2),
        ("lenet_b", {"pushpull": "first"}, 0),
        ("alexnet", {}, 0),
        ("densenet40_12", {"pushpull": "first"}, 18 + 2 + 1),  # those before a block, a transition, the end
    ],
)
def test_logits_stay_and_the_net_is_left_alone(name, options, left):
    net = evaluated(name, **options)
    x = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        expected = net(x)
        folded = fold_norms(net)
        torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
        assert torch.equal(net(x), expected)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left


def test_a_net_in_training_is_refused():
    with pytest.raises(ValueError, match=r"call eval\(\) first"):
        fold_norms(create_net("resnet14"))
