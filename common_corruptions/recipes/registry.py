"""The registry of corruptions, and the decorator that declares one.

The benchmark's 19 are declared in the folder `corruptions`. Your own can be declared in any module, and are available
once that module is imported; in a module of that folder they are found by name, without an import.
"""

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from common_corruptions.checks import check_name
from common_corruptions.recipes.names import CORRUPTION_GROUPS, CORRUPTIONS, SEVERITIES

Function = TypeVar("Function", bound=Callable[..., np.ndarray])
Constants = tuple[tuple[float, ...], ...]

PACKAGE = f"{__package__}.corruptions"
FOLDER = Path(__file__).parent / "corruptions"
PUBLISHED_SIDE = 32  # pixels, of CIFAR-10-C
# Words used in the place of a corruption's name: in params.yaml, in rows of tables, for files beside those of a set.
TAKEN = ("all", "clean", "labels", "main", "mean")


@dataclass(frozen=True)
class Recipe:
    """How a corruption is made: function(images, draws, *constants), and the constants of each scale and severity."""

    function: Callable[..., np.ndarray]
    group: str
    constants: Constants
    imagenet: Constants
    resized: Callable[..., tuple[float, ...]] | None

    def at(self, scale: str, severity: int, height: int, width: int) -> tuple[float, ...]:
        """The constants for a severity (1 to 5) and images of this size, at the scale "cifar" or "imagenet".

        ImageNet-C's constants are used as they are. Those of CIFAR-10-C are for 32 x 32, and grow with the shorter side
        if the corruption defines how.
        """
        if scale == "imagenet":
            return self.imagenet[severity - 1]
        constants, factor = self.constants[severity - 1], min(height, width) / PUBLISHED_SIDE
        return constants if self.resized is None or factor == 1 else self.resized(factor, *constants)


@dataclass(frozen=True)
class Place:
    """Where a corruption is declared in a folder: the module's file, the line, and its group."""

    path: Path
    line: int
    group: str


_declared: dict[str, Recipe] = {}


def corruption(
    name: str,
    *,
    group: str,
    constants: Sequence[Sequence[float]],
    imagenet: Sequence[Sequence[float]] | None = None,
    resized: Callable[..., tuple[float, ...]] | None = None,
) -> Callable[[Function], Function]:
    """Declare the decorated function as a corruption, which `corrupt`, sets, pictures and tables then accept by name.

    The function is called as `function(images, draws, *constants[severity - 1])`, with some consecutive images of a set
    and the constants of one of the two scales for the severity. The images are uint8 (N, H, W, C), read-only, RGB or
    one channel; it returns uint8 of the same shape. It must treat each image independently and take all random numbers
    from `draws` (`common_corruptions.recipes.random.Draws`), so that the same seed gives the same set for any number of
    processes.

    Args:
        name: lower-case letters, digits and `_`; it becomes the file name.
        group: noise, blur, weather or digital.
        constants: further arguments of the function, one tuple for each of the severities 1 to 5.
        imagenet: the same at the scale "imagenet", by default `constants`.
        resized: if `constants` are for 32 x 32 only, a function that adapts them to other sizes:
            `resized(factor, *constants)` for a shorter side of `factor` times 32 pixels. Used at the scale "cifar".

    Raises:
        ValueError: a name that is invalid or taken; another group; not five tuples, or one that does not fit the
            function's arguments.
    """
    scales = {"constants": constants, "imagenet": constants if imagenet is None else imagenet}
    _check_declaration(name, group, scales)

    def declare(function: Function) -> Function:
        for of_scale in scales.values():
            for severity, values in zip(SEVERITIES, of_scale, strict=True):
                _check_arguments(name, function, severity, values)
        _check_free(name, function)
        tuples = {scale: tuple(map(tuple, of_scale)) for scale, of_scale in scales.items()}
        _declared[name] = Recipe(function, group, resized=resized, **tuples)
        return function

    return declare


def recipe(name: str) -> Recipe:
    """The recipe of a corruption; imports the module of the folder that declares it if necessary.

    Raises:
        ValueError: as `check_corruption`.
    """
    check_corruption(name)
    if name not in _declared:
        importlib.import_module(f"{PACKAGE}.{declared_in(FOLDER)[name].path.stem}")
    return _declared[name]


