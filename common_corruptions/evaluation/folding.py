"""Fold batch normalisation into the preceding convolutions, which saves an evaluated net a pass for each."""

from collections import Counter

from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd


class _Tracer(fx.Tracer):
    """Traces into nn.Sequential and into modules that contain batch normalisation; other modules stay leaves."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, nn.Sequential) and (
            super().is_leaf_module(m, module_qualified_name) or not _has_norms(m)
        )


def _has_hooks(part: nn.Module) -> bool:
    return bool(part._forward_hooks or part._forward_pre_hooks)


def _has_norms(net: nn.Module) -> bool:
    return any(isinstance(part, _BatchNorm) for part in net.modules())


def fold_norms(net: nn.Module) -> nn.Module:
    """A copy of `net` in which every batch normalisation right after a convolution is part of the convolution.

    The result is the same up to rounding. A batch normalisation after anything else stays, as does one after a
    convolution that is called more than once, or if either has hooks; a net without any is returned as it is.

    Args:
        net: in eval mode, with a forward pass that torch.fx can trace: its control flow must not depend on values.

    Raises:
        ValueError: some of the net is in training mode, in which batch statistics are used.
    """
    if training := [name or "the net" for name, part in net.named_modules() if part.training]:
        raise ValueError(f"{training[0]} is in training mode; call eval() first")
    if not _has_norms(net):
        return net
    tracer = _Tracer()
    graph = tracer.trace(net)
    traced = fx.GraphModule(tracer.root, graph)
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for name in calls:
        part = traced.get_submodule(name)
        if (isinstance(part, _ConvNd) and calls[name] > 1) or _has_hooks(part):
            traced.set_submodule(name, nn.Sequential(part))  # fuse only recognises the plain types
    return fuse(traced, no_trace=True)
