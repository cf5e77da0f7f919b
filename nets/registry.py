"""Registry of nets: `@register` adds a net, `create_net` builds it, with or without push-pull layers."""

import difflib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from torch import nn

from nets.families import families
from pushpull import convert

PUSH_PULL_CHOICES = (None, "first", "block1", "all")


@dataclass(frozen=True)
class Entry:
    """A registered net: its build function, its first block and its native image shape (channels, height, width)."""

    name: str
    build: Callable[..., nn.Module]
    block1: str | None
    image_shape: tuple[int, int, int]


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str, *, block1: str | None = None, image_shape: tuple[int, int, int] = (3, 32, 32)
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Decorator that makes a function available to `create_net` under `name`.

    In modules of this folder the name must be a string literal, because `nets.families` reads it from the source. The
    function takes the keywords `num_classes` and `in_channels`, and any further options with defaults. It returns a net
    of plain convolutions, in which `create_net` inserts push-pull layers.

        @register("tinynet", block1="stage1")
        def tinynet(*, num_classes=10, in_channels=3):
            return TinyNet(in_channels, num_classes)

    Args:
        name: the name in `create_net`, `list_nets` and params.yaml.
        block1: name of the submodule that is the net's first block; without it the net has no "block1".
        image_shape: (channels, height, width) the net was designed for.

    Raises:
        ValueError: the name is already registered, or the function lacks one of the two keywords.
    """

    def decorate(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        taken = _ENTRIES.get(name)
        # Registering the same function again is a re-run notebook cell or a reloaded module, not a conflict.
        if taken and (taken.build.__module__, taken.build.__qualname__) != (
            build.__module__,
            build.__qualname__,
        ):
            raise ValueError(f"a net named {name!r} is registered already, by {taken.build.__module__}")
        for keyword in ("num_classes", "in_channels"):
            if keyword not in inspect.signature(build).parameters:
                raise ValueError(f"the function registered as {name!r} must take {keyword}")
        _ENTRIES[name] = Entry(name, build, block1, image_shape)
        return build

    return decorate


def list_nets() -> list[str]:
    """Names of all registered nets, in order of registration: the families of this folder, then any others."""
    for family in dict.fromkeys(families().values()):
        importlib.import_module(f"nets.{family}")
    return list(_ENTRIES)


def get_entry(name: str) -> Entry:
    """Return the entry of a net; the ValueError for an unknown name suggests similar ones."""
    if name not in _ENTRIES and name in families():
        importlib.import_module(f"nets.{families()[name]}")
    if name in _ENTRIES:
        return _ENTRIES[name]
    names = list_nets()
    near = difflib.get_close_matches(str(name), names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(names)}"
    raise ValueError(f"no net named {name!r}; {hint}")


def create_net(
    name: str,
    *,
    pushpull: str | None = None,
    alpha: float | str = 1.0,
    scale: float = 2.0,
    train_alpha: bool = False,
    lpf_size: int | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    pull: str = "upsampled",
    average_size: int = 0,
    **options: Any,
) -> nn.Module:
    """Build a net with random weights; it takes normalised float images (N, in_channels, H, W) and returns logits.

    For a given seed, the initial weights and the final state of the random number generator do not depend on
    `pushpull`, so baseline and push-pull net can be compared in pairs.

    Args:
        name: one of `list_nets()`.
        pushpull: which convolutions become push-pull layers:

            - None: none;
            - "first": the first convolution, as in all results of the paper;
            - "block1": the first convolution and those of the first block, except 1 x 1: the part of the net that
              the paper compares with the visual system up to area V1 (section 5);
            - "all": the convolutions that `pushpull.convert` replaces for "all".
        alpha, scale, train_alpha, pull, average_size: inhibition strength, upsampling factor, whether alpha is learned,
            form of the pull kernel and averaging of its response, as for `pushpull.PushPull2d`; no effect if `pushpull`
            is None.
        lpf_size: side 1 to 7 of the low-pass filter before each stride; ResNets only.
        num_classes: number of logits.
        in_channels: image channels; the default is 3 even for nets designed for grey images.
        **options: further options of the net, such as `memory_efficient` of the DenseNets.

    Raises:
        ValueError: unknown name (the message suggests similar ones), unknown `pushpull` or one that the net does not
            support, or an option that the net does not have.
    """
    entry = get_entry(name)
    if pushpull not in PUSH_PULL_CHOICES:
        raise ValueError(
            f"pushpull must be one of {', '.join(map(repr, PUSH_PULL_CHOICES))}, got {pushpull!r}"
        )
    for key, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{key} must be a positive integer, got {value!r}")
    options |= {"num_classes": int(num_classes), "in_channels": int(in_channels)}
    if lpf_size is not None:
        options["lpf_size"] = lpf_size
    known = inspect.signature(entry.build).parameters
    front = {
        "alpha": alpha,
        "scale": scale,
        "train_alpha": train_alpha,
        "pull": pull,
        "average_size": average_size,
    }
    if unknown := [key for key in options if key not in known]:
        taken = ", ".join([*known, "pushpull", *front])
        raise ValueError(f"{name} has no option {unknown[0]!r}; it takes {taken}")

    net = entry.build(**options)
    if pushpull is None:
        return net
    layers = block1_layers(net, entry.block1) if pushpull == "block1" else pushpull
    return convert(net, layers=layers, **front)


def block1_layers(net: nn.Module, block1: str | None) -> list[str]:
    """Names of the convolutions of a plain net that become push-pull layers with pushpull="block1".

    Raises:
        ValueError: the net has no first block.
    """
    if block1 is None:
        raise ValueError(f'{type(net).__name__} has no first block; pushpull can be None, "first" or "all"')
    convolutions = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    first = next(iter(convolutions), None)
    spatial = {name for name, module in convolutions.items() if max(module.kernel_size) > 1}
    inside = {name for name in spatial if name.startswith(f"{block1}.")}
    return [name for name in convolutions if name == first or name in inside]
