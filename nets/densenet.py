"""DenseNet-BC for small images (Huang et al., *Densely connected convolutional networks*, CVPR 2017).

Three dense blocks with bottlenecks, and compression 0.5 between them. As in the push-pull paper's nets, the first
convolution has 24 output channels for every growth rate, and is not followed by batch normalisation, ReLU or pooling.
Huang et al. start with twice the growth rate, so their DenseNet-BC-100-24 is slightly larger.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nets.initialisation import initialise
from nets.registry import register

STEM_CHANNELS = 24
BOTTLENECK = 4  # channels of the 1 x 1 convolution, as a multiple of the growth rate


class DenseLayer(nn.Module):
    """Bottleneck layer that computes `growth` new features from all previous ones.

    With `memory_efficient`, the concatenated and normalised previous features, whose total size grows with the square
    of the depth, are not stored for the backward pass but recomputed there. Running statistics are still updated only
    once.
    """

    def __init__(self, in_channels: int, growth: int, memory_efficient: bool) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, BOTTLENECK * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * growth)
        self.conv2 = nn.Conv2d(BOTTLENECK * growth, growth, 3, padding=1, bias=False)
        self.memory_efficient = memory_efficient

    def forward(self, features: list[Tensor]) -> Tensor:
        if self.memory_efficient and self.training and torch.is_grad_enabled():
            x = checkpoint(self._bottleneck, *features, use_reentrant=False, context_fn=self._contexts)
        else:
            x = self._bottleneck(*features)
        return self.conv2(F.relu(self.norm2(x), inplace=True))

    def _bottleneck(self, *features: Tensor) -> Tensor:
        return self.conv1(F.relu(self.norm1(torch.cat(features, 1)), inplace=True))

    def _contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _frozen_statistics(self.norm1)


@contextmanager
def _frozen_statistics(norm: nn.BatchNorm2d) -> Iterator[None]:
    """Make a batch normalisation update copies of its running statistics instead of the originals."""
    statistics = dict(norm.named_buffers())
    for name, value in statistics.items():
        setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for name, value in statistics.items():
            setattr(norm, name, value)


class DenseBlock(nn.Module):
    """Dense layers, each of which takes the block's input and the outputs of all previous layers."""

    def __init__(self, depth: int, in_channels: int, growth: int, memory_efficient: bool) -> None:
        super().__init__()
        for index in range(depth):
            layer = DenseLayer(in_channels + index * growth, growth, memory_efficient)
            self.add_module(f"denselayer{index + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.children():
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    """DenseNet-BC with compression 0.5.

    Args:
        depth: number of layers, 6 n + 4: n bottleneck layers of two convolutions in each of the three blocks.
        growth: feature maps that each layer adds (k in the paper of Huang et al.).
        num_classes, in_channels: number of logits, image channels.
        memory_efficient: trade time for memory in training, see `DenseLayer`; the computed function is the same.

    Raises:
        ValueError: a depth that is not 6 n + 4.
    """

    def __init__(
        self,
        depth: int,
        growth: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__()
        layers, remainder = divmod(depth - 4, 6)
        if remainder or layers < 1:
            raise ValueError(f"the depth of a DenseNet-BC must be 6 n + 4, e.g. 40; got {depth}")
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(in_channels, STEM_CHANNELS, 3, padding=1, bias=False))
        channels = STEM_CHANNELS
        for number in (1, 2, 3):
            self.features.add_module(
                f"denseblock{number}", DenseBlock(layers, channels, growth, memory_efficient)
            )
            channels += layers * growth
            if number < 3:
                self.features.add_module(f"transition{number}", _transition(channels))
                channels //= 2
        self.features.add_module("norm_final", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.features(x), inplace=True)
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _transition(channels: int) -> nn.Sequential:
    """Transition layer, which halves the channels and the image sides."""
    parts = nn.Sequential()
    parts.add_module("norm", nn.BatchNorm2d(channels))
    parts.add_module("relu", nn.ReLU(inplace=True))
    parts.add_module("conv", nn.Conv2d(channels, channels // 2, 1, bias=False))
    parts.add_module("pool", nn.AvgPool2d(2))
    return parts


@register("densenet40_12", block1="features.denseblock1")
def densenet40_12(*, num_classes: int = 10, in_channels: int = 3, memory_efficient: bool = False) -> DenseNet:
    """DenseNet-BC-40-12: 176,122 parameters."""
    return DenseNet(
        40, 12, num_classes=num_classes, in_channels=in_channels, memory_efficient=memory_efficient
    )


@register("densenet100_12", block1="features.denseblock1")
def densenet100_12(
    *, num_classes: int = 10, in_channels: int = 3, memory_efficient: bool = False
) -> DenseNet:
    """DenseNet-BC-100-12: 769,162 parameters."""
    return DenseNet(
        100, 12, num_classes=num_classes, in_channels=in_channels, memory_efficient=memory_efficient
    )


@register("densenet100_24", block1="features.denseblock1")
def densenet100_24(
    *, num_classes: int = 10, in_channels: int = 3, memory_efficient: bool = False
) -> DenseNet:
    """DenseNet-BC-100-24 with a stem of 24 channels: 2,936,650 parameters."""
    return DenseNet(
        100, 24, num_classes=num_classes, in_channels=in_channels, memory_efficient=memory_efficient
    )
