"""Load nets that are named on a command line: from a module, an ONNX file or torchvision."""

import hashlib
from pathlib import Path
from typing import Any

from torch import nn

from common_corruptions.importing import import_named
from common_corruptions.raising import reason


def load_net(name: str) -> Any:
    """Load a net for `benchmark`.

    Args:
        name: `module:net`, a Module or an ONNX session; `module:function`, called without arguments to build the net;
            `file.onnx`, for ONNX Runtime on the CPU; or `torchvision:model`, with the default weights, which
            torchvision downloads.

    Raises:
        OSError: no such file.
        ValueError: another form of name, a package that is not installed, or a net that cannot be imported or built.
    """
    if name.endswith(".onnx"):
        return _from_onnx(Path(name))
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(
            f"{name!r} is not a net; give module:net, module:function, file.onnx or torchvision:model"
        )
    return _from_torchvision(attribute) if module == "torchvision" else _from_module(module, attribute)


def digest_of_file(path: Path) -> str:
    """Digest of an ONNX file and of the external files that hold its weights.

    Raises:
        ValueError: the package onnx is not installed, or cannot read the file.
    """
    try:
        import onnx
        from onnx.external_data_helper import uses_external_data
    except ImportError:
        raise ValueError(f"{path} needs the package onnx") from None
    try:
        tensors = onnx.load(path, load_external_data=False).graph.initializer
    except Exception as error:  # protobuf has its own exception types
        raise ValueError(f"{path} is not a model that onnx reads: {reason(error)}") from None
    entries = [entry for tensor in tensors if uses_external_data(tensor) for entry in tensor.external_data]
    beside = sorted({entry.value for entry in entries if entry.key == "location"})
    digest = hashlib.sha256()
    for part in (path, *(path.parent / name for name in beside)):
        with open(part, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _from_onnx(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(f"{path} needs the package onnxruntime") from None
    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has one exception type per error code
        raise ValueError(f"{path} is not a model that ONNX Runtime reads: {reason(error)}") from None


def _from_torchvision(model: str) -> Any:
    try:
        from torchvision import models
    except ImportError:
        raise ValueError(f"torchvision:{model} needs the package torchvision") from None
    if model not in models.list_models():
        raise ValueError(f"torchvision has no model {model!r}; torchvision.models.list_models() lists them")
    try:
        return models.get_model(model, weights="DEFAULT")
    except Exception as error:  # from the download or the downloaded weights
        raise ValueError(f"torchvision:{model} cannot be loaded: {reason(error)}") from None


def _from_module(module: str, attribute: str) -> Any:
    found: Any = import_named(module)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except Exception as error:  # user code may raise anything
            raise ValueError(f"{module}:{attribute} cannot be imported: {reason(error)}") from None
    if isinstance(found, nn.Module) or (hasattr(found, "get_inputs") and not isinstance(found, type)):
        return found
    if not callable(found):
        raise ValueError(
            f"{module}:{attribute} is neither a net nor a function, but a {type(found).__name__}"
        )
    try:
        net = found()
    except Exception as error:
        raise ValueError(
            f"{module}:{attribute}, called without arguments to build the net, fails: {reason(error)}"
        ) from None
    if not callable(net) and not hasattr(net, "get_inputs"):
        raise ValueError(f"{module}:{attribute} returns a {type(net).__name__}, not a net")
    return net
