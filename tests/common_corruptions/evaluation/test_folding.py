"""Folding batch normalisation changes no logit."""

import pytest
import torch
from torch import nn

from common_corruptions.evaluation.folding import fold_norms
from nets.registry import create_net


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


@pytest.mark.parametrize("index", [0, 1])
def test_a_part_in_training_is_refused(index):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    net[index].train()
    with pytest.raises(ValueError, match=rf"{index} is in training mode; call eval\(\) first"):
        fold_norms(net)


class Chain(nn.Module):
    """Calls its parts in the given order; what is called twice shares its weights."""

    def __init__(self, order):
        super().__init__()
        self.order = order
        self.parts = nn.ModuleDict(
            {name: nn.Conv2d(3, 3, 3, padding=1) if name.islower() else nn.BatchNorm2d(3) for name in order}
        )

    def forward(self, x):
        for name in self.order:
            x = self.parts[name](x)
        return x


def randomised(net):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize(
    ("order", "left"),
    [("cAcB", 2), ("cAcA", 2), ("cAc", 1), ("cAdA", 0), ("cAcdB", 1), ("dBcAc", 1)],
)
def test_a_convolution_called_twice_keeps_its_weights(order, left):
    torch.manual_seed(0)
    net = randomised(Chain(order))
    x = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        folded = fold_norms(net)
        torch.testing.assert_close(folded(x), net(x), rtol=1e-4, atol=1e-5)
    graph = [node for node in folded.graph.nodes if node.op == "call_module"]
    assert sum(isinstance(_inner(folded, node.target), nn.BatchNorm2d) for node in graph) == left


def _inner(folded, name):
    module = folded.get_submodule(name)
    return module[0] if isinstance(module, nn.Sequential) else module


@pytest.mark.parametrize("place", ["c", "A"])
def test_what_hooks_do_stays(place):
    torch.manual_seed(0)
    net = randomised(Chain("cA"))
    net.parts[place].register_forward_hook(lambda module, args, output: output * 2)
    x = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(fold_norms(net)(x), net(x), rtol=1e-4, atol=1e-5)
