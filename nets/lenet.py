"""The LeNets of the paper's MNIST experiments (section 4.1, table 1): A to D, and PA to PD with push-pull.

LeCun's LeNet-5 with other widths: two 5 x 5 convolutions, each followed by ReLU and 2 x 2 max-pooling, then three
fully connected layers. As in LeNet-5 the input field is 32 x 32: smaller images, such as the 28 x 28 of MNIST, are
padded with zeros, so the same net takes both. The paper states neither this detail nor the nonlinearity.

PA to PD are `create_net("lenet_a", pushpull="first", in_channels=1)` and so on.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nets.registry import register

FIELD = 32


class LeNet(nn.Module):
    """LeNet with `features` channels in its two convolutions and `hidden` units in its two hidden layers.

    Takes (N, in_channels, H, W) with H and W up to 32; raises ValueError for larger images.
    """

    def __init__(
        self,
        features: tuple[int, int],
        hidden: tuple[int, int],
        *,
        num_classes: int = 10,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, features[0], 5)
        self.conv2 = nn.Conv2d(features[0], features[1], 5)
        self.fc1 = nn.Linear(features[1] * 5 * 5, hidden[0])
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.fc3 = nn.Linear(hidden[1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        height, width = FIELD - x.shape[-2], FIELD - x.shape[-1]
        if height < 0 or width < 0:
            raise ValueError(f"LeNet takes images up to {FIELD} x {FIELD}, got {x.shape[-2]} x {x.shape[-1]}")
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


@register("lenet_a", image_shape=(1, 28, 28))
def lenet_a(*, num_classes: int = 10, in_channels: int = 3) -> LeNet:
    """LeNet A: 62,806 parameters for grey images."""
    return LeNet((6, 16), (128, 64), num_classes=num_classes, in_channels=in_channels)


@register("lenet_b", image_shape=(1, 28, 28))
def lenet_b(*, num_classes: int = 10, in_channels: int = 3) -> LeNet:
    """LeNet B: 16,638 parameters for grey images."""
    return LeNet((6, 8), (64, 32), num_classes=num_classes, in_channels=in_channels)


@register("lenet_c", image_shape=(1, 28, 28))
def lenet_c(*, num_classes: int = 10, in_channels: int = 3) -> LeNet:
    """LeNet C: 61,954 parameters for grey images."""
    return LeNet((4, 16), (128, 64), num_classes=num_classes, in_channels=in_channels)


@register("lenet_d", image_shape=(1, 28, 28))
def lenet_d(*, num_classes: int = 10, in_channels: int = 3) -> LeNet:
    """LeNet D: 16,186 parameters for grey images."""
    return LeNet((4, 8), (64, 32), num_classes=num_classes, in_channels=in_channels)
