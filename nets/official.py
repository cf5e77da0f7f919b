"""Read and write checkpoints in the format of the paper's authors (github.com/nicstrisc/Push-Pull-CNN-layer).

A file is what `torch.save` makes of {"epoch", "state_dict", "best_prec1"}. Their tensors have our names, except:

| theirs                          | ours                        |                                          |
|---------------------------------|-----------------------------|------------------------------------------|
| `conv1.push.weight`             | `conv1.weight`              | in every push-pull layer                 |
| `conv1.alpha` (1, C, 1, 1)      | `conv1.alpha` (C,)          | only where alpha is learned              |
| `layer1.0.pp1`, `layer1.0.pp2`  | `layer1.0.conv1`, `.conv2`  | push-pull layers in blocks of ResNets    |
| `layer2.0.conv1.0.filt`         |                             | low-pass filters, constants for us       |

The file does not contain a fixed alpha or the scale, which are 1 and 2 in all their nets.
"""

import os
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nets.checkpoint import read_checkpoint
from nets.densenet import DenseLayer, DenseNet
from nets.lowpass import LowPass
from nets.resnet import BasicBlock, ResNet
from pushpull import PushPull2d, convert

ALPHA, SCALE = 1.0, 2.0


def load_official(path: str | os.PathLike) -> nn.Module:
    """Read a checkpoint of the authors and return its net in evaluation mode, on the CPU.

    Architecture, depth, growth rate, number of classes, low-pass filters, push-pull layers and learned alpha are
    inferred from the tensors alone. Nothing in the file is executed (`weights_only`).

    Raises:
        OSError: the file does not exist or cannot be opened.
        ValueError: the file is damaged, holds anything but tensors and plain values, or belongs to another net.
    """
    state = _read(path)
    try:
        return _rebuild(state)
    except ValueError as error:
        raise ValueError(f"{path} is not a net of the paper's authors: {error}") from None


def official_name(net: nn.Module) -> str:
    """The paper's name of a net from `load_official`, such as `resnet20-pp`, followed by its additional features."""
    count = sum(isinstance(module, BasicBlock | DenseLayer) for module in net.modules())
    if isinstance(net, ResNet):
        name = f"resnet{2 * count + 2}"
    else:
        name = f"densenet{2 * count + 4}_{net.features.denseblock1.denselayer1.conv2.out_channels}"
    push_pull = {name: module for name, module in net.named_modules() if isinstance(module, PushPull2d)}
    besides = ["push-pull layers inside"] if push_pull.keys() - {"conv1", "features.conv0"} else []
    besides += ["a learned alpha"] if any(layer.train_alpha for layer in push_pull.values()) else []
    besides += ["low-pass filters"] if _filters(net) else []
    return name + ("-pp" if push_pull else "") + (f" with {' and '.join(besides)}" if besides else "")


def _read(path: str | os.PathLike) -> dict[str, Tensor]:
    try:
        checkpoint = read_checkpoint(path)
    except ValueError as error:
        raise ValueError(f"{path} is not a checkpoint that can be loaded safely: {error}") from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} is not a checkpoint of the paper's authors: it has no state_dict")
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        raise ValueError(
            f"{path} is not a checkpoint of the paper's authors: its state_dict holds more than tensors"
        )
    return dict(state)


def _rebuild(state: dict[str, Tensor]) -> nn.Module:
    weights, filters, push_pull = {}, {}, []
    for their_name, value in state.items():
        name = _our_name(their_name)
        if name.endswith(".filt"):
            filters[name.removesuffix(".filt")] = value
        else:
            weights[name] = value.flatten() if name.endswith(".alpha") else value
        if their_name.endswith(".push.weight"):
            push_pull.append(name.removesuffix(".weight"))

    net = _plain_net(weights, {value.shape[-1:] for value in filters.values()})
    if push_pull:
        train_alpha = any(name.endswith(".alpha") for name in weights)
        net = convert(net, layers=push_pull, alpha=ALPHA, scale=SCALE, train_alpha=train_alpha)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())[:300]) from None
    ours = _filters(net)
    if filters.keys() != ours.keys() or not all(_same(filters[name], ours[name]) for name in ours):
        raise ValueError("its low-pass filters are not binomial, or not before each stride")
    if not all(tensor.isfinite().all() for tensor in net.state_dict().values()):
        raise ValueError("some of its weights are not finite numbers")
    return net.eval()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other)


def _filters(net: nn.Module) -> dict[str, Tensor]:
    return {name: module.kernel for name, module in net.named_modules() if isinstance(module, LowPass)}


def _our_name(name: str) -> str:
    name = re.sub(r"^(layer\d+\.\d+)\.pp([12])\.", r"\1.conv\2.", name)
    return re.sub(r"\.push\.(weight|bias)$", r".\1", name)


def _plain_net(weights: dict[str, Tensor], filter_sizes: set[tuple[int, ...]]) -> nn.Module:
    """Build the net, without push-pull layers, that `weights` (in our names) belong to; the weights are not loaded."""
    if "conv1.weight" in weights:
        _, in_channels, *_ = _shape(weights, "conv1.weight", 4)
        num_classes, _ = _shape(weights, "fc.weight", 2)
        depths = _count_children(weights, r"layer(\d+)\.(\d+)\.")
        if len(depths) != 3 or len(set(depths)) != 1:
            raise ValueError(
                f"their ResNets have three equal stages, but this one has {depths} blocks in its stages"
            )
        # Filters of several sizes are rejected later, when they are compared with those of the net.
        lpf_size = max(filter_sizes, default=(None,))[0]
        return ResNet(BasicBlock, depths, num_classes=num_classes, in_channels=in_channels, lpf_size=lpf_size)
    if "features.conv0.weight" in weights:
        _, in_channels, *_ = _shape(weights, "features.conv0.weight", 4)
        num_classes, _ = _shape(weights, "classifier.weight", 2)
        growth, *_ = _shape(weights, "features.denseblock1.denselayer1.conv2.weight", 4)
        depths = _count_children(weights, r"features\.denseblock(\d+)\.denselayer(\d+)\.")
        if len(depths) != 3 or len(set(depths)) != 1:
            raise ValueError(
                f"their DenseNets have three equal blocks, but this one has {depths} layers in its blocks"
            )
        return DenseNet(6 * depths[0] + 4, growth, num_classes=num_classes, in_channels=in_channels)
    names = ", ".join(list(weights)[:3]) or "none"
    raise ValueError(f"neither a ResNet nor a DenseNet; its first tensors are {names}")


