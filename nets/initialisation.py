"""The weight initialisation that ResNets, DenseNets and WideResNets share."""

import math

from torch import nn


def initialise(net: nn.Module) -> None:
    """He initialisation (He et al. 2015): zero-mean normal kernels with variance 2 / (kernel area * output channels).

    All else is left as PyTorch makes it: batch normalisations as the identity, linear layers as it draws them.
    A net on the meta device has shapes alone and is left as it is: to draw there, torch loads its compiler for seconds.
    """
    if any(parameter.is_meta for parameter in net.parameters()):
        return
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            kernel_area = math.prod(module.kernel_size)
            nn.init.normal_(module.weight, std=math.sqrt(2 / (kernel_area * module.out_channels)))
