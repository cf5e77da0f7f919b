"""Putting other modules in the places of a net's modules."""

from collections.abc import Mapping

from torch import nn

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


def take_over(new: nn.Module, old: nn.Module) -> None:
    """Give `new` the training mode and the hooks of `old`."""
    new.train(old.training)
    for hooks in _HOOKS:
        # the same dictionaries: the handles of the hooks still remove them
        setattr(new, hooks, getattr(old, hooks))


def replace(net: nn.Module, swaps: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Swap modules wherever they stand in `net`, in place; returns `net`, or what takes its own place."""
    if net in swaps:
        return swaps[net]
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if module in swaps:
            net.set_submodule(name, swaps[module])
    return net
