"""The registry: names, options, positions of push-pull layers."""

import pytest
import torch
from torch import nn

from nets import create_net, list_nets, register, registry
from nets.registry import get_entry
from pushpull import PushPull2d

SMALL = ["resnet14", "densenet40_12", "alexnet", "lenet_d"]


@pytest.fixture
def empty_slot(monkeypatch):
    """Registrations of a test are forgotten after it."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


def push_pull_names(net: nn.Module) -> list[str]:
    return [name for name, module in net.named_modules() if isinstance(module, PushPull2d)]


def test_the_nets_of_the_paper_and_the_baselines_are_there():
    resnets = {f"resnet{depth}" for depth in (14, 20, 32, 44, 56, 18, 50)}
    densenets = {"densenet40_12", "densenet100_12", "densenet100_24"}
    lenets = {f"lenet_{letter}" for letter in "abcd"}
    assert set(list_nets()) == resnets | densenets | lenets | {"alexnet", "wideresnet28_10"}


# Without the layer and with it everywhere for every net; what lies between for one net of each kind, as the depth of a
# net changes nothing in its first block.
ONE_OF_EACH = ["resnet14", "resnet50", "densenet40_12", "wideresnet28_10", "alexnet", "lenet_a"]
VARIANTS = [(name, pushpull) for name in list_nets() for pushpull in (None, "all")] + [
    (name, pushpull)
    for name in ONE_OF_EACH
    for pushpull in ("first", "block1")
    if pushpull != "block1" or get_entry(name).block1
]


@pytest.mark.parametrize(("name", "pushpull"), VARIANTS)
def test_every_net_gives_logits_at_its_native_size(name, pushpull):
    entry = get_entry(name)
    with torch.device("meta"):  # shapes without memory or arithmetic
        net = create_net(name, pushpull=pushpull, in_channels=entry.image_shape[0], num_classes=7)
        # The layer has the shape of the convolution at any depth and width.
        if pushpull is None or name in ONE_OF_EACH:
            assert net(torch.empty(3, *entry.image_shape)).shape == (3, 7)
    assert (len(push_pull_names(net)) > 0) == (pushpull is not None)


@pytest.mark.parametrize("name", SMALL)
def test_other_image_sizes_are_taken(name):
    net = create_net(name, pushpull="first").eval()
    for size in (28, 32):
        assert net(torch.randn(2, 3, size, size)).shape == (2, 10)


def test_wide_resnet_runs():
    with torch.no_grad():
        logits = create_net("wideresnet28_10", pushpull="first").eval()(torch.randn(1, 3, 32, 32))
    assert logits.shape == (1, 10)
    assert logits.isfinite().all()


@pytest.mark.parametrize("pushpull", ["first", "all"])
@pytest.mark.parametrize("name", SMALL)
def test_gradient_reaches_every_parameter(name, pushpull):
    torch.manual_seed(0)
    net = create_net(name, pushpull=pushpull, train_alpha=True)
    nn.functional.cross_entropy(net(torch.randn(8, 3, 32, 32)), torch.arange(8)).backward()
    without = [
        key for key, value in net.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0
    ]
    assert without == []


@pytest.mark.parametrize(
    ("name", "block1", "every"),
    [
        ("resnet20", ["conv1"] + [f"layer1.{i}.conv{k}" for i in range(3) for k in (1, 2)], 19),
        ("resnet50", ["conv1"] + [f"layer1.{i}.conv2" for i in range(3)], 17),
        (
            "densenet40_12",
            ["features.conv0"] + [f"features.denseblock1.denselayer{i}.conv2" for i in range(1, 7)],
            19,
        ),
        ("wideresnet28_10", ["conv1"] + [f"block1.layer.{i}.conv{k}" for i in range(4) for k in (1, 2)], 25),
    ],
)
def test_positions(name, block1, every):
    with torch.device("meta"):
        assert push_pull_names(create_net(name)) == []
        assert push_pull_names(create_net(name, pushpull="first")) == block1[:1]
        assert push_pull_names(create_net(name, pushpull="block1")) == block1
        net = create_net(name, pushpull="all")
    assert len(push_pull_names(net)) == every
    # What is left is pointwise: bottlenecks, transitions, shortcuts.
    assert {m.kernel_size for m in net.modules() if isinstance(m, nn.Conv2d)} <= {(1, 1)}


def test_all_with_low_pass_filters_converts_the_convolutions_behind_them():
    net = create_net("resnet14", pushpull="all", lpf_size=3)
    assert {"layer2.0.conv1.1", "layer3.0.conv1.1"} < set(push_pull_names(net))
    assert len(push_pull_names(net)) == 13


def test_options_reach_every_layer():
    net = create_net("resnet14", pushpull="block1", alpha=0.5, scale=1.5, train_alpha=True)
    layers = [module for module in net.modules() if isinstance(module, PushPull2d)]
    assert len(layers) == 5
    for layer in layers:
        assert layer.scale == 1.5
        assert torch.equal(layer.alpha.detach(), torch.full((16,), 0.5))
    assert create_net("resnet14", pushpull="first", alpha=2).conv1.alpha == 2
    layer = create_net("resnet14", pushpull="first", pull="complementary", average_size=5).conv1
    assert (layer.pull, layer.average_size) == ("complementary", 5)


def test_push_pull_nets_start_from_the_weights_of_their_baseline():
    states = []
    drawn = {"pull": "complementary", "alpha": "uniform", "train_alpha": True}
    for options in ({}, {"pushpull": "first"}, {"pushpull": "all"}, {"pushpull": "all", **drawn}):
        torch.manual_seed(3)
        states.append((create_net("resnet14", **options).state_dict(), torch.get_rng_state()))
    (baseline, generator), *others = states
    for state, generator_after in others:
        added = (".alpha", "_extra_state")
        assert {name for name in state if not name.endswith(added)} == baseline.keys()
        assert all(torch.equal(state[key], baseline[key]) for key in baseline)
        assert torch.equal(generator_after, generator)


def test_an_inhibition_strength_of_zero_is_a_rectified_convolution():
    torch.manual_seed(0)
    plain = create_net("alexnet").eval()  # a ReLU follows its first convolution
    with torch.device("meta"):
        converted = create_net("alexnet", pushpull="first", alpha=0).eval()
    converted.load_state_dict(plain.state_dict(), assign=True)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(converted(images), plain(images))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet_20", {}, "did you mean resnet20"),
        ("wrn28_10", {}, "did you mean wideresnet28_10"),
        ("", {}, "choose from .*resnet20"),
        (None, {}, "no net named None"),
        ("alexnet", {"lpf_size": 3}, "alexnet has no option 'lpf_size'"),
        ("resnet20", {"memory_efficient": True}, "resnet20 has no option 'memory_efficient'"),
        ("resnet20", {"push_pull": "first"}, "no option 'push_pull'; it takes .*pushpull, alpha, scale"),
        ("lenet_a", {"pushpull": "block1"}, "LeNet has no first block"),
        ("resnet20", {"pushpull": "last"}, "pushpull must be one of None, 'first', 'block1', 'all'"),
        ("resnet20", {"lpf_size": 8}, "1 to 7 pixels"),
        ("resnet20", {"lpf_size": 2.5}, "1 to 7 pixels"),
        ("resnet20", {"num_classes": 0}, "num_classes must be a positive integer"),
        ("resnet20", {"in_channels": "rgb"}, "in_channels must be a positive integer"),
        ("resnet20", {"pushpull": "first", "alpha": -1}, "alpha"),
        ("resnet20", {"pushpull": "first", "scale": 0}, "scale"),
    ],
)
def test_mistakes_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_net(name, **options)


@pytest.mark.usefixtures("empty_slot")
def test_a_user_adds_a_net_in_one_place():
    @register("tiny", block1="body")
    def tiny(*, num_classes=10, in_channels=3, width=4):
        body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1))
        net = nn.Sequential()
        net.add_module("stem", nn.Conv2d(in_channels, width, 5, padding=2))
        net.add_module("body", body)
        net.add_module("head", nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes)))
        return net

    assert list_nets()[-1] == "tiny"
    assert push_pull_names(create_net("tiny", pushpull="first")) == ["stem"]
    assert push_pull_names(create_net("tiny", pushpull="block1", width=6)) == ["stem", "body.0"]
    assert create_net("tiny", pushpull="all", in_channels=1)(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(
        ValueError,
        match="tiny has no option 'depth'; it takes num_classes, in_channels, width, pushpull, alpha",
    ):
        create_net("tiny", depth=3)
    register("tiny", block1="body")(tiny)  # a cell run twice
    with pytest.raises(ValueError, match="'resnet20' is registered already"):
        register("resnet20")(tiny)


@pytest.mark.usefixtures("empty_slot")
def test_a_function_without_the_common_options_is_refused():
    with pytest.raises(ValueError, match="must take in_channels"):
        register("tiny")(lambda *, num_classes=10: nn.Identity())
    assert "tiny" not in list_nets()


@pytest.mark.usefixtures("empty_slot")
def test_nets_without_a_place_for_the_layer():
    register("linear")(lambda *, num_classes=10, in_channels=3: nn.Sequential(nn.Flatten(), nn.Linear(3, 2)))
    assert len(create_net("linear")) == 2
    for layers, problem in (
        ("first", "no convolution"),
        ("all", "none of the 0"),
        ("block1", "no first block"),
    ):
        with pytest.raises(ValueError, match=problem):
            create_net("linear", pushpull=layers)


@pytest.mark.usefixtures("empty_slot")
def test_all_leaves_patches_of_even_sides_as_they_are():
    register("patchy")(
        lambda *, num_classes=10, in_channels=3: nn.Sequential(
            nn.Conv2d(in_channels, 4, 2, stride=2), nn.Conv2d(4, num_classes, 3)
        )
    )
    assert push_pull_names(create_net("patchy", pushpull="all")) == ["1"]
