"""The operations by which the evaluation's speed is compared with that of a matrix product."""

import pytest
import torch

from benchmarks.evaluation import floating_point_operations
from nets.registry import create_net

# Table 6 of He et al. 2016 ("Deep residual learning"): convolutions of 16, 32, 64 channels on 32, 16, 8 pixels a side.
STAGES = [(16, 32), (32, 16), (64, 8)]


def resnet20(first: int) -> int:
    """Operations of a ResNet-20 whose first convolution has `first` weights for each kernel."""
    within = sum(6 * 9 * width * width * side * side for width, side in STAGES)
    narrower = sum(
        9 * width * width // 2 * side * side for width, side in STAGES[1:]
    )  # from half the channels
    shortcuts = sum(width * width // 2 * side * side for width, side in STAGES[1:])
    return 2 * (16 * first * 32 * 32 + within - narrower + shortcuts + 64 * 10)


UPSAMPLING = (
    2 * (16 * 3) * 9 * 49
)  # a constant matrix makes the 49 values of a pull kernel from its push kernel


@pytest.mark.parametrize(
    ("pushpull", "expected"), [(None, resnet20(3 * 9)), ("first", resnet20(3 * (9 + 49)) + UPSAMPLING)]
)
def test_operations_are_those_of_the_convolutions(pushpull, expected):
    net = create_net("resnet20", pushpull=pushpull).eval()
    assert floating_point_operations(net, (32, 32, 3), torch.device("cpu")) == expected
