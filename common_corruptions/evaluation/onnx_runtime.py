"""Nets evaluated on the CPU by ONNX Runtime, which takes less time an image than torch once a net has been exported.

It joins batch normalisation, activation and addition with the convolution before them, and keeps channels in blocks
that fill the processor's registers. What it computes is compared with torch's answers all along.
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

# An export takes 1.5 to 2.5 seconds; for an image of 32 x 32 pixels, a ResNet-20 then needs 0.04 to 0.08 ms less, so
# that it pays from 30,000 to 42,000 images on (benchmarks/results/evaluation.json).
WORTH_EXPORTING = 50_000
CHECKED = 100  # one batch in so many is computed by torch, too
ROUNDING = 1e-4  # of the largest logit of a batch; torch and ONNX Runtime differ by 1e-6 to 1e-5


def for_many(net: Net, images: int, device: torch.device | str | None = None) -> Net:
    """What evaluates `images` images fastest: `net` itself, or the same function in ONNX Runtime.

    ONNX Runtime takes a float32 Module on the CPU where the images are at least `WORTH_EXPORTING`, if it and the
    exporter (onnxscript) are installed.

    Args:
        net, device: as for `common_corruptions.evaluation.predict`; what this returned for a net is returned again.
        images: how many are to be evaluated before the weights change.

    Warns:
        UserWarning: the net is a callable that cannot be exported, so torch evaluates it.
    """
    on_cpu = torch.device(device or "cpu").type == "cpu"
    if isinstance(net, Exported) or images < WORTH_EXPORTING or not on_cpu or not _installed():
        return net
    if not isinstance(net, nn.Module):
        warnings.warn(_in_torch("it is no torch.nn.Module"), stacklevel=3)
        return net
    suited = all(
        one.device.type == "cpu" and (one.dtype == torch.float32 or not one.is_floating_point())
        for one in tensors_of(net)
    )
    return Exported(net) if suited else net


class DifferentLogits(RuntimeError):
    """ONNX Runtime gives other logits than torch, so that neither can be trusted."""


class Exported:
    """A net in ONNX Runtime: float32 (n, C, H, W) in, logits (n, K) out as an array.

    The first call with images of a shape (C, H, W) exports the net; one that cannot be exported, or whose answers to
    an image depend on the rest of the batch or on chance, is left to torch, and a warning says so. The first batch of
    every size and every `CHECKED`th are computed by torch as well.

    Args:
        net: a float32 Module on the CPU, which must not change any more.

    Raises:
        DifferentLogits: logits that differ from torch's beyond rounding.
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
            return self.net(inputs.clone())  # a net may write to its images, which are needed again

    def _export(self, inputs: Tensor) -> None:
        answers = self._in_torch(inputs)
        if not isinstance(answers, Tensor):
            return  # no logits: whoever called finds the words for it
        try:
            half = self._in_torch(inputs[: (len(inputs) + 1) // 2])
            if not agree(half.numpy(), answers[: len(half)].numpy()):
                raise ValueError(
                    "its answer to an image depends on the other images of the batch, or on chance"
                )
            with evaluating(self.net):
                session = _session(export(self.net, inputs.shape[1:]))
            _run(session, inputs)
        except Exception as error:  # a net is anyone's code, and so is what its export raises
            reason = " ".join(str(error).split())
            warnings.warn(_in_torch(f"{type(error).__name__}: {reason[:200]}"), stacklevel=2)
        else:
            self.session = session

    def _compare(self, logits: np.ndarray, inputs: Tensor) -> None:
        expected = self._in_torch(inputs).numpy()
        if not agree(logits, expected):
            shapes = f"of shape {logits.shape} and not {expected.shape}"
            differing = logits.shape == expected.shape and np.abs(logits - expected).max()
            far = f"up to {differing:.2g} away, the largest being {np.abs(expected).max():.2g}"
            raise DifferentLogits(
                f"ONNX Runtime gives other logits than torch, {far if differing else shapes}; torch "
                f"evaluates a net in eval mode that is given as a function, lambda x: net(x), or where onnxscript is "
                f"not installed"
            )


def export(net: nn.Module, shape: tuple[int, ...]) -> bytes:
    """The ONNX model of a net in eval mode, for any number of images float32 of a shape (C, H, W).

    Raises:
        Exception: of any type, as torch raises it; the path of the net depends on values, for one.
    """
    images = torch.export.Dim("images")
    cudnn: Any = torch.backends.cudnn  # whose parts have no types
    one_precision = float32_as(cudnn.rnn.fp32_precision)  # the exporter refuses two, CPU or not
    with warnings.catch_warnings(), one_precision, torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter's own packages, about each other
        program = torch.export.export(net, (torch.zeros(2, *shape),), dynamic_shapes=({0: images},))
        exported: Any = torch.onnx.export(program, optimize=False, verbose=False)  # the session optimises it
        model: bytes = exported.model_proto.SerializeToString()
    return model


def agree(logits: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two arrays of logits are equal up to rounding, NaN and infinities at the same places."""
    if logits.shape != expected.shape:
        return False
    size = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    return np.allclose(logits, expected, rtol=0, atol=ROUNDING * size, equal_nan=True)


def _session(model: bytes) -> "InferenceSession":
    import onnxruntime  # here alone, so that a machine without it evaluates in torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin while they wait take from each other and from other processes.
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
    return f"torch evaluates the net, as ONNX Runtime cannot: {reason}"
