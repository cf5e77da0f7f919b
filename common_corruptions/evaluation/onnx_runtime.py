"""Evaluate nets on the CPU with ONNX Runtime, which takes less time per image than torch, but needs an export.

It fuses batch normalisation, activation and addition with the preceding convolution, and keeps channels in blocks
that fill the processor's registers. Its logits are regularly compared with torch's.
"""

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from common_corruptions.evaluation.inputs import float32_as
from common_corruptions.evaluation.prediction import Net, evaluating, tensors_of

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# An export takes 5 to 7 seconds and saves a ResNet-20 0.07 to 0.22 ms per image of 32 x 32 pixels, so it pays off from
# 32,000 to 68,000 images on (benchmarks/results/evaluation.json).
WORTH_EXPORTING = 50_000
CHECKED = 100  # every so many batches, one is computed by torch, too
ROUNDING = 1e-4  # of the largest logit of a batch; torch and ONNX Runtime differ by 1e-6 to 1e-5


def for_many(net: Net, images: int, device: torch.device | str | None = None) -> Net:
    """The fastest way to evaluate `images` images: `net` itself, or the same function in ONNX Runtime.

    ONNX Runtime is used for a float32 Module on the CPU and at least `WORTH_EXPORTING` images, if it and the exporter
    (onnxscript) are installed.

    Args:
        net, device: as for `common_corruptions.evaluation.predict`; a net returned by this function is returned as it
            is.
        images: how many are to be evaluated before the weights change.

    Warns:
        UserWarning: the net is a callable that cannot be exported, so torch evaluates it.
    """
    on_cpu = torch.device(device or "cpu").type == "cpu"
    if isinstance(net, Exported) or images < WORTH_EXPORTING or not on_cpu or not _installed():
        return net
    if not isinstance(net, nn.Module):
        warnings.warn(_in_torch("it is not a torch.nn.Module"), stacklevel=3)
        return net
    suited = all(
        one.device.type == "cpu" and (one.dtype == torch.float32 or not one.is_floating_point())
        for one in tensors_of(net)
    )
    return Exported(net) if suited else net


class DifferentLogits(RuntimeError):
    """The logits of ONNX Runtime and torch differ, so neither can be trusted."""


class Exported:
    """A net in ONNX Runtime: takes float32 (n, C, H, W) and returns logits (n, K) as an array.

    The first call with images of a shape (C, H, W) exports the net. If it cannot be exported, or its logits for an
    image depend on the rest of the batch or on chance, torch evaluates it, with a warning. The first batch of every
    size and every `CHECKED`th batch are computed by torch as well.

    Args:
        net: a float32 Module on the CPU, which must not change afterwards.

    Raises:
        DifferentLogits: logits that differ from torch's by more than rounding.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.session: InferenceSession | None = None
        self.calls = 0
        self.shape: tuple[int, ...] = ()
        self.sizes: set[int] = set()

    def __call__(self, inputs: Tensor) -> Any:
        if tuple(inputs.shape[1:]) != self.shape:
            self.shape, self.session, self.calls = tuple(inputs.shape[1:]), None, 0
            self.sizes.clear()
            self._export(inputs)
        if self.session is None:
            self.calls += 1
            return self._in_torch(inputs)
        logits = _run(self.session, inputs)
        if self.calls % CHECKED == 0 or len(inputs) not in self.sizes:
            self._compare(logits, inputs)
            self.sizes.add(len(inputs))
        self.calls += 1
        return logits

    def _in_torch(self, inputs: Tensor) -> Any:
        with evaluating(self.net), torch.inference_mode():
            return self.net(inputs.clone())  # a net may modify its inputs, which are needed again

    def _export(self, inputs: Tensor) -> None:
        answers = self._in_torch(inputs)
        if not isinstance(answers, Tensor):
            return  # no logits: the caller raises the error
        try:
            half = self._in_torch(inputs[: (len(inputs) + 1) // 2])
            if not agree(half.numpy(), answers[: len(half)].numpy()):
                raise ValueError(
                    "its output for an image depends on the other images of the batch, or on chance"
                )
            with evaluating(self.net):
                session = _session(export(self.net, inputs.shape[1:]))
            _run(session, inputs)
        except Exception as error:  # user code and its export may raise anything
            reason = " ".join(str(error).split())
            warnings.warn(_in_torch(f"{type(error).__name__}: {reason[:200]}"), stacklevel=2)
        else:
            self.session = session

    def _compare(self, logits: np.ndarray, inputs: Tensor) -> None:
        expected = self._in_torch(inputs).numpy()
        if not agree(logits, expected):
            shapes = f"in shape: {logits.shape} and {expected.shape}"
            differing = logits.shape == expected.shape and np.abs(logits - expected).max()
            far = f"by up to {differing:.2g}, the largest logit being {np.abs(expected).max():.2g}"
            raise DifferentLogits(
                f"the logits of ONNX Runtime and torch differ {far if differing else shapes}; to use "
                f"torch alone, call net.eval() and give a function, lambda x: net(x), or uninstall onnxscript"
            )


def export(net: nn.Module, shape: tuple[int, ...]) -> bytes:
    """The ONNX model of a net in eval mode, for any number of float32 images of a shape (C, H, W).

    Raises:
        Exception: of any type, as raised by torch; for example if the control flow depends on values.
    """
    images = torch.export.Dim("images")
    cudnn: Any = torch.backends.cudnn  # its attributes are untyped
    one_precision = float32_as(cudnn.rnn.fp32_precision)  # the exporter refuses two, even on the CPU
    with warnings.catch_warnings(), one_precision, torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # from the exporter's own packages
        program = torch.export.export(net, (torch.zeros(2, *shape),), dynamic_shapes=({0: images},))
        exported: Any = torch.onnx.export(program, optimize=False, verbose=False)  # the session optimises it
        model: bytes = exported.model_proto.SerializeToString()
    return model


def agree(logits: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two arrays of logits are equal up to rounding, with NaN and infinities in the same places."""
    if logits.shape != expected.shape:
        return False
    size = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    return np.allclose(logits, expected, rtol=0, atol=ROUNDING * size, equal_nan=True)


def _session(model: bytes) -> "InferenceSession":
    import onnxruntime  # imported here, so that torch can evaluate without it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Spinning threads would take time from each other and from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: "InferenceSession", inputs: Tensor) -> np.ndarray:
    logits: np.ndarray
    (logits,) = session.run(None, {session.get_inputs()[0].name: inputs.contiguous().numpy()})
    return logits


def _installed() -> bool:
    return all(find_spec(name) is not None for name in ("onnx", "onnxruntime", "onnxscript"))


def _in_torch(reason: str) -> str:
    return f"torch evaluates the net because ONNX Runtime cannot: {reason}"
