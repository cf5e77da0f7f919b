"""Part `layer`: milliseconds of every variant of the layer, forward with backward, beside its two convolutions."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.nets import LAYOUTS
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.timing import choose_device, milliseconds, replayed
from benchmarks.layer_variants import variants
from common_corruptions.evaluation import float32_as
from pushpull import PushPull2d
from training.device import make_deterministic

BATCHES = (128, 1024)
CHANNELS = (3, 16)
ARITHMETIC = ("ieee", "tf32", "bf16")
OUT_CHANNELS = 16
SIZE = 32  # of the images


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    """Rows of {batch, channels, layout, arithmetic, eager: milliseconds by name, graph: the same, failed: reasons}.

    By deterministic algorithms, as nets are trained.
    Gradients are those of images and weights; of images of three channels, which are the input of a net, those of the
    weights alone.
    """
    device = choose_device()
    make_deterministic(device)
    cases, size = list(product(BATCHES, CHANNELS, LAYOUTS, ARITHMETIC)), SIZE
    if setting.dry_run:
        cases, size = [(4, 3, "nhwc", "ieee"), (1, 16, "nchw", "bf16")], 8
    found: dict[str, Any] = {"deterministic": torch.are_deterministic_algorithms_enabled(), "rows": []}
    for batch, channels, layout, arithmetic in cases:
        row = {"batch": batch, "channels": channels, "layout": layout, "arithmetic": arithmetic}
        row |= {"eager": {}, "graph": {}, "failed": {}}
        found["rows"].append(row)
        for name, step in steps(device, size, batch, channels, layout, arithmetic).items():
            try:
                with float32_as("tf32" if arithmetic == "tf32" else "ieee"):
                    row["eager"][name] = round(milliseconds(step, device), 4)
                    row["graph"][name] = round(milliseconds(replayed(step, device), device), 4)
            except Exception as error:  # the others are measured all the same
                row["failed"][name] = f"{type(error).__name__}: {error}"[:200]
        yield found


def steps(
    device: torch.device, size: int, batch: int, channels: int, layout: str, arithmetic: str
) -> dict[str, Callable[[], None]]:
    """By name a call that computes the response and its gradients: conv3, conv7 and the variants."""
    torch.manual_seed(0)
    form = LAYOUTS[layout]
    images = torch.randn(batch, channels, size, size, device=device).contiguous(memory_format=form)
    images.requires_grad_(channels != 3)
    layer = PushPull2d(channels, OUT_CHANNELS, 3, padding=1, bias=False).to(device, memory_format=form)
    modules = {
        f"conv{side}": nn.Conv2d(channels, OUT_CHANNELS, side, padding=side // 2, bias=False).to(
            device, memory_format=form
        )
        for side in (3, 7)
    }
    dtype = torch.bfloat16 if arithmetic == "bf16" else torch.float32
    gradient = torch.randn(batch, OUT_CHANNELS, size, size, device=device, dtype=dtype)
    gradient = gradient.contiguous(memory_format=form)
    weights = [layer.weight, *(module.weight for module in modules.values())]

    def step(response: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            for tensor in (images, *weights):
                tensor.grad = None
            with torch.autocast(
                device.type, torch.bfloat16, enabled=arithmetic == "bf16", cache_enabled=False
            ):
                output = response()
            output.backward(gradient)

        return run

    named = {name: step(lambda module=module: module(images)) for name, module in modules.items()}
    for name, variant in variants(device).items():
        named[name] = step(lambda variant=variant: variant(images, layer))
    return named
