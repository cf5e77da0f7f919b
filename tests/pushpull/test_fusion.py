"""`fuse`: what it swaps, what it keeps, what it refuses."""

import pytest
import torch
import torchvision.models
from torch import nn
from torch.nn.utils import parametrizations

from pushpull import PushPull1d, PushPull2d, PushPull3d, convert, fuse


def test_it_undoes_a_conversion_without_inhibition():
    torch.manual_seed(0)
    net = torchvision.models.squeezenet1_1(weights=None).eval()  # every convolution is followed by a ReLU
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = net(x)
        assert expected.std() > 0
        convert(net, layers="all", alpha=0)
        parameters = list(net.parameters())
        assert fuse(net) is net
        torch.testing.assert_close(net(x), expected)
    assert not any(isinstance(module, PushPull2d) for module in net.modules())
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (PushPull2d(4, 8, (3, 5), (2, 1), (1, 2), (1, 2), 2, alpha=0), (2, 4, 12, 13)),
        (PushPull2d(4, 8, 3, bias=False, alpha=0, rectifier="tanh"), (2, 4, 12, 13)),
        (PushPull2d(4, 8, 3, alpha=torch.zeros(8)), (2, 4, 12, 13)),
        (PushPull1d(4, 8, 3, padding=1, alpha=0), (2, 4, 12)),
        (PushPull3d(4, 8, 3, padding=1, alpha=0), (2, 4, 5, 6, 7)),
    ],
    ids=str,
)
def test_the_same_function(layer, shape):
    x = torch.randn(shape)
    expected = layer(x)
    fused = fuse(layer)
    assert [type(module).__name__[:4] for module in fused] == [
        "Conv",
        "Tanh" if layer.rectifier == "tanh" else "ReLU",
    ]
    torch.testing.assert_close(fused(x), expected)


def test_a_trained_alpha_that_forward_rectifies_to_zero():
    layer = PushPull2d(3, 4, 3, train_alpha=True)
    layer.alpha.data = torch.tensor([-1.0, 0.0, -0.2, -3.0])
    x = torch.randn(1, 3, 9, 9)
    expected = layer(x)
    torch.testing.assert_close(fuse(layer)(x), expected)


@pytest.mark.parametrize("values", [[0.0, float("nan"), -1.0, 0.0], [0.0, -0.5, 0.0, 0.0]])
@pytest.mark.parametrize("train_alpha", [False, True])
def test_an_alpha_that_forward_does_not_take_for_zero_stays(values, train_alpha):
    layer = PushPull2d(3, 4, 3, train_alpha=train_alpha, alpha=torch.ones(4))
    layer.alpha.data = torch.tensor(values)
    if train_alpha and min(values) == -0.5:  # rectified to zero
        assert isinstance(fuse(layer)[0], nn.Conv2d)
    else:
        with pytest.raises(ValueError, match="no push-pull layer with an alpha of 0"):
            fuse(layer)


def test_without_memory():
    assert isinstance(fuse(PushPull2d(3, 4, 3, alpha=0, device="meta"))[0], nn.Conv2d)
    with pytest.raises(ValueError, match="its alpha is on the meta device, so unknown"):
        fuse(PushPull2d(3, 4, 3, alpha=0, train_alpha=True, device="meta"))


def test_a_subclass_would_lose_what_it_adds():
    class Scaled(PushPull2d):
        def forward(self, input):
            return 2 * super().forward(input)

    with pytest.raises(ValueError, match="its own forward"):
        fuse(Scaled(3, 4, 3, alpha=0))


def test_layers_with_inhibition_stay():
    net = nn.Sequential(
        PushPull2d(3, 4, 3), PushPull2d(4, 4, 3, alpha=0), PushPull2d(4, 4, 3, dual_output=True, alpha=0)
    )
    first, _, third = net
    fuse(net)
    assert net[0] is first and net[2] is third
    assert isinstance(net[1][0], nn.Conv2d)


def test_mode_hooks_and_shared_places():
    layer, calls = PushPull2d(3, 3, 3, alpha=0).eval(), []
    handle = layer.register_forward_hook(lambda *args: calls.append("seen"))
    net = nn.ModuleDict({"one": nn.Sequential(layer), "two": nn.Sequential(nn.ReLU(), layer)})
    fuse(net)
    assert net["one"][0] is net["two"][1] and not net["one"][0].training and not net["one"][0][1].training
    net["one"](torch.randn(1, 3, 9, 9))
    handle.remove()
    net["one"](torch.randn(1, 3, 9, 9))
    assert calls == ["seen"]


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (nn.Sequential(PushPull2d(3, 4, 3)), ValueError, "no push-pull layer with an alpha of 0"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), ValueError, "nothing to fuse"),
        (nn.Sequential(PushPull2d(3, 4, 3, alpha=0, rectifier=torch.sin)), ValueError, "'0'.*is a function"),
        (
            nn.Sequential(parametrizations.weight_norm(PushPull2d(3, 4, 3, alpha=0))),
            ValueError,
            "parametrized",
        ),
        ("net", TypeError, "must be a torch.nn.Module"),
    ],
)
def test_refusals(net, error, message):
    with pytest.raises(error, match=message):
        fuse(net)


def test_a_layer_that_would_still_be_called_is_refused():
    net = nn.Module()
    net.a = PushPull2d(3, 4, 3, alpha=0)
    net.layers = [net.a]
    with pytest.raises(
        ValueError, match=r"cannot replace 'a' \(PushPull2d\): the attribute 'layers' also refers to it"
    ):
        fuse(net)
    assert isinstance(net.a, PushPull2d)
