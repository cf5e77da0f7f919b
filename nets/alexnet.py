"""AlexNet, the baseline that normalises the corruption errors (paper, appendix 2 and figure 8).

Krizhevsky's net for 32 x 32 images: all kernels are 3 x 3, the first stride is 2, and the fully connected part has 1024
inputs. The figure shows no dropout; as in the original, dropout with p = 0.5 precedes each of the two wide layers. The
response normalisation of the original is left out, as in the figure.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nets.registry import register


class AlexNet(nn.Module):
    """Five convolutions and three fully connected layers: 23,272,266 parameters for 3 channels and 10 classes.

    Initial weights are normal with variance 1 / fan-in, and biases zero: with PyTorch's smaller default weights the
    signal fades over the eight layers and training stalls in the first epochs. The last pooling is adaptive, so images
    may be 16 x 16 or larger; at 32 x 32 it is the 2 x 2 max-pooling of figure 8.
    """

    def __init__(self, *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        self.conv3_1 = nn.Conv2d(192, 384, 3, padding=1)
        self.conv3_2 = nn.Conv2d(384, 256, 3, padding=1)
        self.conv3_3 = nn.Conv2d(256, 256, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.fc4 = nn.Linear(256 * 2 * 2, 4096)
        self.fc5 = nn.Linear(4096, 4096)
        self.fc6 = nn.Linear(4096, num_classes)
        for layer in self.modules():
            # Drawing on the meta device, which has only shapes, would make torch load its compiler for seconds.
            if isinstance(layer, nn.Conv2d | nn.Linear) and not layer.weight.is_meta:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.conv3_1(x))
        x = F.relu(self.conv3_2(x))
        x = F.adaptive_max_pool2d(F.relu(self.conv3_3(x)), 2)
        x = F.relu(self.fc4(self.dropout(x.flatten(1))))
        x = F.relu(self.fc5(self.dropout(x)))
        return self.fc6(x)


@register("alexnet")
def alexnet(*, num_classes: int = 10, in_channels: int = 3) -> AlexNet:
    """AlexNet for 32 x 32 images: 23,272,266 parameters."""
    return AlexNet(num_classes=num_classes, in_channels=in_channels)
