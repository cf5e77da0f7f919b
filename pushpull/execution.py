"""Whether a call is executed as it is written, and constants made as if it were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes


def ordinary(*tensors: Tensor | None) -> bool:
    """Whether these are ordinary tensors met in ordinary execution: nothing traces, compiles or transforms the call.

    A mode that sees every operator, as the one that gives tensors without values, may do any of it.
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
    """What is made here can be kept: a tensor of inference mode cannot be used in a graph, of others nowhere else."""
    with _disable_current_modes(), torch.inference_mode(False), torch.no_grad():
        yield
