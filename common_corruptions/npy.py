"""Read `.npy` files: memory-map an array, or raise a one-line error that says which file is invalid and why."""

import os

import numpy as np


def load_array(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an `.npy` file, memory-mapped and read-only.

    Raises:
        OSError: no such file, or another error of the file system.
        ValueError: the file is empty, truncated, damaged, holds Python objects, or is something else altogether, such
            as an archive or a web page.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # a damaged header may raise anything, even an error of the tokenizer
        reason = _fault(path) or " ".join(str(error).split())
        raise ValueError(
            f"{path} is not an .npy file of numbers: {reason}; fetch it or make it again"
        ) from None


def load_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Class indices (N,) from an `.npy` file.

    Raises:
        OSError, ValueError: as for `load_array`; an array that is not of integers from 0 in one dimension.
    """
    labels = load_array(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (len(labels) and labels.min() < 0):
        raise ValueError(
            f"{path} must hold labels, integers (N,) from 0, not {labels.dtype} of shape {labels.shape}"
        )
    return np.array(labels)


def _fault(path: str | os.PathLike[str]) -> str | None:
    """What the file is instead, judged by its first bytes; None if they are those of an `.npy` file."""
    with open(path, "rb") as file:
        start = file.read(16)
    prefix = np.lib.format.MAGIC_PREFIX
    if not start:
        return "it is empty"
    return None if start.startswith(prefix) else f"it begins with {start!r}, not with {prefix!r}"
