"""Which module of this folder registers which net, read from the sources to avoid importing torch."""

import ast
import functools
from pathlib import Path


@functools.cache
def families() -> dict[str, str]:
    """Map each registered name to the name of the module in `nets/` that registers it, in module and line order."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= dict.fromkeys(filter(None, map(_registered, ast.walk(tree))), path.stem)
    return found


def _registered(node: ast.AST) -> str | None:
    """The name in a decorator `@register("name")`, or None for any other node."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "register":
        match node.args:
            case [ast.Constant(value=str(name)), *_]:
                return name
    return None
