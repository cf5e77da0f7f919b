"""Putting other modules in the places of a net's modules."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import nn

Kind = TypeVar("Kind", bound=type[nn.Module])

# Hooks live in private dictionaries of a module; there is no public way to move them.
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_is_full_backward_hook",
)


# They hold on to the module that they were registered with.
_STATE_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)

COMPILED = "it is compiled and would go on computing what it did; compile the net afterwards"

# What a subclass may have of its own, as it decides nothing once the module is made.
_HARMLESS = {
    "__init__", "reset_parameters", "extra_repr", "__repr__", "__constants__", "__doc__", "__module__", "__dict__",
    "__weakref__", "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__",
    "__static_attributes__", "__firstlineno__",
}  # fmt: skip


def kind_of(module: nn.Module, kinds: Iterable[Kind]) -> Kind:
    """The one of `kinds` that `module` is, or is a subclass of."""
    return next(kind for kind in kinds if isinstance(module, kind))


def what_is_lost(module: nn.Module, kind: type[nn.Module]) -> str | None:
    """What `module`, which is a `kind`, does or holds beyond it and cannot be given to another module, or None."""
    for cls in type(module).__mro__[: type(module).__mro__.index(kind)]:
        for name in vars(cls).keys() - _HARMLESS:
            if hasattr(kind, name):
                return f"it has a {name} of its own, which would be lost"
    if overridden := [name for name in vars(module) if callable(getattr(kind, name, None))]:
        return f"it has a {overridden[0]} of its own, which would be lost"
    for what in ("_parameters", "_buffers", "_modules"):
        if added := getattr(module, what).keys() - {"weight", "bias", "alpha"}:
            return f"it holds {min(added)!r} besides its weights, which would be lost"
    if any(getattr(module, hooks) for hooks in _STATE_HOOKS):
        return "its hooks on the state_dict would be lost"
    if module._compiled_call_impl is not None:
        return COMPILED
    return None


def compiled(net: nn.Module) -> set[nn.Module]:
    """The modules that torch.compile has wrapped: swapped inside their wrapper, the compiled code would stay."""
    modules = net.named_modules(remove_duplicate=False)
    return {module for name, module in modules if name.rpartition(".")[2] == "_orig_mod"}


def take_over(new: nn.Module, old: nn.Module, kind: type[nn.Module]) -> None:
    """Give `new` what `old` has besides what a `kind` is made of: training mode, hooks, attributes such as qconfig.

    Raises:
        ValueError: `new` has an attribute of that name already.
    """
    new.train(old.training)
    for hooks in _HOOKS:
        # the same dictionaries: the handles of the hooks still remove them
        setattr(new, hooks, getattr(old, hooks))
    for name in vars(old).keys() - vars(_plain(kind)).keys():
        if hasattr(new, name):
            raise ValueError(f"its attribute {name!r} has a meaning of its own in a {type(new).__name__}")
        setattr(new, name, getattr(old, name))


def _plain(kind: type[nn.Module]) -> nn.Module:
    return kind(1, 1, 1, device="meta")


def replace(net: nn.Module, swaps: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Swap modules wherever they stand in `net`, in place; returns `net`, or what takes its own place."""
    if net in swaps:
        return swaps[net]
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if module in swaps:
            net.set_submodule(name, swaps[module])
    return net
