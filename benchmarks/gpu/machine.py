"""Part `machine`: versions, how fast memory and matrix products are, and the images decoded."""

import os
import platform
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import torch

from archives.form import save_clean
from archives.jpeg_set import read_jpeg_set
from benchmarks.gpu.setting import DATA_FILE, Setting
from benchmarks.gpu.timing import choose_device, milliseconds
from common_corruptions.evaluation import float32_as
from training.device import processor

PACKAGES = ("torch", "triton", "numpy", "scipy", "opencv-python-headless", "pandas")
FEW = 64  # images of a dry run


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    device = choose_device()
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    yield found
    start = time.monotonic()
    splits = read_jpeg_set(setting.data / DATA_FILE)
    if setting.dry_run:  # they come shuffled, so the first are a sample
        splits = {split: (images[:FEW], labels[:FEW]) for split, (images, labels) in splits.items()}
    save_clean(setting.images / "clean", splits)
    found["images"] = {split: len(labels) for split, (_, labels) in splits.items()}
    found["decoding_seconds"] = round(time.monotonic() - start, 2)
    yield found
    source = torch.empty(2**20 if setting.dry_run else 2**31, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found["copy_gb_per_second"] = rate(2e-9 * source.nbytes, lambda: target.copy_(source), device)
    size = 128 if setting.dry_run else 8192
    found["product_tflops"] = {}
    for name, dtype in (("ieee", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        with float32_as("tf32" if name == "tf32" else "ieee"):
            found["product_tflops"][name] = rate(2e-12 * size**3, lambda a=a, b=b: a @ b, device)
    yield found


def rate(amount: float, call, device: torch.device) -> float:
    """What is done in a second by a call that does `amount`."""
    return round(amount / (1e-3 * milliseconds(call, device, budget=0.2)), 3)


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
