"""Residual nets for small images (He et al., *Deep residual learning for image recognition*, CVPR 2016).

ResNet-14 to 56 are the CIFAR variants of the paper's experiments: a 3 x 3 stem, three stages of 16, 32 and 64 channels.
Where the shape changes, the shortcut is a 1 x 1 convolution with batch normalisation (option B), as in the push-pull
paper; He et al. pad with zeros there (option A), so their parameter counts are lower by 2,752.
ResNet-18 and 50 have the four stages of the ImageNet variants after a 3 x 3 stem without stride or pooling.

With `lpf_size`, a strided convolution becomes a low-pass filter with that stride, followed by an unstrided convolution.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nets.initialisation import initialise
from nets.lowpass import LowPass
from nets.registry import register


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; the output has `channels` channels."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1, lpf_size: int | None = None) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride, lpf_size)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride, lpf_size)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return F.relu(out, inplace=True)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (strided) and 1 x 1 convolutions and a shortcut; the output has 4 * `channels` channels."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1, lpf_size: int | None = None) -> None:
        super().__init__()
        out_channels = self.expansion * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, stride, lpf_size)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride, lpf_size)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return F.relu(out, inplace=True)


class ResNet(nn.Module):
    """Residual net of any depth and width.

    Args:
        block: BasicBlock or Bottleneck.
        depths: number of blocks in each stage; every stage but the first halves the image and doubles the channels.
        width: channels of the stem and of the first stage's convolutions.
        num_classes, in_channels: number of logits, image channels.
        lpf_size: side 1 to 7 of the low-pass filter before each stride, or None for strided convolutions.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        depths: tuple[int, ...],
        width: int = 16,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        lpf_size: int | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = [f"layer{number}" for number in range(1, len(depths) + 1)]
        channels = width
        for index, (stage, depth) in enumerate(zip(self.stages, depths, strict=True)):
            blocks = []
            for position in range(depth):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(block(channels, width * 2**index, stride, lpf_size))
                channels = width * 2**index * block.expansion
            self.add_module(stage, nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1, lpf_size: int | None = None) -> nn.Module:
    if stride == 1 or lpf_size is None:
        return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(LowPass(in_channels, lpf_size, stride), conv)


def _shortcut(in_channels: int, out_channels: int, stride: int, lpf_size: int | None) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    norm = nn.BatchNorm2d(out_channels)
    if stride == 1 or lpf_size is None:
        return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm)
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return nn.Sequential(LowPass(in_channels, lpf_size, stride), conv, norm)


@register("resnet14", block1="layer1")
def resnet14(*, num_classes: int = 10, in_channels: int = 3, lpf_size: int | None = None) -> ResNet:
    """ResNet-14, of the paper's table 4: 175,258 parameters."""
    return ResNet(BasicBlock, (2, 2, 2), num_classes=num_classes, in_channels=in_channels, lpf_size=lpf_size)


@register("resnet20", block1="layer1")
def resnet20(*, num_classes: int = 10, in_channels: int = 3, lpf_size: int | None = None) -> ResNet:
    """ResNet-20: 272,474 parameters."""
    return ResNet(BasicBlock, (3, 3, 3), num_classes=num_classes, in_channels=in_channels, lpf_size=lpf_size)


@register("resnet32", block1="layer1")
def resnet32(*, num_classes: int = 10, in_channels: int = 3, lpf_size: int | None = None) -> ResNet:
    """ResNet-32: 466,906 parameters."""
    return ResNet(BasicBlock, (5, 5, 5), num_classes=num_classes, in_channels=in_channels, lpf_size=lpf_size)


@register("resnet44", block1="layer1")
def resnet44(*, num_classes: int = 10, in_channels: int = 3, lpf_size: int | None = None) -> ResNet:
    """ResNet-44: 661,338 parameters."""
    return ResNet(BasicBlock, (7, 7, 7), num_classes=num_classes, in_channels=in_channels, lpf_size=lpf_size)


@register("resnet56", block1="layer1")
def resnet56(*, num_classes: int = 10, in_channels: int = 3, lpf_size: int | None = None) -> ResNet:
    """ResNet-56, printed as ResNet-52 in the paper's table 3: 855,770 parameters."""
    return ResNet(BasicBlock, (9, 9, 9), num_classes=num_classes, in_channels=in_channels, lpf_size=lpf_size)


@register("resnet18", block1="layer1")
def resnet18(*, num_classes: int = 10, in_channels: int = 3, lpf_size: int | None = None) -> ResNet:
    """ResNet-18 for 32 x 32 images: 11,173,962 parameters."""
    return ResNet(
        BasicBlock, (2, 2, 2, 2), 64, num_classes=num_classes, in_channels=in_channels, lpf_size=lpf_size
    )


@register("resnet50", block1="layer1")
def resnet50(*, num_classes: int = 10, in_channels: int = 3, lpf_size: int | None = None) -> ResNet:
    """ResNet-50 for 32 x 32 images: 23,520,842 parameters."""
    return ResNet(
        Bottleneck, (3, 4, 6, 3), 64, num_classes=num_classes, in_channels=in_channels, lpf_size=lpf_size
    )