def _shape(weights: dict[str, Tensor], name: str, ndim: int) -> tuple[int, ...]:
    if name not in weights or weights[name].ndim != ndim or 0 in weights[name].shape:
        raise ValueError(f"tensor {name} of {ndim} dimensions is missing")
    return tuple(weights[name].shape)


def _count_children(weights: dict[str, Tensor], pattern: str) -> tuple[int, ...]:
    """Count the distinct second numbers in the matching names for each first number, in order of the latter."""
    children = {match.groups() for name in weights if (match := re.match(pattern, name))}
    counts = Counter(parent for parent, _ in children)
    return tuple(counts[parent] for parent in sorted(counts))


def export_official(net: nn.Module, path: str | os.PathLike, *, epoch: int, best_prec1: float) -> None:
    """Write a ResNet or DenseNet made by `create_net` as a checkpoint that the authors' scripts can load.

    The file is written under a temporary name and renamed, so it is never incomplete. It has the format of PyTorch
    before 1.6, which old and new versions read.

    Args:
        net: the net; its weights may be on any device.
        path: the file; their scripts expect `models/<arch>-cifar/<name>/checkpoint.pth.tar`.
        epoch: number of epochs trained.
        best_prec1: best test accuracy in percent.

    Raises:
        ValueError: their code cannot build the net: another architecture, push-pull layers in other positions, a
            fixed alpha other than 1, a scale other than 2, images without 3 channels.
    """
    path = Path(path)
    if not 0 <= best_prec1 <= 100:
        raise ValueError(f"best_prec1 is an accuracy in percent, got {best_prec1}")
    if problem := _not_theirs(net):
        raise ValueError(f"the authors' code cannot build this net: {problem}")
    state = _their_state(net)
    _rebuild(state)  # rejects tensors of other shapes than theirs before anything is written
    checkpoint = {"epoch": int(epoch), "state_dict": state, "best_prec1": float(best_prec1)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        torch.save(checkpoint, temporary, _use_new_zipfile_serialization=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _not_theirs(net: nn.Module) -> str | None:
    """Describe what the authors' code cannot build in a net, or None; shapes are checked by rebuilding the net."""
    if not isinstance(net, ResNet | DenseNet):
        return f"it has only ResNets and DenseNets, not {type(net).__name__}"
    convolutions = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d | PushPull2d)}
    stem, *rest = convolutions
    if convolutions[stem].in_channels != 3:
        return f"its images have 3 channels, not {convolutions[stem].in_channels}"

    push_pull = {name: layer for name, layer in convolutions.items() if isinstance(layer, PushPull2d)}
    inside = push_pull.keys() - {stem}
    spatial = [name for name in rest if max(convolutions[name].kernel_size) > 1]
    block1 = "layer1." if isinstance(net, ResNet) else "features.denseblock1."
    choices = [set(), {name for name in spatial if name.startswith(block1)}]
    if isinstance(net, ResNet):
        choices.append(set(spatial))
    if inside not in choices:
        return f"it has no push-pull layers in exactly these places: {', '.join(sorted(push_pull))}"

    for name, layer in push_pull.items():
        standard = layer.train_alpha or (isinstance(layer.alpha, float) and layer.alpha == ALPHA)
        if layer.rectifier != "relu":
            return f"{name} is {layer}, but their nets rectify with ReLU"
        if layer.pull != "upsampled":
            return f"{name} is {layer}, but their nets have no complementary pull"
        if layer.scale != SCALE or not standard:
            return f"{name} is {layer}, but their files hold no alpha or scale: they are always 1 and 2"
    if len({layer.train_alpha for layer in push_pull.values()}) > 1:
        return "alpha is learned in some push-pull layers only"
    return None


def _their_state(net: nn.Module) -> dict[str, Tensor]:
    push_pull = {name for name, module in net.named_modules() if isinstance(module, PushPull2d)}
    tensors = net.state_dict() | {f"{name}.filt": kernel for name, kernel in _filters(net).items()}
    state = OrderedDict()
    for name, value in tensors.items():
        value = value.detach().cpu().clone()
        layer, _, kind = name.rpartition(".")
        if kind == "_extra_state":  # alpha and scale, which `_not_theirs` has checked
            continue
        if layer in push_pull and kind == "alpha":
            value = value.view(1, -1, 1, 1)
        elif layer in push_pull:
            layer = f"{layer}.push"
        state[f"{_their_name(layer, push_pull)}.{kind}"] = value
    return state


def _their_name(layer: str, push_pull: set[str]) -> str:
    """The authors' name of a layer: `pp1` for `conv1` in a residual block with push-pull layers, also for filters."""
    block = re.match(r"layer\d+\.\d+\.", layer)
    if block and any(name.startswith(block[0]) for name in push_pull):
        return re.sub(r"^(layer\d+\.\d+)\.conv([12])\b", r"\1.pp\2", layer)
    return layer
