"""Tell ordinary (eager, untransformed) execution from other modes, and create constants outside of any mode."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes


def ordinary(*tensors: Tensor | None) -> bool:
    """Whether these are ordinary tensors in ordinary execution: nothing traces, compiles or transforms the call.

    A dispatch mode, such as fake tensor mode, intercepts every operator and may do any of these.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and not torch._C._len_torch_dispatch_stack()
        and all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors if tensor is not None)
    )


@contextmanager
def without_modes() -> Iterator[None]:
    """Create tensors that can be cached: those of inference mode fail in graphs, those of other modes elsewhere."""
    with _disable_current_modes(), torch.inference_mode(False), torch.no_grad():
        yield
