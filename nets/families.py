"""Which module of this folder holds which net, read from the sources, so that nobody waits for torch to know it."""

import ast
import functools
from pathlib import Path


@functools.cache
def families() -> dict[str, str]:
    """Registered name -> the module of `nets/` that registers it, by name, in the order of modules and lines."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= dict.fromkeys(filter(None, map(_registered, ast.walk(tree))), path.stem)
    return found


def _registered(node: ast.AST) -> str | None:
    """The name in a decorator `@register("name")`, if the node is one."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "register":
        match node.args:
            case [ast.Constant(value=str(name)), *_]:
                return name
    return None
