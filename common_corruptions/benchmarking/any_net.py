"""Adapters that turn modules, functions and ONNX sessions into functions from images to logits."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common_corruptions.benchmarking.modes import in_training_mode
from common_corruptions.evaluation import Net

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def adapt(net: Any, logits: str | int | None = None) -> Net:
    """Adapt a net for `common_corruptions.evaluation.predict`.

    Args:
        net: a Module, an `onnxruntime.InferenceSession`, or any callable. It takes floats (n, C, H, W) and returns
            logits (n, K) as a tensor, a NumPy array, something that converts to one, a list of rows, or a tuple, list
            or dict that holds them.
        logits: key, attribute or index of the logits in the net's output; needed if it holds more than one thing of
            shape (n, K).

    Warns:
        UserWarning: on the first call of a function that leaves a module in training mode, as far as its modules can be
            found (`common_corruptions.benchmarking.modes`).

    Raises:
        TypeError: a net that cannot be called; when called, a net that returns no logits, or more than one candidate.
        ValueError: an ONNX model without exactly one floating-point input, or, when called, one that rejects the
            images.
    """
    if isinstance(net, nn.Module):
        return _Module(net, logits)
    if hasattr(net, "run") and hasattr(net, "get_inputs"):
        return Session(net, logits)
    if not callable(net):
        raise TypeError(
            f"a {type(net).__name__} is not a net: give a Module, an ONNX session, or a function from floats "
            f"(n, C, H, W) to logits (n, K)"
        )
    return _Function(net, logits)


class _Module(nn.Module):
    """Returns the logits of a Module; has its parameters and modes."""

    def __init__(self, net: nn.Module, logits: str | int | None) -> None:
        super().__init__()
        self.net, self.logits = net, logits
        self.training = getattr(net, "training", False)  # a frozen script has no mode, and none may be set

    def forward(self, inputs: Tensor) -> Tensor | np.ndarray:
        return pick(self.net(inputs), self.logits)


class _Function:
    """Returns the logits of a function, whose modules stay in the modes that they are in."""

    def __init__(self, function: Callable[[Tensor], Any], logits: str | int | None) -> None:
        self.function, self.logits = function, logits
        self.called = False

    def __call__(self, inputs: Tensor) -> Tensor | np.ndarray:
        answer = self.function(inputs)
        if not self.called:  # after the call, as a function may call eval() itself
            self.called = True
            if training := in_training_mode(self.function):
                warnings.warn(
                    f"the net is a function, and {', '.join(training)} in it is in training mode, so predictions may "
                    f"depend on chance or on the rest of the batch; call its eval() first",
                    stacklevel=2,
                )
        return pick(answer, self.logits)


class Session:
    """Returns the logits of an ONNX session; a model with a fixed batch size gets batches of that size."""

    def __init__(self, session: Any, logits: str | int | None) -> None:
        takes = session.get_inputs()
        if len(takes) != 1 or takes[0].type not in TYPES:
            described = ", ".join(f"{one.name} {one.type}" for one in takes)
            raise ValueError(f"the ONNX model takes {described}; expected only floating-point images")
        self.session, self.logits = session, logits
        self.name, self.type = takes[0].name, TYPES[takes[0].type]
        self.outputs = [one.name for one in session.get_outputs()]
        size = takes[0].shape[0] if takes[0].shape else None
        self.size = size if isinstance(size, int) else None

    def __call__(self, inputs: Tensor) -> Tensor | np.ndarray:
        images = inputs.cpu().contiguous().numpy().astype(self.type)
        size = self.size or len(images)
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        return np.concatenate([np.asarray(self._logits(part, size)) for part in parts])

    def _logits(self, part: np.ndarray, size: int) -> Tensor | np.ndarray:
        filled = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), self.type)])
        try:
            answers = self.session.run(None, {self.name: filled})
        except Exception as error:  # onnxruntime has one exception type per error code
            reason = " ".join(str(error).split())
            raise ValueError(
                f"the ONNX model does not accept images {filled.shape}: {reason[:300]}"
            ) from None
        return pick(dict(zip(self.outputs, answers, strict=True)), self.logits)[: len(part)]


def pick(answer: Any, logits: str | int | None = None) -> Tensor | np.ndarray:
    """The logits in the output of a net.

    Args:
        answer: the output, see `adapt`.
        logits: the key of a dict, the index in a tuple or list, or the name of an attribute.

    Raises:
        TypeError: nothing under that key; or, without one, not exactly one entry of shape (n, K).
    """
    if logits is not None:
        found = _array(_entry(answer, logits))
        if found is None:
            raise TypeError(
                f"logits={logits!r} selects no logits from what the net returned, {_described(answer)}"
            )
        return found
    array = _array(answer)
    if array is not None:
        return array
    entries = _entries(answer)
    arrays = {key: _array(value) for key, value in entries.items()}
    candidates = {key: array for key, array in arrays.items() if array is not None and array.ndim == 2}
    if len(candidates) != 1:
        example = next(iter(candidates), "logits")
        raise TypeError(
            f"the net returned {_described(answer)}, not only logits (n, K); select them, such as by "
            f"logits={example!r}, or give a function that returns them, with the net in eval mode"
        )
    return next(iter(candidates.values()))


def _entry(answer: Any, key: str | int) -> Any:
    entries = _entries(answer)
    if isinstance(key, int) and isinstance(answer, tuple | list) and -len(answer) <= key < 0:
        key += len(answer)
    if key in entries:
        return entries[key]
    return getattr(answer, key, None) if isinstance(key, str) and _array(answer) is None else None


def _entries(answer: Any) -> dict[str | int, Any]:
    if isinstance(answer, Mapping):
        return dict(answer)
    return dict(enumerate(answer)) if isinstance(answer, tuple | list) else {}


def _array(value: Any) -> Tensor | np.ndarray | None:
    """A tensor unchanged; an array, or rows of numbers, arrays or tensors, as something torch can take; or None."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, list) and value and all(isinstance(row, Tensor) and row.ndim == 1 for row in value):
        return torch.stack(value) if len({row.shape for row in value}) == 1 else None
    if isinstance(value, list) and value and all(_is_row(row) for row in value):
        return np.asarray(value, dtype=np.float64) if len({len(row) for row in value}) == 1 else None
    if not hasattr(value, "__array__"):
        return None
    array = np.asarray(value)
    if array.dtype.kind in "fiub":
        return array
    try:
        return array.astype(np.float32)  # JAX's bfloat16, which NumPy and torch.tensor do not support
    except (TypeError, ValueError):
        return None


def _is_row(row: Any) -> bool:
    if isinstance(row, np.ndarray):
        return row.ndim == 1
    return (
        isinstance(row, list)
        and bool(row)
        and all(isinstance(number, int | float | np.number) for number in row)
    )


def _described(answer: Any) -> str:
    array = _array(answer)
    if array is not None:
        return f"{type(answer).__name__} {tuple(array.shape)}"
    parts = []
    for key, value in list(_entries(answer).items())[:8]:
        array = _array(value)
        parts.append(f"{key!r}: {type(value).__name__ if array is None else tuple(array.shape)}")
    return f"a {type(answer).__name__}" + (f" with {', '.join(parts)}" if parts else "")
