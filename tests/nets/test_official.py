"""Checkpoints of the paper's authors: reading theirs, writing ours, refusing everything else."""

import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from nets import create_net, export_official, load_official
from nets.official import official_name
from pushpull import PushPull2d, convert

# Folder: architecture, parameters, error on the 10,000 clean test images in percent (table 3), push-pull layers.
OFFICIAL = {
    "resnet-20": ("ResNet", 272_474, 7.56, []),
    "resnet-20-pp": ("ResNet", 272_474, 8.29, ["conv1"]),
    "resnet-44": ("ResNet", 661_338, 6.76, []),
    "resnet-44-pp": ("ResNet", 661_338, 6.87, ["conv1"]),
    "densenet-40-12": ("DenseNet", 176_122, 6.38, []),
    "densenet-40-12-pp": ("DenseNet", 176_122, 7.13, ["features.conv0"]),
}


@pytest.fixture(scope="module")
def test_images(shared):
    """Every second one of the first 509 test images of CIFAR-10, normalised, and their labels."""
    batch = pickle.loads(
        (shared / "data/cifar10-subset/cifar-10-batches-py/test_batch").read_bytes(), encoding="bytes"
    )
    images = torch.from_numpy(np.asarray(batch[b"data"])).view(-1, 3, 32, 32)[::2].float()
    mean = torch.tensor([125.3, 123.0, 113.9]).view(3, 1, 1)
    std = torch.tensor([63.0, 62.1, 66.7]).view(3, 1, 1)
    return (images - mean) / std, torch.tensor(batch[b"labels"])[::2]


@pytest.mark.parametrize("folder", OFFICIAL)
def test_the_published_nets_classify_as_published(folder, shared, test_images):
    architecture, parameters, published_error, push_pull = OFFICIAL[folder]
    net = load_official(shared / "reference/official" / folder / "checkpoint.pth.tar")
    assert type(net).__name__ == architecture
    assert official_name(net) == folder.replace("t-", "t").replace("-12", "_12")  # the registry's name
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    assert [name for name, module in net.named_modules() if isinstance(module, PushPull2d)] == push_pull
    assert not any(module.training for module in net.modules())
    images, labels = test_images
    assert len(images) == 255
    with torch.no_grad():
        net.to(memory_format=torch.channels_last)  # takes a third less time
        batches = images.contiguous(memory_format=torch.channels_last).split(64)
        predictions = torch.cat([net(batch).argmax(1) for batch in batches])
    error = 100 * (predictions != labels).float().mean().item()
    assert error == pytest.approx(published_error, abs=2.5)


@pytest.mark.parametrize("folder", OFFICIAL)
def test_a_published_net_comes_back_as_it_was(folder, shared, tmp_path):
    path = shared / "reference/official" / folder / "checkpoint.pth.tar"
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    net = load_official(path)
    ours = net.state_dict()
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours.pop(name.replace(".push.", ".")), value), name
    assert all(name.endswith("._extra_state") for name in ours)

    export_official(
        net, tmp_path / "checkpoint.pth.tar", epoch=theirs["epoch"], best_prec1=float(theirs["best_prec1"])
    )
    back = torch.load(tmp_path / "checkpoint.pth.tar", weights_only=True)
    assert back.keys() == theirs.keys()
    assert (back["epoch"], back["best_prec1"]) == (theirs["epoch"], float(theirs["best_prec1"]))
    assert back["state_dict"].keys() == theirs["state_dict"].keys()
    assert all(torch.equal(back["state_dict"][key], value) for key, value in theirs["state_dict"].items())


def make_net(name="resnet14", **options) -> nn.Module:
    """A net whose statistics, biases and alphas differ from each other and from where they start."""
    torch.manual_seed(0)
    net = create_net(name, **options)
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.ndim == 1:
                value.add_(0.1 * torch.rand_like(value))
    return net.eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet14", {}),
        ("resnet20", {"num_classes": 100}),
        ("resnet14", {"pushpull": "first", "train_alpha": True}),
        ("resnet14", {"pushpull": "block1"}),
        ("resnet14", {"pushpull": "block1", "train_alpha": True, "lpf_size": 2}),
        ("resnet14", {"pushpull": "all", "train_alpha": True, "lpf_size": 3}),
        ("resnet14", {"lpf_size": 1}),
        ("densenet40_12", {"num_classes": 5}),
        ("densenet40_12", {"pushpull": "block1", "train_alpha": True}),
        ("densenet100_24", {"pushpull": "first"}),
    ],
)
def test_export_and_load(name, options, tmp_path):
    net = make_net(name, **options)
    export_official(net, tmp_path / "checkpoint.pth.tar", epoch=3, best_prec1=91.5)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pth.tar"]
    loaded = load_official(tmp_path / "checkpoint.pth.tar")
    assert repr(loaded) == repr(net)
    of_the_paper = {*options} <= {"pushpull", "num_classes"} and options.get("pushpull") in (None, "first")
    assert (official_name(loaded) in (name, f"{name}-pp")) == of_the_paper
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), net(images))


