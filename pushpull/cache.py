"""Cache for a pull kernel, valid as long as the push kernel it was derived from is unchanged."""

from collections.abc import Callable

import torch
from torch import Tensor

from pushpull.geometry import Geometry

Make = Callable[[Tensor, Geometry], Tensor]


class KernelCache:
    """Holds the last kernel derived from a weight, and a copy of that weight.

    The copy is compared value by value. PyTorch's version counter and the memory address would not suffice: writing
    through `.data`, as weight averaging often does, changes neither. On an accelerator the comparison would wait for
    the device, which costs more than deriving the kernel, so nothing is cached there.
    """

    def __init__(self) -> None:
        self._entry: tuple[tuple[Make, Geometry], Tensor, Tensor] | None = None

    def get(self, make: Make, weight: Tensor, geometry: Geometry) -> Tensor:
        """Return `make(weight, geometry)`, recomputed only if one of the three differs from the last call.

        Nothing is cached while the kernel is part of an autograd graph.
        """
        differentiable = torch.is_grad_enabled() and weight.requires_grad
        if differentiable or weight.is_inference() or weight.device.type != "cpu":
            return make(weight, geometry)
        key = (make, geometry)
        entry = self._entry
        if entry is not None and entry[0] == key and _same(entry[1], weight):
            return entry[2]
        # A tensor created in inference mode could not be used in an autograd graph later.
        with torch.inference_mode(False), torch.no_grad():
            kernel = make(weight, geometry)
            self._entry = (key, weight.detach().clone(), kernel)
        return kernel

    # A copied or unpickled module starts with an empty cache.
    def __deepcopy__(self, memo: object) -> "KernelCache":
        return KernelCache()

    def __reduce__(self) -> tuple[type["KernelCache"], tuple[()]]:
        return KernelCache, ()


def _same(kept: Tensor, weight: Tensor) -> bool:
    return kept.dtype == weight.dtype and kept.shape == weight.shape and torch.equal(kept, weight)
