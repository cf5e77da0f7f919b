"""Whether a call is executed as it is written."""

import torch
from torch import Tensor
from torch.autograd import forward_ad


def ordinary(*tensors: Tensor | None) -> bool:
    """Whether these are ordinary tensors met in ordinary execution: nothing traces, compiles or transforms the call."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors if tensor is not None)
    )
