"""Replace modules of a net by other modules."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

from torch import Tensor, nn

Kind = TypeVar("Kind", bound=type[nn.Module])

# Hooks are stored in private dictionaries of a module; there is no public way to move them.
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


# These hooks keep a reference to the module that they were registered with.
_STATE_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)

COMPILED = "it is compiled and would keep computing the old result; compile the net afterwards"

# What a subclass may override, because it has no effect once the module is built.
_HARMLESS = {
    "__init__", "reset_parameters", "extra_repr", "__repr__", "__constants__", "__doc__", "__module__", "__dict__",
    "__weakref__", "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__",
    "__static_attributes__", "__firstlineno__",
}  # fmt: skip


_EMPTY = CellType()  # the cell of a variable that is not set yet


def kind_of(module: nn.Module, kinds: Iterable[Kind]) -> Kind:
    """The first of `kinds` that `module` is an instance of."""
    return next(kind for kind in kinds if isinstance(module, kind))


def what_is_lost(module: nn.Module, kind: type[nn.Module]) -> str | None:
    """Return what `module` does or holds beyond a plain `kind` that cannot move to another module, or None."""
    for cls in type(module).__mro__[: type(module).__mro__.index(kind)]:
        for name in vars(cls).keys() - _HARMLESS:
            if hasattr(kind, name):
                return f"it defines its own {name}, which would be lost"
    if overridden := [name for name in vars(module) if callable(getattr(kind, name, None))]:
        return f"it defines its own {overridden[0]}, which would be lost"
    for what in ("_parameters", "_buffers", "_modules"):
        if added := getattr(module, what).keys() - {"weight", "bias", "alpha"}:
            return f"it holds {min(added)!r} besides its weights, which would be lost"
    if any(getattr(module, hooks) for hooks in _STATE_HOOKS):
        return "its hooks on the state_dict would be lost"
    if module._compiled_call_impl is not None:
        return COMPILED
    return None


def compiled(net: nn.Module) -> set[nn.Module]:
    """The modules wrapped by torch.compile; replacing one inside its wrapper would leave the compiled code in use."""
    modules = net.named_modules(remove_duplicate=False)
    return {module for name, module in modules if name.rpartition(".")[2] == "_orig_mod"}


def take_over(new: nn.Module, old: nn.Module, kind: type[nn.Module]) -> None:
    """Give `new` what `old` has beyond a plain `kind`: training mode, hooks, added attributes such as qconfig.

    Raises:
        ValueError: `new` already has an attribute of that name.
    """
    new.train(old.training)
    for hooks in _HOOKS:
        # the same dictionaries, so that the handles of the hooks can still remove them
        setattr(new, hooks, getattr(old, hooks))
    for name in vars(old).keys() - vars(_plain(kind)).keys():
        if hasattr(new, name):
            raise ValueError(f"its attribute {name!r} conflicts with an attribute of {type(new).__name__}")
        setattr(new, name, getattr(old, name))


def _plain(kind: type[nn.Module]) -> nn.Module:
    return kind(1, 1, 1, device="meta")


def replace(net: nn.Module, swaps: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Replace modules wherever they occur in `net`, in place; returns `net`, or its own replacement.

    Raises:
        ValueError: an attribute of a module of the net also refers to one of them, and would go on using the old one:
            a list, tuple, set or dict, a bound method, a `functools.partial`, a function's closure or an object of
            any class. The net is then unchanged.
    """
    _check_held(net, swaps)
    if net in swaps:
        return swaps[net]
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if module in swaps:
            net.set_submodule(name, swaps[module])
    return net


def _check_held(net: nn.Module, swaps: Mapping[nn.Module, nn.Module]) -> None:
    names = {module: name for name, module in net.named_modules()}
    # A module's own dictionaries hold its children, which are replaced there, and its hooks, which are kept.
    known = vars(nn.Module()).keys()
    for module, name in names.items():
        for attribute in sorted(vars(module).keys() - known):
            for held in _held(vars(module)[attribute], names):
                if held in swaps:
                    place = f"{name}.{attribute}" if name else attribute
                    raise ValueError(
                        f"cannot replace {names[held] or 'the net'!r} ({type(held).__name__}): the attribute {place!r} "
                        f"also refers to it, outside the net's modules, and would keep the old layer; hold it in an "
                        f"nn.ModuleList or nn.ModuleDict, or set {place!r} afterwards"
                    )


def _held(value: Any, inside: Mapping[nn.Module, str]) -> Iterator[nn.Module]:
    """Yield the modules in a value, recursively; for a module outside the net, also the modules inside it."""
    waiting = [value]
    seen: dict[int, Any] = {}
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value  # keep a reference, so that no other object gets its id
        if issubclass(type(value), nn.Module):  # isinstance would accept a weak proxy
            yield value
            waiting += [] if value in inside else value.children()
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        elif isinstance(value, MethodType):
            waiting += (value.__self__, value.__func__)
        elif isinstance(value, functools.partial):
            waiting += (value.func, value.args, value.keywords)
        elif isinstance(value, FunctionType):
            waiting += [cell.cell_contents for cell in value.__closure__ or () if cell != _EMPTY]
            waiting += (value.__defaults__, value.__kwdefaults__)
        elif not isinstance(value, type | ModuleType | Tensor):
            waiting += _attributes(value)


def _attributes(value: Any) -> Iterable[Any]:
    """The values in an object's `__dict__`, without computing properties."""
    try:
        own: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return ()
    return own.values()
