"""Wide residual nets (Zagoruyko and Komodakis, *Wide residual networks*, BMVC 2016), RobustBench's usual reference.

Pre-activation blocks: batch normalisation and ReLU precede each convolution. Modules are named as in RobustBench's
WideResNet, so that its weights can be loaded.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nets.initialisation import initialise
from nets.registry import register


class PreActivationBlock(nn.Module):
    """Two 3 x 3 convolutions of normalised, rectified inputs; a 1 x 1 convolution as shortcut if channels change."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.convShortcut = None
        if in_channels != channels:
            self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        out = F.relu(self.bn2(self.conv1(active)), inplace=True)
        return shortcut + self.conv2(out)


class WideResNet(nn.Module):
    """WideResNet without dropout.

    Args:
        depth: number of layers, 6 n + 4: n blocks in each of the three stages.
        widen: factor on the 16, 32 and 64 channels of the stages.
        num_classes, in_channels: number of logits, image channels.

    Raises:
        ValueError: a depth that is not 6 n + 4.
    """

    def __init__(self, depth: int, widen: int, *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        blocks, remainder = divmod(depth - 4, 6)
        if remainder or blocks < 1:
            raise ValueError(f"the depth of a WideResNet must be 6 n + 4, e.g. 16; got {depth}")
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = _stage(blocks, 16, 16 * widen, stride=1)
        self.block2 = _stage(blocks, 16 * widen, 32 * widen, stride=2)
        self.block3 = _stage(blocks, 32 * widen, 64 * widen, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.fc = nn.Linear(64 * widen, num_classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = F.relu(self.bn1(x), inplace=True)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _stage(blocks: int, in_channels: int, channels: int, stride: int) -> nn.Module:
    stage = nn.Sequential()
    first = PreActivationBlock(in_channels, channels, stride)
    rest = (PreActivationBlock(channels, channels, 1) for _ in range(blocks - 1))
    stage.add_module("layer", nn.Sequential(first, *rest))
    return stage


@register("wideresnet28_10", block1="block1")
def wideresnet28_10(*, num_classes: int = 10, in_channels: int = 3) -> WideResNet:
    """WideResNet-28-10: 36,479,194 parameters."""
    return WideResNet(28, 10, num_classes=num_classes, in_channels=in_channels)
