"""Part `training`: images a second and kernels a step of every way to train, and of the textbook loop."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.nets import Trainer, load_images, new_net, place, way_name, ways
from benchmarks.gpu.setting import BATCH_SIZE, RECIPE, Setting
from benchmarks.gpu.timing import choose_device, kernels, synchronise
from training.device import make_deterministic

IMAGES = 100 * BATCH_SIZE
TEXTBOOK_IMAGES = 20 * BATCH_SIZE  # it is far slower
WORKERS = 8
LEAST = 20  # seconds that must be left to begin what compiles
ROUNDS = 3


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    """By net and way: images_per_second, kernels a step; the fastest first where there is too little time."""
    device = choose_device()
    make_deterministic(device)
    split = load_images(setting, "train", 32 if setting.dry_run else IMAGES)
    data = place(split, device)
    found: dict[str, Any] = {"images": len(data), "nets": {}}
    precisions = ("fp32",) if setting.dry_run else ("fp32", "tf32", "bf16")
    nets = ("resnet20",) if setting.dry_run else ("resnet20", "resnet20-pp", "resnet56")
    for name in nets:
        rows = found["nets"][name] = {}
        for way in sorted(ways(device, precisions), key=lambda way: not way[2]):  # graphs first
            rows[way_name(*way)] = speed(name, data, way, device)
            yield found
        if name == "resnet20":
            torch.use_deterministic_algorithms(False)
            rows["fp32 nchw eager, not deterministic"] = speed(name, data, ("fp32", "nchw", False), device)
            make_deterministic(device)
            rows["textbook"] = textbook_speed(setting, device)
            yield found
    for mode in ("reduce-overhead",) if device.type == "cuda" else ():
        if setting.left > LEAST:
            row = speed("resnet20-pp", data, ("fp32", "nchw", False), device, mode)
            found["nets"]["resnet20-pp"][f"fp32 nchw compiled, {mode}"] = row
            yield found


def speed(name: str, data, way: tuple, device: torch.device, compiled: str | None = None) -> dict[str, Any]:
    """Images a second, the best of some epochs after one to warm up, and kernels a step."""
    batch_size = min(BATCH_SIZE, len(data))
    try:
        trainer = Trainer(name, data, batch_size, *way, compiled=compiled)
        trainer.epoch()
        synchronise(device)
        times = []
        for number in range(ROUNDS):
            start = time.perf_counter()
            trainer.epoch(2 + number)
            synchronise(device)
            times.append(time.perf_counter() - start)
        row = {"images_per_second": round(len(data) / min(times), 1)}
        if trainer.recorded is not None and device.type == "cuda":
            row["recorded"] = trainer.recorded.recorded
        if not way[2] and compiled is None and (launched := kernels(trainer.epoch, device)):
            row["kernels_per_step"] = round(launched / -(-len(data) // batch_size))
        return row
    except Exception as error:  # the others are measured all the same
        return {"failed": f"{type(error).__name__}: {error}"[:300]}


def textbook_speed(setting: Setting, device: torch.device) -> dict[str, Any]:
    """Of the loop in `benchmarks.textbook`, one epoch after one."""
    from benchmarks import textbook

    split = load_images(setting, "train", 32 if setting.dry_run else TEXTBOOK_IMAGES)
    data = place(split, torch.device("cpu"))
    try:
        batches = textbook.loader(
            split.images, split.labels, mean=data.mean, std=data.std, batch_size=BATCH_SIZE, shuffle=True,
            workers=0 if setting.dry_run else WORKERS, augment=textbook.augmentation(32, 32, flip=True),
        )  # fmt: skip
    except ImportError as error:
        return {"failed": str(error)}
    torch.use_deterministic_algorithms(False)
    recipe = {key: RECIPE[key] for key in ("lr", "momentum", "weight_decay")}
    epochs = textbook.train(new_net("resnet20", device), batches, epochs=2, milestones=[], **recipe)
    next(epochs)
    start = time.perf_counter()
    next(epochs)
    synchronise(device)
    row = {"images_per_second": round(len(split.labels) / (time.perf_counter() - start), 1)}
    make_deterministic(device)
    return row
