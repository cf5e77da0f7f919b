"""Describe errors raised by foreign code (a corruption, a data set, a net): the error in one line, and its location."""

import itertools
import traceback
from pathlib import Path

PACKAGE = Path(__file__).parent
# The files that call such code.
CALLS_NETS = PACKAGE / "benchmarking" / "any_net.py"
CALLS_OWN = PACKAGE / "recipes" / "registry.py"


def reason(error: BaseException) -> str:
    """An error of any type in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def where(error: BaseException) -> str:
    """`file:line` of the first code outside the file that catches the error and outside the registry of corruptions."""
    frames = traceback.extract_tb(error.__traceback__)
    own = (Path(frames[0].filename), CALLS_OWN)
    frame = next((frame for frame in frames if Path(frame.filename) not in own), frames[-1])
    return f"{frame.filename}:{frame.lineno}"


def raised_by_net(error: BaseException) -> str | None:
    """What a net raised, with file and line; None for an error of this package itself.

    The line is the last one outside torch, or inside torch if the net consists of torch's modules only.
    """
    import torch  # imported here, so that commands without nets work without it

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
