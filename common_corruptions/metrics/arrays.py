"""Convert the inputs of metrics: tensors and lists to numpy arrays, and logits to class indices."""

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from common_corruptions.logits import check_defined


def as_array(values: ArrayLike) -> np.ndarray:
    torch = sys.modules.get("torch")  # if torch is not imported, there is no tensor
    if torch and isinstance(values, torch.Tensor):
        tensor: Any = values
        tensor = tensor.detach().cpu()
        # numpy has no bfloat16; float32 holds its values exactly
        values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return np.asarray(values)


def class_indices(values: ArrayLike, what: str, ndim: int) -> np.ndarray:
    """Check class indices with `ndim` axes, or (for predictions) compute them from logits with one more axis."""
    array = as_array(values)
    expected = "(N,)" if ndim == 1 else "(N, T)"
    if array.size == 0:
        raise ValueError(f"{what} are empty: shape {array.shape}")
    if array.ndim == ndim + 1 and what == "predictions":
        if array.dtype.kind not in "fi":
            raise ValueError(f"logits have type {array.dtype}; expected floating point or signed integers")
        if array.shape[-1] < 2:
            raise ValueError(f"logits have shape {array.shape}; expected at least 2 classes on the last axis")
        check_defined(array)
        classes: np.ndarray = array.argmax(axis=-1)
        return classes
    if array.ndim != ndim:
        raise ValueError(f"{what} have shape {array.shape}; expected {expected}")
    if array.dtype.kind not in "iu" or array.min() < 0:
        found = f"{array.min()}" if array.dtype.kind in "iu" else f"{array.dtype}"
        raise ValueError(f"{what} of shape {expected} must be integer class indices from 0; got {found}")
    return array
