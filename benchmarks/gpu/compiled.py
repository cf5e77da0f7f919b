"""Part `compiled`: images a second of recorded steps of nets that torch.compile has made."""

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.gpu.nets import load_images, place, way_name
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.timing import choose_device
from benchmarks.gpu.training import IMAGES, speed
from training.device import make_deterministic

WAYS = (("bf16", "nhwc", True), ("tf32", "nhwc", True), ("fp32", "nchw", True))
NETS = ("resnet20-pp", "resnet20")


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    """By net and way: images_per_second, and the seconds that compiling, recording and measuring took."""
    device = choose_device()
    make_deterministic(device)
    data = place(load_images(setting, "train", 8 if setting.dry_run else IMAGES), device)
    nets = NETS[:1] if setting.dry_run else NETS
    found: dict[str, Any] = {"nets": {name: {} for name in nets}}
    # The rehearsal on a CPU goes through all but the compiler of kernels, in the arithmetic that every CPU is fast in.
    ways, compiler = (WAYS, "inductor") if device.type == "cuda" else (WAYS[-1:], "aot_eager")
    for way in ways:
        for name in nets:
            start = time.monotonic()
            row = speed(name, data, way, device, compiler)
            found["nets"][name][way_name(*way)] = row | {"seconds": round(time.monotonic() - start, 1)}
            yield found
