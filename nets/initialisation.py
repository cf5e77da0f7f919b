"""The weight initialisation that ResNets, DenseNets and WideResNets share."""

import math

from torch import nn


def initialise(net: nn.Module) -> None:
    """He initialisation (He et al. 2015): zero-mean normal kernels with variance 2 / (kernel area * output channels).

    Other layers keep PyTorch's initialisation: batch normalisations are the identity, linear layers random. A net on
    the meta device has only shapes and is left unchanged: drawing there would make torch load its compiler for seconds.
    """
    if any(parameter.is_meta for parameter in net.parameters()):
        return
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            kernel_area = math.prod(module.kernel_size)
            nn.init.normal_(module.weight, std=math.sqrt(2 / (kernel_area * module.out_channels)))
