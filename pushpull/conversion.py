"""Replace the convolutions of an existing net by push-pull layers (paper, section 3.2)."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pushpull.arguments import SCALE
from pushpull.module import PushPull1d, PushPull2d, PushPull3d
from pushpull.replacement import COMPILED, compiled, kind_of, replace, take_over, what_is_lost

Layers = str | Iterable[str] | Callable[[str, nn.Module], bool]

_PUSH_PULL: dict[type[nn.Module], type[PushPull1d] | type[PushPull2d] | type[PushPull3d]] = {
    nn.Conv1d: PushPull1d,
    nn.Conv2d: PushPull2d,
    nn.Conv3d: PushPull3d,
}
_CONVOLUTIONS = nn.Conv1d | nn.Conv2d | nn.Conv3d
# Passed to predicates too, so that selecting one raises an error.
_TRANSPOSED = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


def convert(
    net: nn.Module,
    *,
    layers: Layers = "first",
    alpha: float | Tensor | str = 1.0,
    scale: float = SCALE,
    train_alpha: bool = False,
    pull: str = "upsampled",
    average_size: int = 0,
) -> nn.Module:
    """Replace convolutions of `net`, in place, by push-pull layers with the same weights, and return the net.

    Conv1d, Conv2d and Conv3d become PushPull1d, PushPull2d and PushPull3d.

    A converted net computes a different function and needs fine-tuning. The exception is `alpha=0`, where a layer
    equals the convolution followed by a ReLU: if the net has a ReLU there anyway, its output does not change. (With
    the complementary pull this holds only without a bias.)

    Args:
        net: any module; for a bare convolution, the new layer is returned.
        layers: which convolutions to replace:

            - "first": the first convolution in the order of `net.named_modules()`, which is the order of definition;
            - "all": every convolution except those with an even kernel, as in patch embeddings, and 1 x 1 ones, as in
              shortcuts and gates, which have no receptive field to invert and enlarge;
            - one or more names, as in `named_modules`;
            - a predicate of (name, module), called for every convolution.
        alpha, scale, train_alpha, pull, average_size: as for PushPull2d.

    The new layers hold the same Parameter objects, so optimizers and shared weights keep working. Device, dtype,
    training mode, `requires_grad`, forward and backward hooks and added attributes are kept, and the state of the
    random number generator is unchanged. A layer used in several places is replaced in all of them.

    Raises:
        ValueError: nothing to convert; an unknown name; "first" if the first convolution is already a push-pull
            layer; a chosen layer that cannot be converted: not a convolution, transposed, not yet initialised, an
            even kernel, padding other than zeros, "same" padding with a stride, a weight computed by a parametrization
            or a hook, compiled, or a subclass with its own forward, tensors or state; or a layer that an attribute of
            a module also refers to, such as a plain list or a bound method. The net is then unchanged.
        TypeError: `net` is not a module, or `layers` has another type.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    swaps: dict[nn.Module, nn.Module] = {}
    wrapped = compiled(net)
    options = {"scale": scale, "train_alpha": train_alpha, "pull": pull, "average_size": average_size}
    with torch.random.fork_rng(devices=[]):  # an alpha may be drawn at random
        for name in _choose(net, layers):
            old = net.get_submodule(name)
            problem = COMPILED if old in wrapped else _problem(old)
            if problem or not isinstance(old, _CONVOLUTIONS):
                hint = '; choose others by name, or layers="all"' if layers == "first" else ""
                raise ValueError(
                    f"cannot convert {name or 'the net'!r} ({type(old).__name__}): {problem}{hint}"
                )
            if old not in swaps:  # one new layer for a convolution used in several places
                swaps[old] = _push_pull(old, alpha, **options)
    return replace(net, swaps)


def _choose(net: nn.Module, layers: Layers) -> list[str]:
    modules = {name: module for name, module in net.named_modules() if isinstance(module, _CONVOLUTIONS)}
    names = list(modules)
    if isinstance(layers, str) and layers == "first":
        return [_first(net)]
    if isinstance(layers, str) and layers == "all":
        chosen = [name for name, layer in modules.items() if not _even(layer) and max(layer.kernel_size) > 1]
    elif isinstance(layers, str):
        chosen = [layers]
    elif callable(layers):
        asked = [(n, m) for n, m in net.named_modules() if isinstance(m, _CONVOLUTIONS | _TRANSPOSED)]
        chosen = [name for name, module in asked if layers(name, module)]
    elif isinstance(layers, Iterable):
        chosen = list(layers)
    else:
        raise TypeError(f'layers must be "first", "all", names or a predicate, got {type(layers).__name__}')
    if not chosen:
        raise ValueError(
            f"nothing to convert: layers={layers!r} selects none of the {len(names)} convolutions"
        )

    known = dict(net.named_modules(remove_duplicate=False))
    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(str(name), names, n=3) or names[:3]
            raise ValueError(
                f"the net has no layer {name!r}; its convolutions include {', '.join(near) or 'none'}"
            )
    return chosen


def _first(net: nn.Module) -> str:
    name: str
    for name, module in net.named_modules():
        if isinstance(module, PushPull1d | PushPull2d | PushPull3d):
            raise ValueError(
                f"nothing to convert: the first convolution, {name!r}, is already a push-pull layer"
            )
        if isinstance(module, _CONVOLUTIONS):
            return name
    raise ValueError("nothing to convert: the net has no convolution")


def _even(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> bool:
    return any(size % 2 == 0 for size in layer.kernel_size)


def _problem(layer: nn.Module) -> str | None:
    """Return why the layer cannot become a push-pull layer, or None."""
    if not isinstance(layer, _CONVOLUTIONS):
        return "only Conv1d, Conv2d and Conv3d layers have a push-pull form"
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        return "its shape is not known yet; run one forward pass first"
    if nn.utils.parametrize.is_parametrized(layer):
        return "its weight is parametrized; remove the parametrization first"
    if not isinstance(layer.weight, nn.Parameter):
        return "a hook computes its weight (as weight_norm, spectral_norm and pruning do); remove it first"
    if lost := what_is_lost(layer, kind_of(layer, _PUSH_PULL)):
        return lost
    if _even(layer):
        return f"its kernel of {' x '.join(map(str, layer.kernel_size))} has an even side"
    if layer.padding_mode != "zeros":
        return f"padding_mode={layer.padding_mode!r} is not supported, only zeros"
    if layer.padding == "same" and any(stride != 1 for stride in layer.stride):
        return 'padding="same" has no meaning with a stride'
    return None


def _push_pull(
    old: nn.Conv1d | nn.Conv2d | nn.Conv3d, alpha: float | Tensor | str, **options: Any
) -> PushPull1d | PushPull2d | PushPull3d:
    kind = kind_of(old, _PUSH_PULL)
    new = _PUSH_PULL[kind](
        old.in_channels,
        old.out_channels,
        old.kernel_size,
        old.stride,
        old.padding,
        old.dilation,
        old.groups,
        old.bias is not None,
        alpha=alpha,
        **options,
        device="meta",  # its weights are replaced: no memory for them, no random numbers
    )
    new.weight, new.bias = old.weight, old.bias  # type: ignore[assignment]  # Parameters, as `_problem` has checked
    if isinstance(new.alpha, Tensor):
        alpha = torch.rand(old.out_channels, device="cpu") if isinstance(alpha, str) else alpha
        values = torch.as_tensor(alpha, device=old.weight.device, dtype=old.weight.dtype)
        values = values.detach().expand(old.out_channels).clone()
        new.alpha = nn.Parameter(values) if new.train_alpha else values
    take_over(new, old, kind)
    return new
