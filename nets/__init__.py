"""The nets of the push-pull paper and current baselines, each with or without push-pull layers.

`create_net` builds a net by name, `list_nets` lists the names, `@register` adds a net; `python -m nets` prints a table.
`load_official` and `export_official` read and write checkpoints of the paper's authors. Each module that registers
nets is a family.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nets.official import export_official, load_official
    from nets.registry import create_net, list_nets, register

__all__ = ["create_net", "export_official", "list_nets", "load_official", "register"]

_HOME = {"create_net": "registry", "list_nets": "registry", "register": "registry"}
_HOME |= {"export_official": "official", "load_official": "official"}


def __getattr__(name: str) -> Any:
    # Imported at the first use, so that `nets.families` works without loading torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"nets.{_HOME[name]}"), name)
    return value
