"""Import a module that a user names."""

import importlib
from types import ModuleType

from common_corruptions.raising import reason


def import_named(name: str) -> ModuleType:
    """Import the module of this name, from the current folder or installed.

    Raises:
        ValueError: a path in place of a name, or any error of the module, with its type.
    """
    if name.endswith(".py") or "/" in name or "\\" in name:
        plain = name.replace("\\", "/").removesuffix(".py").strip("./").replace("/", ".")
        raise ValueError(f"{name} cannot be imported: give the name of the module, without .py: {plain}")
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} cannot be imported: {reason(error)}") from None
