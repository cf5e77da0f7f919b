"""Part `machine`: the images decoded, which every other part needs; then how fast memory and matrix products are.

Importing torch for the first time on a machine, and its first context on the GPU, can take longer than all else here,
so the images come before.
"""

import os
import platform
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from archives.form import save_clean
from archives.jpeg_set import read_jpeg_set
from benchmarks.gpu.setting import DATA_FILE, Setting

PACKAGES = ("torch", "triton", "numpy", "scipy", "opencv-python-headless", "pandas")
FEW = 64  # images of a dry run


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }
    start = time.monotonic()
    splits = read_jpeg_set(setting.data / DATA_FILE)
    if setting.dry_run:  # they come shuffled, so the first are a sample
        splits = {split: (images[:FEW], labels[:FEW]) for split, (images, labels) in splits.items()}
    save_clean(setting.images / "clean", splits)
    found["images"] = {split: len(labels) for split, (_, labels) in splits.items()}
    found["decoding_seconds"] = round(time.monotonic() - start, 2)
    yield found
    start = time.monotonic()
    from benchmarks.gpu import rates

    for measured in rates.measure(setting.dry_run):
        found.setdefault("torch_ready_seconds", round(time.monotonic() - start, 2))
        found |= measured
        yield found


def version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
