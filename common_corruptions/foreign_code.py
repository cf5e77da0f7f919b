"""Code that is not this package's, a module of corruptions or a net: its import, and its errors in one line."""

import importlib
import itertools
import traceback
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parent
CALLS_NETS = PACKAGE / "benchmarking" / "any_net.py"
CALLS_OWN = PACKAGE / "recipes" / "registry.py"


def import_named(name: str) -> ModuleType:
    """The module of this name, in the current folder or installed.

    Raises:
        ValueError: a path in place of a name, or whatever the module raises, with its type.
    """
    if name.endswith(".py") or "/" in name or "\\" in name:
        plain = name.replace("\\", "/").removesuffix(".py").strip("./").replace("/", ".")
        raise ValueError(f"{name} cannot be imported: give the name of the module, without .py: {plain}")
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} cannot be imported: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """An error of any type in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def where(error: BaseException) -> str:
    """`file:line` of the first code that is not that of the file which catches the error, or of what it calls."""
    frames = traceback.extract_tb(error.__traceback__)
    own = (Path(frames[0].filename), CALLS_OWN)
    frame = next((frame for frame in frames if Path(frame.filename) not in own), frames[-1])
    return f"{frame.filename}:{frame.lineno}"


def raised_by_net(error: BaseException) -> str | None:
    """What a net raised, and in which file and line; None of an error that is this package's own.

    The line is the last one outside of torch, or of torch where a net is made of its modules alone.
    """
    import torch  # here alone, so that the commands without nets do without it

    frames = traceback.extract_tb(error.__traceback__)
    files = [Path(frame.filename) for frame in frames]
    for place, (file, called) in enumerate(itertools.pairwise(files)):
        if file == CALLS_NETS and not called.is_relative_to(PACKAGE):
            inside = frames[place + 1 :]
            of_torch = Path(torch.__file__).parent
            written = [frame for frame in inside if not Path(frame.filename).is_relative_to(of_torch)]
            last = (written or inside)[-1]
            return f"the net raises {reason(error)} ({last.filename}:{last.lineno})"
    return None