def test_names_and_shapes_of_their_code(tmp_path):
    path = tmp_path / "checkpoint.pth.tar"
    export_official(make_net(pushpull="all", train_alpha=True, lpf_size=3), path, epoch=1, best_prec1=10)
    state = torch.load(path, weights_only=True)["state_dict"]
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes["conv1.push.weight"] == (16, 3, 3, 3)
    assert shapes["conv1.alpha"] == (1, 16, 1, 1)
    assert shapes["layer1.1.pp2.push.weight"] == (16, 16, 3, 3)
    assert shapes["layer2.0.pp1.0.filt"] == (16, 1, 3, 3)
    assert shapes["layer2.0.pp1.1.alpha"] == (1, 32, 1, 1)
    assert shapes["layer2.0.downsample.0.filt"] == (16, 1, 3, 3)
    assert shapes["layer2.0.downsample.1.weight"] == (32, 16, 1, 1)
    assert not any(".conv" in name for name in shapes if name.startswith("layer"))
    torch.testing.assert_close(state["layer2.0.pp1.0.filt"][0, 0, 1], torch.tensor([2.0, 4.0, 2.0]) / 16)
    assert path.read_bytes()[:2] != b"PK"  # the older form, for the PyTorch of their scripts


def test_push_pull_blocks_behind_a_plain_first_layer_load(tmp_path):
    """Their code takes the first layer and the first block as two options; create_net has no such net."""
    names = [f"layer1.{i}.conv{k}" for i in range(2) for k in (1, 2)]
    net = convert(make_net(), layers=names)
    export_official(net, tmp_path / "checkpoint.pth.tar", epoch=1, best_prec1=10)
    loaded = load_official(tmp_path / "checkpoint.pth.tar")
    assert isinstance(loaded.conv1, nn.Conv2d)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(images), net(images))


def dual_output_net() -> nn.Module:
    net = create_net("resnet14")
    net.conv1 = PushPull2d(3, 16, 3, padding=1, bias=False, dual_output=True)
    return net


def tanh_net() -> nn.Module:
    net = create_net("resnet14")
    net.conv1 = PushPull2d(3, 16, 3, padding=1, bias=False, rectifier="tanh")
    return net


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: create_net("alexnet"), "not AlexNet"),
        (lambda: create_net("resnet18"), "three equal stages"),
        (lambda: create_net("resnet14", in_channels=1), "3 channels, not 1"),
        (lambda: create_net("resnet14", pushpull="first", alpha=0.5), "alpha=0.5.*they are always 1 and 2"),
        (lambda: create_net("resnet14", pushpull="first", scale=1.5), "scale=1.5.*they are always 1 and 2"),
        (lambda: create_net("resnet14", pushpull="first", pull="complementary"), "no complementary pull"),
        (lambda: create_net("densenet40_12", pushpull="all"), "exactly these places"),
        (lambda: convert(create_net("resnet14"), layers="layer1.0.conv1"), "exactly these places: layer1.0.conv1"),
        (
            lambda: convert(create_net("resnet14", pushpull="first", train_alpha=True), layers=lambda name, conv:
                            name.startswith("layer1")),
            "in some push-pull layers only",
        ),
        (dual_output_net, "conv1"),
        (tanh_net, "but their nets rectify with ReLU"),
    ],
)  # fmt: skip
def test_nets_that_their_code_cannot_build_are_not_written(build, message, tmp_path):
    path = tmp_path / "checkpoint.pth.tar"
    path.write_bytes(b"an earlier file")
    with pytest.raises(ValueError, match=message):
        export_official(build(), path, epoch=1, best_prec1=50)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [
        (path.name, b"an earlier file")
    ]


def test_export_needs_percent_and_a_folder(tmp_path):
    with pytest.raises(ValueError, match="accuracy in percent, got 101"):
        export_official(create_net("resnet14"), tmp_path / "a", epoch=1, best_prec1=101)
    with pytest.raises(OSError, match="missing"):
        export_official(create_net("resnet14"), tmp_path / "missing" / "a", epoch=1, best_prec1=50)


