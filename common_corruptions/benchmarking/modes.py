"""Find the modules that a function refers to, as far as possible: nothing else sets their mode before it is called."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

from torch import nn

DEPTH = 4  # references followed from the function; nets are seldom farther away


def in_training_mode(function: Callable[..., Any]) -> list[str]:
    """Modules in training mode that a function refers to, each as `name (Type)`, or `Type` if it has no name.

    The search covers the object of a method, the closure and global variables of a function, the parts of a
    `functools.partial`, the attributes of any other callable object, and lists, tuples and dicts of these.
    """
    training = {}
    for name, module in _modules(function, "", DEPTH, set()):
        # A frozen ScriptModule has no mode.
        if any(getattr(part, "training", False) for part in module.modules()):
            kind = type(module).__name__
            training[id(module)] = f"{name} ({kind})" if name else kind
    return list(training.values())


def _modules(value: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        yield name, value
    elif depth > 0:
        for inner, part in _parts(value):
            yield from _modules(part, inner, depth - 1, seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a value, with their names."""
    if isinstance(value, MethodType):
        owner = value.__self__
        yield from [("", owner)] if isinstance(owner, nn.Module) else getattr(owner, "__dict__", {}).items()
        yield "", value.__func__
    elif isinstance(value, FunctionType):
        try:
            around = inspect.getclosurevars(value)
        except ValueError:  # a variable that is not set yet
            return
        yield from around.nonlocals.items()
        yield from around.globals.items()
    elif isinstance(value, functools.partial):
        yield "", value.func
        yield from (("", part) for part in value.args)
        yield from value.keywords.items()
    elif isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from (("", part) for part in value)
    elif callable(value) and not isinstance(value, type) and hasattr(value, "__dict__"):
        yield from vars(value).items()
        yield "", type(value).__call__
