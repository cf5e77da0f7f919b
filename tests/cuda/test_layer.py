"""The push-pull layer, and every variant of it that is timed, against the formula in float64."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.layer_variants import EAGER, VARIANTS
from common_corruptions.evaluation import float32_as
from pushpull import PushPull2d
from tests.cuda.conftest import needs_gpu

LAYOUTS = (torch.contiguous_format, torch.channels_last)
SHAPES = [(5, 3, 12, 10, 16, 3), (3, 16, 9, 9, 16, 3), (2, 1, 14, 14, 6, 5)]  # N, C, H, W, O, kernel
TOLERANCE = {"ieee": 2e-5, "tf32": 5e-3, "bf16": 5e-2}


NEAR = (
    0.05  # of a response to 0, where rounding decides whether it is cut off: there is no gradient to compare
)


def formula(
    images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Section 3 of the paper, in the type that it is given, and where neither response is near 0."""
    side = weight.shape[2]
    kernel = F.interpolate(weight, size=2 * side + 1, mode="bilinear", align_corners=True)
    push = F.conv2d(images, weight, bias, padding=side // 2)
    pull = F.conv2d(images, -kernel, -bias, padding=side)
    return push.relu() - alpha * pull.relu(), (push.abs() > NEAR) & (pull.abs() > NEAR)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    difference = found.double().cpu() - expected.cpu()
    return (difference.norm() / expected.norm()).item()


def check(variant, device: torch.device, shape, layout: torch.memory_format, arithmetic: str) -> None:
    """Response and gradients of a variant against those of the formula on the CPU in float64."""
    *batch, out_channels, side = shape
    torch.manual_seed(0)
    layer = PushPull2d(batch[1], out_channels, side, padding=side // 2, alpha=0.7).to(device)
    layer.to(memory_format=layout)
    images = torch.randn(batch, device=device).contiguous(memory_format=layout).requires_grad_()
    exact = [t.detach().double().cpu().requires_grad_() for t in (images, layer.weight, layer.bias)]
    expected, clear = formula(*exact, 0.7)
    assert clear.double().mean() > 0.5
    with (
        float32_as("tf32" if arithmetic == "tf32" else "ieee"),
        torch.autocast(device.type, torch.bfloat16, enabled=arithmetic == "bf16", cache_enabled=False),
    ):
        found = variant(images, layer)
    gradient = torch.randn(expected.shape, dtype=torch.float64) * clear
    expected.backward(gradient)
    with float32_as("tf32" if arithmetic == "tf32" else "ieee"):
        found.backward(gradient.to(found))
    tolerance = TOLERANCE[arithmetic]
    assert relative(found, expected) < tolerance
    for ours, theirs in zip((images, layer.weight, layer.bias), exact, strict=True):
        assert relative(ours.grad, theirs.grad) < 4 * tolerance


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", [name for name in EAGER if name != "textbook"])
def test_what_every_device_computes_is_the_formula(device, name, layout, shape):
    check(EAGER[name], device, shape, layout, "ieee")


@pytest.mark.parametrize("arithmetic", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "textbook"])
@pytest.mark.parametrize("gpu", [pytest.param("cuda", marks=needs_gpu)])
def test_what_a_gpu_alone_computes_is_the_formula(gpu, name, layout, shape, arithmetic):
    check(VARIANTS[name], torch.device(gpu), shape, layout, arithmetic)


def test_bfloat16_on_every_device(device):
    check(EAGER["plain"], device, SHAPES[0], torch.channels_last, "bf16")
