"""Part `training`: images a second and kernels a step of every way to train, and of the textbook loop."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.nets import Trainer, load_images, new_net, place, way_name, ways
from benchmarks.gpu.setting import BATCH_SIZE, RECIPE, Setting
from benchmarks.gpu.timing import choose_device, kernels, synchronise
from training.batches import TrainingSet
from training.device import make_deterministic

IMAGES = 60 * BATCH_SIZE
TEXTBOOK_IMAGES = 20 * BATCH_SIZE  # it is far slower
WORKERS = 8
LEAST = 45  # seconds that must be left to begin what compiles
ROUNDS = 2
NETS = ("resnet20-pp", "resnet20", "resnet56")  # the first decides the way of the recipe
REFERENCE = "resnet20"  # is trained by other means too


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    """By net and way: images_per_second, kernels a step. What the others are compared with comes first."""
    device = choose_device()
    make_deterministic(device)
    data = place(load_images(setting, "train", 32 if setting.dry_run else IMAGES), device)
    nets = (REFERENCE,) if setting.dry_run else NETS
    found: dict[str, Any] = {"images": len(data), "nets": {name: {} for name in nets}}
    for precision in ("fp32",) if setting.dry_run else ("fp32", "bf16", "tf32"):
        for name in nets:
            for way in sorted(ways(device, [precision]), key=lambda way: not way[2]):  # graphs first
                found["nets"][name][way_name(*way)] = speed(name, data, way, device)
                yield found
        if precision == "fp32":
            yield from measure_references(setting, found, data, device)
    if device.type == "cuda":
        row = {"skipped": f"{setting.left:.0f} s are left"}
        if setting.left > LEAST:
            row = speed("resnet20-pp", data, ("fp32", "nchw", False), device, "reduce-overhead")
        found["nets"]["resnet20-pp"]["fp32 nchw compiled, reduce-overhead"] = row
        yield found


def measure_references(
    setting: Setting, found: dict[str, Any], data: TrainingSet, device: torch.device
) -> Iterator[dict[str, Any]]:
    """The loop of `benchmarks.textbook`, and the eager way without deterministic algorithms."""
    if device.type == "cuda":
        torch.use_deterministic_algorithms(False)
    rows, way = found["nets"][REFERENCE], ("fp32", "nchw", False)
    rows[f"{way_name(*way)}, not deterministic"] = speed(REFERENCE, data, way, device)
    rows["textbook"] = textbook_speed(setting, device)
    make_deterministic(device)
    yield found


def speed(
    name: str, data: TrainingSet, way: tuple, device: torch.device, compiled: str | None = None
) -> dict[str, Any]:
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
        precision, _, graph = way
        if graph and device.type == "cuda":
            row["recorded"] = trainer.recorded.recorded
        # The profiler asks torch in a way that it refuses to answer under tf32, whose kernels are as many.
        elif device.type == "cuda" and compiled is None and precision != "tf32":
            row["kernels_per_step"] = kernels_per_step(trainer, device)
        return row
    except Exception as error:  # the others are measured all the same
        return {"failed": f"{type(error).__name__}: {error}"[:300]}


def kernels_per_step(trainer: Trainer, device: torch.device) -> int:
    """What an epoch of two steps launches beyond one of one step."""
    data, launched = trainer.data, []
    for steps in (1, 2):
        first = slice(steps * trainer.batch_size)
        trainer.data = TrainingSet(data.images[first], data.labels[first], data.mean, data.std)
        launched.append(kernels(trainer.epoch, device))
    return launched[1] - launched[0]


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
        recipe = {key: RECIPE[key] for key in ("lr", "momentum", "weight_decay")}
        epochs = textbook.train(new_net(REFERENCE, device), batches, epochs=2, milestones=[], **recipe)
        next(epochs)
        start = time.perf_counter()
        next(epochs)
        synchronise(device)
    except Exception as error:  # such as a torchvision that is not there
        return {"failed": f"{type(error).__name__}: {error}"[:300]}
    return {"images_per_second": round(len(split.labels) / (time.perf_counter() - start), 1)}
