"""Parameter counts and costs against the literature."""

import itertools
import math

import pytest
import torch
from click.testing import CliRunner

from nets import create_net, list_nets
from nets.__main__ import count_multiply_adds, count_parameters, main
from nets.families import families
from nets.registry import get_entry

# Million parameters as printed by He et al. (ResNet), Huang et al. (DenseNet-BC), Zagoruyko and Komodakis (WRN), and
# commonly for ResNet-18 and 50 in their CIFAR form; then the exact count of these implementations.
SIZES = [
    ("resnet20", 0.27, 272_474),
    ("resnet32", 0.46, 466_906),
    ("resnet44", 0.66, 661_338),
    ("resnet56", 0.85, 855_770),
    ("resnet18", 11.17, 11_173_962),
    ("resnet50", 23.52, 23_520_842),
    ("densenet40_12", 0.18, 176_122),
    ("densenet100_12", 0.77, 769_162),
    (
        "densenet100_24",
        3.0,
        2_936_650,
    ),  # 3.02 with the 48 stem channels of Huang et al., 24 in the push-pull paper
    ("wideresnet28_10", 36.5, 36_479_194),
]


def meta_net(name: str, **options) -> torch.nn.Module:
    with torch.device("meta"):
        return create_net(name, **options)


@pytest.mark.parametrize(("name", "millions", "exact"), SIZES)
def test_parameters(name, millions, exact):
    assert count_parameters(meta_net(name)) == exact
    assert exact / 1e6 == pytest.approx(millions, rel=0.025)
    assert count_parameters(meta_net(name, pushpull="first")) == exact
    assert count_parameters(meta_net(name, pushpull="all")) == exact


def test_a_learned_alpha_is_one_parameter_for_each_kernel():
    assert count_parameters(meta_net("resnet20", pushpull="first", train_alpha=True)) == 272_474 + 16
    in_stages = 16 * 7 + 32 * 6 + 64 * 6
    assert count_parameters(meta_net("resnet20", pushpull="all", train_alpha=True)) == 272_474 + in_stages


def test_other_inputs_and_outputs():
    assert count_parameters(meta_net("resnet20", num_classes=100)) == 272_474 + 90 * 65
    assert count_parameters(meta_net("resnet20", in_channels=1)) == 272_474 - 2 * 16 * 9


def test_alexnet_of_figure_8():
    convolutions = [(3, 64), (64, 192), (192, 384), (384, 256), (256, 256)]
    linear = [(1024, 4096), (4096, 4096), (4096, 10)]
    expected = sum(9 * i * o + o for i, o in convolutions) + sum(i * o + o for i, o in linear)
    net = meta_net("alexnet")
    assert count_parameters(net) == expected == 23_272_266
    # The sides after conv1, conv2 and the last three convolutions, read off the figure.
    sides = [16, 8, 4, 4, 4]
    multiply_adds = sum(9 * i * o * side**2 for (i, o), side in zip(convolutions, sides, strict=True))
    assert count_multiply_adds(net, (3, 32, 32)) == multiply_adds + sum(i * o for i, o in linear)


@pytest.mark.parametrize(
    ("name", "features", "hidden"),
    [
        ("lenet_a", (6, 16), (128, 64)),
        ("lenet_b", (6, 8), (64, 32)),
        ("lenet_c", (4, 16), (128, 64)),
        ("lenet_d", (4, 8), (64, 32)),
    ],
)
def test_lenets_of_table_1(name, features, hidden):
    units = [features[1] * 25, *hidden, 10]
    expected = 25 * features[0] + features[0] + 25 * math.prod(features) + features[1]
    expected += sum(i * o + o for i, o in itertools.pairwise(units))
    net = meta_net(name, in_channels=1)
    assert count_parameters(net) == expected
    assert net(torch.empty(5, 1, 28, 28, device="meta")).shape == (5, 10)
    assert net(torch.empty(5, 1, 32, 32, device="meta")).shape == (5, 10)
    with pytest.raises(ValueError, match="up to 32 x 32, got 33 x 32"):
        net(torch.empty(5, 1, 33, 32, device="meta"))


def test_multiply_adds_of_resnet20():
    def stage(inputs, channels, side, first):
        blocks = 9 * inputs * channels * side**2 + 5 * 9 * channels**2 * side**2
        return blocks + (0 if first else inputs * channels * side**2)

    stem = 9 * 3 * 16 * 32**2
    expected = stem + stage(16, 16, 32, True) + stage(16, 32, 16, False) + stage(32, 64, 8, False) + 64 * 10
    assert count_multiply_adds(meta_net("resnet20"), (3, 32, 32)) == expected
    # twice 3 is 6, made odd: a pull kernel of 7 x 7, made of the 9 values of a push kernel
    pull = 49 * 3 * 16 * 32**2 + 9 * 49 * 3 * 16
    assert count_multiply_adds(meta_net("resnet20", pushpull="first"), (3, 32, 32)) == expected + pull


def test_the_docstring_of_every_net_gives_its_size():
    for name in list_nets():
        entry = get_entry(name)
        count = count_parameters(meta_net(name, in_channels=entry.image_shape[0]))
        assert f"{count:,} parameters" in entry.build.__doc__


def test_the_printed_table_has_a_row_for_every_net(monkeypatch):
    """For those that are listed: one of each kind, since a deep net takes a second."""
    names = [
        name
        for name in list_nets()
        if name in ("resnet20", "resnet50", "densenet40_12", "alexnet", "lenet_a")
    ]
    monkeypatch.setattr("nets.__main__.list_nets", lambda: names)
    result = CliRunner().invoke(main)
    assert result.exit_code == 0, result.output
    header, rule, *rows = result.output.splitlines()
    assert len({len(line) for line in result.output.splitlines()}) == 1
    assert header.split("|")[1].strip() == "net"
    assert set(rule) == set("|-:")
    cells = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in rows}
    assert list(cells) == names
    assert families().keys() == set(list_nets())
    assert cells["resnet20"] == [
        "resnet", "32 x 32 x 3", "272,474", "40.8 M", "43.2 M", "conv1", "conv1 + 6 in layer1", "19 layers",
    ]  # fmt: skip
    assert cells["lenet_a"][1] == "28 x 28 x 1"
    assert cells["lenet_a"][6] == "-"
