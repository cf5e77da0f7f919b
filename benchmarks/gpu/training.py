"""Part `training`: images a second and kernels a step of every way to train, and of the textbook loop."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu.nets import Trainer, load_images, new_net, place, way_name, ways
from benchmarks.gpu.setting import BATCH_SIZE, RECIPE, Setting
from benchmarks.gpu.side_by_side import side_by_side
from benchmarks.gpu.timing import choose_device, kernels, synchronise
from training.batches import TrainingSet
from training.device import make_deterministic

IMAGES = 60 * BATCH_SIZE
TEXTBOOK_IMAGES = 20 * BATCH_SIZE  # it is far slower
WORKERS = 8
ROUNDS = 2
TOGETHER = (2, 6)  # trainings side by side
TOGETHER_EPOCHS = 5
LONGEST = 12  # kernels that are named
NETS = ("resnet20-pp", "resnet20", "resnet56")  # the first decides the way of the recipe
REFERENCE = "resnet20"  # is trained by other means too


def measure(setting: Setting) -> Iterator[dict[str, Any]]:
    """By net and way: images_per_second, kernels a step. What the others are compared with comes first."""
    device = choose_device()
    make_deterministic(device)
    data = place(load_images(setting, "train", 8 if setting.dry_run else IMAGES), device)
    nets = (REFERENCE,) if setting.dry_run else NETS
    found: dict[str, Any] = {"images": len(data), "nets": {name: {} for name in nets}, "together": []}
    for precision in ("fp32",) if setting.dry_run else ("fp32", "bf16", "tf32"):
        for name in nets:
            for way in sorted(ways(device, [precision]), key=lambda way: not way[2]):  # graphs first
                if way[2] or name == REFERENCE:
                    found["nets"][name][way_name(*way)] = speed(name, data, way, device)
                    yield found
        found["together"] += measure_together(found["nets"], precision, data, setting.dry_run)
        yield found
        if precision == "fp32":
            yield from measure_references(setting, found, data, device)


def measure_together(
    nets: dict[str, dict[str, Any]], precision: str, data: TrainingSet, dry_run: bool
) -> list[dict[str, Any]]:
    """Images a second of several trainings side by side, in all, by the fastest recorded way of a precision."""
    speeds = {
        way: row["images_per_second"]
        for way, row in nets.get(NETS[0], nets[REFERENCE]).items()
        if way.startswith(f"{precision} ") and way.endswith(" graph") and "images_per_second" in row
    }
    if not speeds:
        return []
    way = max(speeds, key=speeds.__getitem__)
    layout = way.split()[1]
    return [
        together(way, count, data, layout, precision) for count in (TOGETHER[:1] if dry_run else TOGETHER)
    ]


def together(way: str, count: int, data: TrainingSet, layout: str, precision: str) -> dict[str, Any]:
    """Of so many trainings side by side, half of them with a push-pull layer."""
    row: dict[str, Any] = {"way": way, "trainings": count}

    def epochs(trainer: Trainer) -> Iterator[int]:
        for number in range(1, TOGETHER_EPOCHS + 1):
            trainer.epoch(number)
            if data.device.type == "cuda":
                torch.cuda.current_stream(data.device).synchronize()
            yield number

    try:
        trainers = [
            Trainer(NETS[place % 2], data, min(BATCH_SIZE, len(data)), precision, layout, True)
            for place in range(count)
        ]
        start = 0.0
        runs = {place: epochs(trainer) for place, trainer in enumerate(trainers)}
        for place, number in side_by_side(runs, data.device):
            if (place, number) == (count - 1, 1):  # the first of each come one after another
                start = time.perf_counter()
        seconds = time.perf_counter() - start
    except Exception as error:
        return {**row, "failed": f"{type(error).__name__}: {error}"[:300]}
    return {**row, "images_per_second": round(count * (TOGETHER_EPOCHS - 1) * len(data) / seconds, 1)}


def measure_references(
    setting: Setting, found: dict[str, Any], data: TrainingSet, device: torch.device
) -> Iterator[dict[str, Any]]:
    """The loop of `benchmarks.textbook`, and what being deterministic costs."""
    rows = found["nets"][REFERENCE]
    for graph in (False, True) if device.type == "cuda" else ():
        way = ("fp32", "nchw", graph)
        torch.backends.cudnn.benchmark = True
        rows[f"{way_name(*way)}, measured algorithms"] = speed(REFERENCE, data, way, device)
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(False)
        rows[f"{way_name(*way)}, not deterministic"] = speed(REFERENCE, data, way, device)
        make_deterministic(device)
        yield found
    if device.type == "cuda":
        torch.use_deterministic_algorithms(False)
    rows["textbook"] = textbook_speed(setting, device)
    make_deterministic(device)
    yield found


def speed(
    name: str, data: TrainingSet, way: tuple, device: torch.device, compiler: str | None = None
) -> dict[str, Any]:
    """Images a second, the best of some epochs after one to warm up, and kernels a step."""
    batch_size = min(BATCH_SIZE, len(data))
    try:
        trainer = Trainer(name, data, batch_size, *way, compiler=compiler)
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
        elif device.type == "cuda" and compiler is None and precision != "tf32":
            row |= kernels_of_step(trainer, device)
        return row
    except Exception as error:  # the others are measured all the same
        return {"failed": f"{type(error).__name__}: {error}"[:300]}


def kernels_of_step(trainer: Trainer, device: torch.device) -> dict[str, Any]:
    """What an epoch of two steps launches beyond one of one step: how many kernels, and the longest microseconds."""
    data, launched = trainer.data, []
    for steps in (1, 2):
        first = slice(steps * trainer.batch_size)
        trainer.data = TrainingSet(data.images[first], data.labels[first], data.mean, data.std)
        launched.append(kernels(trainer.epoch, device))
    trainer.data = data
    one, two = launched
    more = {name: sum(times) - sum(one.get(name, [])) for name, times in two.items()}
    longest = sorted(more, key=more.__getitem__, reverse=True)[:LONGEST]
    return {
        "kernels_per_step": sum(map(len, two.values())) - sum(map(len, one.values())),
        "microseconds_per_step": round(sum(more.values()), 1),
        "longest": {
            name[:120]: [len(two[name]) - len(one.get(name, [])), round(more[name], 1)] for name in longest
        },
    }


def textbook_speed(setting: Setting, device: torch.device) -> dict[str, Any]:
    """Of the loop in `benchmarks.textbook`, one epoch after one."""
    from benchmarks import textbook

    split = load_images(setting, "train", 8 if setting.dry_run else TEXTBOOK_IMAGES)
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