def save(state: dict, path, **entries) -> None:
    torch.save({"epoch": 1, "best_prec1": 10.0, "state_dict": state} | entries, path)


def changed(state: dict, **tensors) -> dict:
    return state | {name.replace("__", "."): value for name, value in tensors.items()}


def zeros(name: str) -> dict:
    """The state of a large net with zeros for its values, of which a file holds one each."""
    with torch.device("meta"):
        state = create_net(name).state_dict()
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}


@pytest.mark.parametrize(
    ("make_state", "message"),
    [
        (lambda: zeros("alexnet"), "three equal stages|fc.weight"),
        (lambda: create_net("lenet_d").state_dict(), "fc.weight"),
        (lambda: zeros("resnet50"), "three equal stages"),
        (
            lambda: nn.Linear(3, 2).state_dict(),
            "neither a ResNet nor a DenseNet; its first tensors are weight, bias",
        ),
        (dict, "neither a ResNet nor a DenseNet"),
        (lambda: {"conv1.weight": torch.zeros(16, 3, 3, 3)}, "fc.weight of 2 dimensions is missing"),
        (
            lambda: changed(make_net().state_dict(), extra__weight=torch.zeros(1)),
            "Unexpected key.*extra.weight",
        ),
        (
            lambda: changed(make_net().state_dict(), fc__weight=torch.zeros(10, 32)),
            "size mismatch for fc.weight",
        ),
        (lambda: changed(make_net().state_dict(), bn1__bias=torch.full((16,), torch.nan)), "not finite"),
        (
            lambda: changed(make_net().state_dict(), layer1__0__filt=torch.ones(16, 1, 3, 3)),
            "Missing key",
        ),
        (lambda: changed(make_net().state_dict(), nowhere__push__weight=torch.ones(1)), "no layer 'nowhere'"),
        (
            lambda: {key: value for key, value in make_net().state_dict().items() if key != "bn1.bias"},
            "Missing key",
        ),
    ],
)
def test_other_architectures_are_refused(make_state, message, tmp_path):
    path = tmp_path / "other.pth.tar"
    save(make_state(), path)
    with pytest.raises(ValueError, match=message) as error:
        load_official(path)
    assert str(path) in str(error.value)


def test_changed_low_pass_filters_are_refused(tmp_path):
    path = tmp_path / "checkpoint.pth.tar"
    export_official(make_net(lpf_size=3), path, epoch=1, best_prec1=10)
    state = torch.load(path, weights_only=True)["state_dict"]
    state["layer2.0.conv1.0.filt"] *= 2
    save(state, path)
    with pytest.raises(ValueError, match="binomial"):
        load_official(path)


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"model": {}}, {"state_dict": [1]}, {"state_dict": {"conv1.weight": 1}}, torch.zeros(3)],
)
def test_files_of_another_form_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth is not a checkpoint of the paper's authors"):
        load_official(tmp_path / "other.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 1, 100, 5000, 0.5, 0.99])
def test_truncated_files_are_refused(kept, zipped, tmp_path):
    whole, path = tmp_path / "whole.pth", tmp_path / "truncated.pth"
    torch.save({"state_dict": make_net().state_dict()}, whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ValueError, match=r"truncated\.pth is not a checkpoint that can be loaded safely"):
        load_official(path)


def test_a_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "changed.pth"
    net = make_net()
    save(net.state_dict(), path)
    content = bytearray(path.read_bytes())
    place = content.find(net.fc.weight.detach().numpy().tobytes())
    assert place > 0
    content[place + 2] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        load_official(path)


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_are_refused(seed, tmp_path):
    path = tmp_path / "noise.pth"
    path.write_bytes(np.random.default_rng(seed).bytes(2000))
    with pytest.raises(ValueError, match="loaded safely"):
        load_official(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_official(tmp_path / "nowhere.pth.tar")


class Malicious:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("place", ["top", "entry", "state"])
def test_code_in_a_checkpoint_is_not_run(form, place, tmp_path):
    path, trace = tmp_path / "malicious.pth.tar", tmp_path / "trace"
    attack = Malicious(trace)
    state = make_net().state_dict()
    content = {
        "top": attack,
        "entry": {"state_dict": state, "epoch": attack},
        "state": {"state_dict": dict(state) | {"conv1.weight": attack}},
    }[place]
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ValueError, match="loaded safely"):
        load_official(path)
    assert not trace.exists()
    # The file is dangerous to those who trust it: what was refused is code, not a malformed file.
    pickle.loads(path.read_bytes()) if form == "pickle" else torch.load(path, weights_only=False)
    assert trace.is_dir()