def added() -> dict[str, str]:
    """The corruptions that are not the benchmark's, with their groups: those of the folder, then those imported.

    Raises:
        ValueError: as `declared_in`.
    """
    groups = {name: place.group for name, place in declared_in(FOLDER).items()}
    groups |= {name: recipe.group for name, recipe in _declared.items()}
    return {name: group for name, group in groups.items() if name not in CORRUPTIONS}


def grouped() -> dict[str, tuple[str, ...]]:
    """All corruptions by group: the benchmark's, then those added."""
    others = added()
    return {
        group: names + tuple(name for name in others if others[name] == group)
        for group, names in CORRUPTION_GROUPS.items()
    }


def check_corruption(name: str) -> None:
    """Raise ValueError unless a corruption has that name; the message says the nearest name and how to add one."""
    if name in CORRUPTIONS:
        return
    try:
        check_name(name, (*CORRUPTIONS, *added()), "corruption")
    except ValueError as error:
        raise ValueError(
            f"{error} (to add your own, decorate a function with @corruption, in a module that is imported first or "
            f"is in common_corruptions/recipes/corruptions)"
        ) from None


@functools.cache
def declared_in(folder: Path) -> dict[str, Place]:
    """What the modules of a folder declare, read from their source without importing them.

    Raises:
        ValueError: a module that is not Python; a name or group that is not a literal; two functions of one name.
    """
    found: dict[str, Place] = {}
    for path in sorted(folder.glob("*.py")):
        for name, place in _declarations(path):
            if name in found:
                first = found[name]
                raise ValueError(
                    f"two corruptions are named {name!r}: {first.path.name}, line {first.line}, and {path.name}, "
                    f"line {place.line}, of {folder}"
                )
            found[name] = place
    return found


def _declarations(path: Path) -> Iterator[tuple[str, Place]]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), path)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not Python: {error}") from None
    for function in tree.body:
        for call in function.decorator_list if isinstance(function, ast.FunctionDef) else ():
            if not isinstance(call, ast.Call) or ast.unparse(call.func).split(".")[-1] != "corruption":
                continue
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            match call.args, given.get("name"), given.get("group"):
                case ([ast.Constant(str(name))], None, ast.Constant(str(group))):
                    pass
                case ([], ast.Constant(str(name)), ast.Constant(str(group))):
                    pass
                case _:
                    raise ValueError(
                        f"{path}, line {call.lineno}: name and group must be literals, as in "
                        f'@corruption("posterize", group="digital", ...)'
                    )
            yield name, Place(path, call.lineno, group)


def _check_declaration(name: str, group: str, scales: dict[str, Sequence[Sequence[float]]]) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"a corruption's name must be lower-case letters, digits and '_', not {name!r}: it becomes a file name"
        )
    if name in TAKEN:
        raise ValueError(f"a corruption cannot be named {name!r}: that word is reserved for other uses")
    if group not in CORRUPTION_GROUPS:
        raise ValueError(f"the group of {name} must be one of {', '.join(CORRUPTION_GROUPS)}, not {group!r}")
    for argument, constants in scales.items():
        five = isinstance(constants, tuple | list) and len(constants) == len(SEVERITIES)
        if not five or not all(isinstance(values, tuple | list) for values in constants):
            raise ValueError(
                f"{argument} of {name} must be five tuples, one for each severity, such as ((6,), (5,), (4,), (3,), "
                f"(2,)), not {constants!r}"
            )


def _check_arguments(
    name: str, function: Callable[..., np.ndarray], severity: int, values: Sequence[float]
) -> None:
    try:
        inspect.signature(function).bind(None, None, *values)
    except TypeError as error:
        raise ValueError(
            f"{name} is called with images, draws and the constants of a severity; those of severity {severity}, "
            f"{tuple(values)}, do not fit its arguments: {error}"
        ) from None


def _check_free(name: str, function: Callable[..., np.ndarray]) -> None:
    """Raise ValueError if the name belongs to another function; the same one may return when its module is reloaded."""
    if name in _declared:
        other = _declared[name].function
        if (other.__module__, other.__qualname__) != (function.__module__, function.__qualname__):
            raise ValueError(
                f"two corruptions are named {name!r}: {other.__module__}.{other.__qualname__} and "
                f"{function.__module__}.{function.__qualname__}"
            )
    elif not function.__module__.startswith(f"{PACKAGE}.") and name in declared_in(FOLDER):
        raise ValueError(f"{declared_in(FOLDER)[name].path} already declares a corruption {name!r}")
