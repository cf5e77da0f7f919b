"""What the device is, and how fast its memory and its matrix products are."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.gpu.timing import choose_device, milliseconds
from common_corruptions.evaluation import float32_as
from training.device import processor


def measure(dry_run: bool) -> Iterator[dict[str, Any]]:
    """The device and its software; then copied GB/s, read and written ones counted, and TFLOP/s of matrix products."""
    device = choose_device()
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "cpu": processor(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    yield found
    source = torch.empty(2**20 if dry_run else 2**31, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found["copy_gb_per_second"] = rate(2e-9 * source.nbytes, lambda: target.copy_(source), device)
    size = 128 if dry_run else 8192
    found["product_tflops"] = {}
    for name, dtype in (("ieee", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        with float32_as("tf32" if name == "tf32" else "ieee"):
            found["product_tflops"][name] = rate(2e-12 * size**3, lambda a=a, b=b: a @ b, device)
    yield found


def rate(amount: float, call: Callable[[], object], device: torch.device) -> float:
    """What is done in a second by a call that does `amount`."""
    return round(amount / (1e-3 * milliseconds(call, device, budget=0.2)), 3)
