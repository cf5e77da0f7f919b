"""Batch normalisation folded into the convolutions before it, which saves a net that is only evaluated a pass each."""

from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm


class _Tracer(fx.Tracer):
    """Looks into chains and into modules that hold batch normalisation; what others do is left to them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, nn.Sequential) and (
            super().is_leaf_module(m, module_qualified_name) or not _has_norms(m)
        )


def _has_norms(net: nn.Module) -> bool:
    return any(isinstance(part, _BatchNorm) for part in net.modules())


def fold_norms(net: nn.Module) -> nn.Module:
    """A copy of `net` in which every batch normalisation right behind a convolution is part of the convolution.

    The result computes the same up to rounding. A batch normalisation behind anything else stays; a net without any is
    returned as it is.

    Args:
        net: in eval mode, with a forward pass that torch.fx can trace: its path must not depend on values.

    Raises:
        ValueError: the net is in training mode, in which the statistics are those of the batch.
    """
    if net.training:
        raise ValueError("the net is in training mode; call eval() first")
    if not _has_norms(net):
        return net
    tracer = _Tracer()
    graph = tracer.trace(net)
    return fuse(fx.GraphModule(tracer.root, graph), no_trace=True)
