"""Turn push-pull layers without inhibition back into convolutions."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pushpull.module import PushPull1d, PushPull2d, PushPull3d
from pushpull.replacement import kind_of, replace, take_over, what_is_lost

_CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
_PUSH_PULL: tuple[type[nn.Module], ...] = (PushPull1d, PushPull2d, PushPull3d)
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def fuse(net: nn.Module) -> nn.Module:
    """Replace every push-pull layer with alpha 0, in place, by `Sequential(Conv2d, ReLU)`, and return the net.

    Without inhibition the response is the rectified push response. The net therefore computes the same function with
    one convolution per layer, and tools that fold or quantise convolutions recognise them. This undoes
    `convert(net, alpha=0)` up to the ReLU, and removes the pull from layers that learned not to inhibit: a trained
    alpha is rectified, as in forward, before it is compared with 0. Layers with inhibition or with a NaN alpha stay.

    The convolutions hold the same Parameter objects, under names with `.0` inserted (`conv1.0.weight`). Training mode
    and hooks are kept.

    Args:
        net: any module; for a bare push-pull layer, the new module is returned.

    Raises:
        ValueError: no push-pull layer has an alpha of 0; an alpha is on the meta device, so its value is unknown; a
            layer to be replaced is parametrized or a subclass, has a function as its rectifier, for which there is no
            module, or adds a bias after the rectifier (complementary pull); or an attribute of a module also refers to
            the layer, such as a plain list or a bound method. The net is then unchanged.
        TypeError: `net` is not a module.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    swaps: dict[nn.Module, nn.Module] = {}
    for name, layer in net.named_modules():
        if isinstance(layer, PushPull1d | PushPull2d | PushPull3d) and not layer.dual_output:
            if isinstance(layer.alpha, Tensor) and layer.alpha.is_meta:
                raise ValueError(
                    f"cannot fuse {name or 'the net'!r}: its alpha is on the meta device, so unknown"
                )
            if not _inhibits_nothing(layer):
                continue
            if problem := _problem(layer):
                raise ValueError(f"cannot fuse {name or 'the net'!r}: {problem}")
            swaps[layer] = _convolution(layer)
    if not swaps:
        raise ValueError("nothing to fuse: the net has no push-pull layer with an alpha of 0")
    return replace(net, swaps)


def _inhibits_nothing(layer: PushPull1d | PushPull2d | PushPull3d) -> bool:
    if not isinstance(layer.alpha, Tensor):
        return layer.alpha == 0
    alpha = layer.alpha.relu() if layer.train_alpha else layer.alpha
    return torch.equal(alpha, torch.zeros_like(alpha))


def _problem(layer: PushPull1d | PushPull2d | PushPull3d) -> str | None:
    if parametrize.is_parametrized(layer):
        return "its weight is parametrized; remove the parametrization first"
    if lost := what_is_lost(layer, kind_of(layer, _PUSH_PULL)):
        return lost
    if layer.pull == "complementary" and layer.bias is not None:
        return "its bias is added after the rectifier, but a convolution adds its bias before the activation"
    if layer.rectifier not in _ACTIVATIONS:
        return f"its rectifier {layer.rectifier!r} is a function, not one of {', '.join(_ACTIVATIONS)}"
    return None


def _convolution(layer: PushPull1d | PushPull2d | PushPull3d) -> nn.Sequential:
    convolution = _CONVOLUTIONS[layer.dimensions](
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]  # as many sides as the class takes
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        layer.groups,
        layer.bias is not None,
        device="meta",  # its weights are replaced: no memory for them, no random numbers
    )
    convolution.weight, convolution.bias = layer.weight, layer.bias
    activation = _ACTIVATIONS[layer.rectifier]() if isinstance(layer.rectifier, str) else nn.Identity()
    fused = nn.Sequential(convolution, activation)
    take_over(fused, layer, kind_of(layer, _PUSH_PULL))
    return fused
