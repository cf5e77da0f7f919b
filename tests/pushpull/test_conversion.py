"""`convert`: what it swaps, what it keeps, what it refuses."""

import copy
import functools
import logging
import math
import sys
import warnings
import weakref

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision.models
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.models import ConvNeXt, DenseNet, MobileNetV3, ResNet, convnext, mobilenetv3, resnet

from nets import create_net
from nets.__main__ import count_multiply_adds
from pushpull import PushPull1d, PushPull2d, PushPull3d, convert, pull_kernel


def small_net() -> nn.Sequential:
    """Convolutions of many kinds, a ReLU after each."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, (3, 5), stride=2, padding="valid", groups=2, bias=False), nn.ReLU()),
        nn.Conv2d(8, 12, 5, padding="same", dilation=2),
        nn.ReLU(),
        nn.Conv2d(12, 4, 1),
        nn.ReLU(),
    )


def push_pull_names(net: nn.Module) -> list[str]:
    return [name for name, module in net.named_modules() if isinstance(module, PushPull2d)]


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("first", ["0"]),
        ("all", ["0", "2.0", "3"]),
        ("2.0", ["2.0"]),
        (["5", "0"], ["0", "5"]),
        ((name for name in ("3",)), ["3"]),
        (lambda name, module: module.kernel_size[1] == 5, ["2.0", "3"]),
        (lambda name, module: name.startswith("2"), ["2.0"]),
    ],
)
def test_which_layers(layers, expected):
    net = small_net()
    assert convert(net, layers=layers) is net
    assert push_pull_names(net) == expected


def test_options_and_geometry():
    old = small_net()
    net = convert(copy.deepcopy(old), layers="all", alpha=0.5, scale=3, train_alpha=True)
    for name in push_pull_names(net):
        new, conv = net.get_submodule(name), old.get_submodule(name)
        assert (new.scale, new.train_alpha) == (3, True)
        assert torch.equal(new.alpha.detach(), torch.full((conv.out_channels,), 0.5))
        for attribute in ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "groups"):
            assert getattr(new, attribute) == getattr(conv, attribute)
    assert net(images(2, 3, 20, 20)).shape == old(images(2, 3, 20, 20)).shape


def test_without_inhibition_it_is_the_same_function():
    net = small_net().double()
    x = images(2, 3, 20, 20).double()
    expected = net(x)
    torch.testing.assert_close(convert(net, layers="all", alpha=0)(x), expected)
    assert not torch.allclose(convert(small_net().double(), layers="all")(x), expected)


def test_a_push_pull_response_takes_the_place_of_the_convolution():
    net = small_net()
    weight, bias = net[0].weight, net[0].bias
    x = images(2, 3, 20, 20)
    pull = -torch.nn.functional.interpolate(weight, size=(7, 7), mode="bilinear", align_corners=True)
    expected = torch.nn.functional.conv2d(x, weight, bias, padding=1).relu()
    expected = expected - 0.7 * torch.nn.functional.conv2d(x, pull, -bias, padding=3).relu()
    torch.testing.assert_close(convert(net, alpha=0.7)[0](x), expected)


def test_alpha_for_each_kernel():
    alpha = torch.linspace(0, 1, 8)
    net = convert(small_net(), alpha=alpha)
    assert torch.equal(net[0].alpha, alpha)
    assert "0.alpha" in net.state_dict()
    assert "0.alpha" not in dict(net.named_parameters())


def test_a_single_convolution_is_returned_converted():
    conv = nn.Conv2d(3, 4, 3)
    layer = convert(conv)
    assert isinstance(layer, PushPull2d)
    assert layer.weight is conv.weight


def test_parameters_are_the_same_objects():
    net = small_net()
    before = dict(net.named_parameters())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net[0].weight.requires_grad_(False)
    convert(net, layers="all")
    after = dict(net.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is before[name] for name in before)
    assert not net[0].weight.requires_grad
    frozen, trained = net[0].weight.clone(), net[3].weight.clone()
    net(images(2, 3, 20, 20)).square().sum().backward()
    optimizer.step()
    assert torch.equal(net[0].weight, frozen)
    assert not torch.equal(net[3].weight, trained)


def test_an_optimizer_made_before_trains_alpha_once_it_is_told():
    """As the documentation says; without a word it trains all but alpha."""
    net = small_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    convert(net, train_alpha=True)

    def step():
        before = net[0].alpha.detach().clone()
        optimizer.zero_grad()
        net(images(2, 3, 20, 20)).square().sum().backward()
        optimizer.step()
        return not torch.equal(net[0].alpha, before)

    assert not step()
    optimizer.add_param_group({"params": [net[0].alpha]})
    assert step()


@pytest.mark.parametrize("train_alpha", [False, True])
def test_weights_of_a_converted_net_in_the_plain_one(train_alpha):
    net, plain = convert(small_net(), train_alpha=train_alpha), small_net()
    with torch.no_grad():
        net[0].weight += 1
    with pytest.raises(RuntimeError, match=r"Unexpected key.*0\._extra_state"):
        plain.load_state_dict(net.state_dict())
    keys = plain.load_state_dict(net.state_dict(), strict=False)
    assert keys.missing_keys == []
    assert set(keys.unexpected_keys) == {"0._extra_state"} | ({"0.alpha"} if train_alpha else set())
    assert torch.equal(plain[0].weight, net[0].weight)


def test_weights_that_are_taken_by_themselves_are_told_by_equal_outputs():
    """What `convert` cannot see, and how the documentation has it found."""

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return nn.functional.conv2d(x, self.a.weight) + self.b(x)

    x, net = images(2, 3, 9, 9), Functional()
    for layer, unused in (("a", True), ("b", False)):
        outputs = [convert(copy.deepcopy(net), layers=layer, alpha=alpha)(x) for alpha in (0, 1)]
        assert torch.equal(*outputs) == unused


@pytest.mark.parametrize("train_alpha", [False, True])
def test_device_dtype_and_mode(train_alpha):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, device="meta", dtype=torch.bfloat16)).eval()
    layer = convert(net, train_alpha=train_alpha)[0]
    assert not layer.training
    for tensor in layer.parameters():
        assert (tensor.device.type, tensor.dtype) == ("meta", torch.bfloat16)
    assert len(list(layer.parameters())) == 2 + train_alpha


def test_no_random_numbers_are_drawn():
    net = small_net()
    state = torch.get_rng_state()
    convert(net, layers="all", train_alpha=True)
    assert torch.equal(torch.get_rng_state(), state)


class TestHooks:
    def test_are_kept_with_their_options(self):
        net, calls = small_net(), []
        net[0].register_forward_pre_hook(
            lambda module, args, kwargs: calls.append(("pre", kwargs)), with_kwargs=True
        )
        net[0].register_forward_pre_hook(lambda module, args: (2 * args[0],))
        net[0].register_forward_hook(
            lambda module, args, kwargs, out: out + kwargs.get("shift", 1), with_kwargs=True
        )
        net[0].register_full_backward_hook(
            lambda module, inputs, outputs: calls.append(("backward", type(module)))
        )
        x = images(1, 3, 8, 8).requires_grad_()
        expected = PushPull2d.forward(convert(copy.deepcopy(net))[0], 2 * x) + 1
        convert(net)
        out = net[0](x)
        torch.testing.assert_close(out, expected)
        out.sum().backward()
        assert calls == [("pre", {}), ("backward", PushPull2d)]

    def test_that_are_always_called(self):
        net, calls = small_net(), []
        net[0].register_forward_hook(lambda *args: calls.append("seen"), always_call=True)
        convert(net)
        with pytest.raises(RuntimeError):
            net[0](images(1, 5, 8, 8))  # too many channels
        assert calls == ["seen"]

    def test_can_be_removed_by_their_old_handles(self):
        net, calls = small_net(), []
        handle = net[0].register_forward_hook(lambda *args: calls.append("seen"))
        convert(net)
        net[0](images(1, 3, 8, 8))
        handle.remove()
        net[0](images(1, 3, 8, 8))
        assert calls == ["seen"]


class TestSharedLayers:
    def test_a_layer_in_two_places_of_one_module(self):
        conv = nn.Conv2d(3, 3, 3, padding=1)
        net = convert(nn.Sequential(conv, nn.ReLU(), conv))
        assert isinstance(net[0], PushPull2d)
        assert net[2] is net[0]

    def test_a_layer_in_two_modules(self):
        conv = nn.Conv2d(3, 3, 3, padding=1)
        net = nn.ModuleDict({"one": nn.Sequential(conv), "two": nn.Sequential(nn.ReLU(), conv)})
        convert(net, layers="two.1")  # by its second name
        assert isinstance(net["two"][1], PushPull2d)
        assert net["one"][0] is net["two"][1]

    def test_a_module_in_two_places(self):
        block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))
        net = convert(nn.Sequential(block, block))
        assert net[0] is net[1]
        assert isinstance(net[0][0], PushPull2d)

    def test_weights_shared_by_two_layers(self):
        one, two = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
        two.weight = one.weight
        net = convert(nn.Sequential(one, two), layers="all")
        assert net[0] is not net[1]
        assert net[0].weight is net[1].weight


class OwnForward(nn.Conv2d):
    def forward(self, input):
        return 2 * super().forward(input)


class OwnConvolution(nn.Conv2d):
    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight - weight.mean(), bias)


def subclass(**members) -> nn.Conv2d:
    return type("Own", (nn.Conv2d,), members)(3, 4, 3)


def with_tensor(method: str) -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 3)
    if method == "parameter":
        conv.gain = nn.Parameter(torch.ones(4))
    elif method == "buffer":
        conv.register_buffer("gain", torch.ones(4))
    else:
        conv.gain = nn.ReLU()
    return conv


def hooked(method: str) -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 3)
    getattr(conv, method)(lambda *arguments: None)
    return conv


def compiled_itself() -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 3)
    conv.compile(backend="eager")
    return conv


def patched() -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 3)
    conv.forward = lambda input: input
    return conv


def same_with_stride() -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 3, padding="same")
    conv.stride = (2, 2)  # Conv2d checks at construction alone
    return conv


def pruned() -> nn.Conv2d:
    return prune.l1_unstructured(nn.Conv2d(3, 4, 3), "weight", amount=0.5)


def old_weight_norm() -> nn.Conv2d:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(nn.Conv2d(3, 4, 3))


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 4), r"'1' \(Conv2d\): its kernel of 4 x 4 has an even side"),
        (lambda: nn.Conv2d(3, 4, (3, 2)), "its kernel of 3 x 2 has an even side"),
        (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
        (lambda: nn.ConvTranspose2d(3, 4, 3), r"\(ConvTranspose2d\): only Conv1d, Conv2d and Conv3d layers"),
        (lambda: nn.LazyConv2d(4, 3), "run one forward pass first"),
        (lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), "parametrized"),
        (lambda: parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), "parametrized"),
        (old_weight_norm, "a hook computes its weight"),
        (pruned, "a hook computes its weight"),
        (same_with_stride, 'padding="same" has no meaning with a stride'),
        (lambda: OwnForward(3, 4, 3), r"\(OwnForward\): it defines its own forward"),
        (lambda: OwnConvolution(3, 4, 3), "its own _conv_forward"),
        (patched, "its own forward"),
        (lambda: subclass(__call__=lambda self, x: x), "its own __call__"),
        (lambda: subclass(get_extra_state=lambda self: 3), "its own get_extra_state"),
        (lambda: subclass(state_dict=lambda self, *a, **k: {}), "its own state_dict"),
        (lambda: with_tensor("parameter"), "it holds 'gain' besides its weights"),
        (lambda: with_tensor("buffer"), "it holds 'gain' besides its weights"),
        (lambda: with_tensor("module"), "it holds 'gain' besides its weights"),
        (lambda: hooked("register_state_dict_pre_hook"), "hooks on the state_dict would be lost"),
        (lambda: hooked("register_state_dict_post_hook"), "hooks on the state_dict would be lost"),
        (lambda: hooked("register_load_state_dict_pre_hook"), "hooks on the state_dict would be lost"),
        (lambda: hooked("register_load_state_dict_post_hook"), "hooks on the state_dict would be lost"),
        (compiled_itself, "it is compiled"),
    ],
)
def test_layers_that_cannot_be_converted(build, message, by_name):
    net = nn.Sequential(nn.Conv2d(3, 3, 3), build())
    before = dict(net.named_modules())
    with pytest.raises(ValueError, match=message):
        convert(net, layers=["0", "1"] if by_name else lambda name, module: True)
    assert dict(net.named_modules()) == before  # neither of the two was swapped


@pytest.mark.parametrize("layers", ["first", "all", "0._orig_mod"])
def test_a_compiled_convolution_would_compute_what_it_did(layers):
    net = nn.Sequential(torch.compile(nn.Conv2d(3, 4, 3), backend="eager"))
    with pytest.raises(ValueError, match="it is compiled and would keep computing the old result"):
        convert(net, layers=layers)


def test_a_compiled_net_computes_what_it_has_become():
    net = torch.compile(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), backend="eager")
    x = images(1, 3, 8, 8)
    before = net(x)
    convert(net)
    torch.testing.assert_close(net(x), net._orig_mod(x))
    assert not torch.allclose(net(x), before)


class Holding(nn.Module):
    """Keeps its convolution `a` in an attribute `held` besides, through which it may call it."""

    def __init__(self, hold):
        super().__init__()
        self.a, self.block = nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3))
        self.held = hold(self)


def hide(module: nn.Module) -> list[nn.Module]:
    return [nn.Sequential(nn.ReLU(), module)]


class Caller:
    """Of no module: it holds what it calls."""

    def __init__(self, conv):
        self.conv = conv

    def __call__(self, x):
        return self.conv(x)


def linked(value, length: int) -> Caller:
    """An object that holds one that holds one, and so on, the last of which holds the value."""
    for _ in range(length):
        value = Caller(value)
    return value


HELD = {
    "list": lambda net: [net.a],
    "tuple in a dict": lambda net: {"layers": (nn.ReLU(), net.a)},
    "bound method": lambda net: net.a.forward,
    "partial": lambda net: functools.partial(net.a.forward),
    "closure": lambda net: (lambda conv: lambda x: conv(x))(net.a),
    "closure behind another": lambda net: [*map(lambda conv: lambda x: conv(x), (2, net.a))],
    "object": lambda net: Caller(net.a),
    "method of an object in a list": lambda net: [Caller(net.a).__call__],
    "object far behind": lambda net: linked(net.a, 2 * sys.getrecursionlimit()),
    "default": lambda net: lambda x, conv=net.a: conv(x),
    "block outside of the net": lambda net: hide(net.a),
}


@pytest.mark.parametrize("hold", HELD)
def test_a_convolution_that_would_still_be_called_is_refused(hold):
    net = nn.Sequential(Holding(HELD[hold]))
    before = dict(net.named_modules())
    with pytest.raises(
        ValueError,
        match=r"cannot replace '0\.a' \(Conv2d\): the attribute '0\.held' also refers to it.*ModuleList",
    ):
        convert(net)
    assert dict(net.named_modules()) == before
    assert push_pull_names(convert(net, layers="0.block.0")) == ["0.block.0"]  # another one


@pytest.mark.parametrize(
    "hold",
    [
        lambda net: [net.block],  # in which the convolution is swapped
        lambda net: net.forward,
        lambda net: lambda x: net.a(x),
        lambda net: [net.block.forward, "a", torch.ones(2)],
        lambda net: Caller(net),
        lambda net: [weakref.proxy(net)],
        lambda net: [Caller, sys, logging.getLogger()],
        lambda net: nn.ModuleList([net.a]),
    ],
)
def test_what_is_looked_up_when_it_is_called_is_no_hindrance(hold):
    net = Holding(hold)
    convert(net, layers=["a", "block.0"])
    assert push_pull_names(net) == ["a", "block.0"]


def test_a_convolution_that_was_itself_set_as_a_plain_attribute():
    net = Holding(lambda net: None)
    net.__dict__["held"] = net.a
    with pytest.raises(ValueError, match="the attribute 'held' also refers to it"):
        convert(net)


def test_a_subclass_that_adds_nothing_is_converted():
    class Named(nn.Conv2d):
        """Sets the padding that keeps the size."""

        note: str

        def __init__(self, inputs, outputs, size):
            super().__init__(inputs, outputs, size, padding=size // 2)
            self.note = "kept"

        def multiply_adds(self):
            return self.weight.numel()

    layer = convert(Named(3, 4, 3))
    assert isinstance(layer, PushPull2d) and layer.padding == (1, 1) and layer.note == "kept"


def test_what_tools_attach_is_kept():
    net = small_net()
    net[0].qconfig = "of a quantiser"
    assert convert(net)[0].qconfig == "of a quantiser"
    net[3].alpha = 3
    with pytest.raises(ValueError, match="'alpha' conflicts with an attribute of PushPull2d"):
        convert(net, layers="3")


@pytest.mark.parametrize(
    ("net", "layer", "shape"),
    [
        (nn.Sequential(nn.Conv1d(2, 4, 5, 2, "valid"), nn.ReLU()), PushPull1d, (2, 2, 20)),
        (nn.Sequential(nn.Conv3d(2, 4, (1, 3, 5), padding="same"), nn.ReLU()), PushPull3d, (1, 2, 3, 6, 7)),
    ],
)
def test_one_and_three_sides(net, layer, shape):
    x = images(*shape)
    expected = net(x)
    converted = convert(net, alpha=0)
    assert isinstance(converted[0], layer)
    torch.testing.assert_close(converted(x), expected)


def test_a_net_of_videos():
    with torch.device("meta"):
        net = convert(torchvision.models.video.r3d_18(num_classes=5))
    assert isinstance(net.stem[0], PushPull3d) and net.stem[0].kernel_size == (3, 7, 7)


def test_all_leaves_what_has_nothing_to_enlarge():
    """Shortcuts, gates and outputs of 1 x 1 stay what they are: a ResNet-50 costs 14.7 G multiply-adds, not 33.8."""
    with torch.device("meta"):
        net = convert(torchvision.models.resnet50(), layers="all")
    kinds = {
        name: type(net.get_submodule(name)) for name in ("layer1.0.downsample.0", "layer1.0.conv2", "conv1")
    }
    assert list(kinds.values()) == [nn.Conv2d, PushPull2d, PushPull2d]
    layers = [module for module in net.modules() if isinstance(module, PushPull2d)]
    upsampling = sum(
        math.prod(layer.weight.shape) * math.prod(pull_kernel(layer.weight).shape[2:]) for layer in layers
    )
    assert count_multiply_adds(net, (3, 224, 224)) - upsampling == pytest.approx(14.7e9, rel=0.01)
    with torch.device("meta"):
        plain = create_net("resnet50")
    one_by_one = [name for name, m in plain.named_modules() if getattr(m, "kernel_size", None) == (1, 1)]
    assert push_pull_names(convert(plain, layers=one_by_one[:2])) == one_by_one[:2]


@pytest.mark.parametrize(
    ("net", "layers", "error", "message"),
    [
        (nn.Linear(3, 2), "first", ValueError, "the net has no convolution"),
        (nn.ConvTranspose2d(3, 2, 3), "first", ValueError, "no convolution"),
        (nn.Linear(3, 2), "all", ValueError, "none of the 0 convolutions"),
        (nn.Conv2d(3, 4, 2), "all", ValueError, "none of the 1 convolutions"),
        (small_net(), [], ValueError, "nothing to convert"),
        (small_net(), lambda name, module: False, ValueError, "nothing to convert"),
        (small_net(), "2.1.0", ValueError, "the net has no layer '2.1.0'; .* 2.0"),
        (small_net(), ["0", "conv1"], ValueError, "no layer 'conv1'"),
        (small_net(), "1", ValueError, r"'1' \(ReLU\): only Conv1d"),
        (small_net(), 3, TypeError, "names or a predicate, got int"),
        (small_net(), None, TypeError, "got NoneType"),
        ("resnet50", "first", TypeError, "must be a torch.nn.Module, got str"),
        (nn.Sequential(nn.Conv2d(3, 4, 4)), "first", ValueError, 'choose others by name, or layers="all"'),
    ],
)
def test_selections_that_cannot_be_converted(net, layers, error, message):
    with pytest.raises(error, match=message):
        convert(net, layers=layers)
    assert not isinstance(net, nn.Module) or push_pull_names(net) == []


@pytest.mark.parametrize(("option", "value"), [("alpha", -1), ("scale", 0), ("alpha", torch.ones(3))])
def test_bad_options_leave_the_net_as_it_was(option, value):
    net = small_net()
    with pytest.raises(ValueError, match=option):
        convert(net, **{option: value})
    assert push_pull_names(net) == []


def test_the_first_layer_is_converted_once():
    net = convert(small_net())
    with pytest.raises(ValueError, match="'0', is already a push-pull layer"):
        convert(net)
    assert push_pull_names(convert(net, layers="all")) == ["0", "2.0", "3"]


def test_all_leaves_out_even_kernels_alone():
    with pytest.raises(ValueError, match="run one forward pass first"):
        convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyConv2d(4, 3)), layers="all")
    net = convert(nn.Sequential(nn.Conv2d(3, 4, 4), nn.Conv2d(4, 4, 3)), layers="all")
    assert push_pull_names(net) == ["1"]


# Torchvision's nets: layers to convert, number of push-pull layers that makes.
TORCHVISION = {
    "resnet50": ("first", 1),
    "densenet121": ("first", 1),
    "convnext_tiny": (
        "all",
        18,
    ),  # the depthwise 7 x 7 convolutions; the others are patch embeddings with even kernels
    "mobilenet_v3_small": (lambda name, conv: conv.kernel_size[0] == 5, 8),
    "squeezenet1_1": ("all", 9),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_torchvision_net_trains(name):
    layers, count = TORCHVISION[name]
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(weights=None, num_classes=10)
    x, labels = images(4, 3, 32, 32), torch.arange(4)
    shape = net(x).shape
    names = list(net.state_dict())
    convert(net, layers=layers)
    assert [name for name in net.state_dict() if not name.endswith("_extra_state")] == names
    assert len(push_pull_names(net)) == count
    assert net(x).shape == shape

    # A step of training moves the converted kernels.
    weight = net.get_submodule(push_pull_names(net)[0]).weight
    before = weight.detach().clone()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    loss = nn.functional.cross_entropy(net.train()(x), labels)
    loss.backward()
    assert loss.isfinite()
    optimizer.step()
    assert not torch.equal(weight, before)


def pooled(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


# Of the same blocks, one or two each, since the time of an export is that of its layers: net, number of push-pull
# layers.
SHALLOW = {
    "resnet50": (lambda: pooled(*list(ResNet(resnet.Bottleneck, [1, 1, 1, 1]).children())[:5]), 1),
    "densenet121": (lambda: DenseNet(32, (1,), 64, num_classes=10), 1),
    "convnext_tiny": (
        lambda: ConvNeXt(
            [convnext.CNBlockConfig(96, 192, 1), convnext.CNBlockConfig(192, None, 1)], num_classes=10
        ),
        2,
    ),
    "mobilenet_v3_small": (
        lambda: MobileNetV3(
            [
                mobilenetv3.InvertedResidualConfig(16, 5, 96, 40, True, "HS", 2, 1, 1),
                mobilenetv3.InvertedResidualConfig(40, 5, 240, 40, True, "HS", 1, 1, 1),
            ],
            last_channel=1024,
            num_classes=10,
        ),
        2,
    ),
    "squeezenet1_1": (lambda: pooled(*torchvision.models.squeezenet1_1().features[:4]), 2),
}


@pytest.mark.usefixtures("one_onnx_registry")
@pytest.mark.parametrize("name", SHALLOW)
def test_a_torchvision_net_exports(name):
    make, count = SHALLOW[name]
    torch.manual_seed(0)
    net = convert(make(), layers=TORCHVISION[name][0])
    assert len(push_pull_names(net)) == count
    x = images(4, 3, 32, 32)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # statistics of this batch, so that outputs in eval mode are not tiny
    with torch.no_grad():
        net.train()(x)
        expected = net.eval()(x)
    assert expected.std() > 1e-3
    program = torch.export.export(net, (x,))
    torch.testing.assert_close(program.module()(x), expected, rtol=1e-4, atol=1e-4)
    exported = torch.onnx.export(program, (x,), optimize=False, verbose=False)
    session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString())
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(result, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit")
def test_torchscript():
    net = convert(small_net(), layers="all").eval()
    traced = torch.jit.trace(net, images(1, 3, 20, 20))
    x = images(3, 3, 24, 24)
    torch.testing.assert_close(traced(x), net(x))


def test_a_net_of_rectified_convolutions_is_unchanged_without_inhibition():
    torch.manual_seed(0)
    net = torchvision.models.squeezenet1_1(weights=None).eval()  # every convolution is followed by a ReLU
    x = images(2, 3, 32, 32)
    with torch.no_grad():
        expected = net(x)
        assert expected.std() > 0
        torch.testing.assert_close(convert(net, layers="all", alpha=0)(x), expected)


def test_convnext_has_no_first_layer_to_convert():
    with torch.device("meta"):
        net = torchvision.models.convnext_tiny(weights=None)
    with pytest.raises(
        ValueError, match=r"'features\.0\.0' \(Conv2d\): its kernel of 4 x 4 has an even side"
    ):
        convert(net)
