"""Training speed of ResNet-20 with and without push-pull, against the textbook loop.

Both train on the same images with the same recipe, one epoch of each in turn. Noise stands in for any 32 x 32 colour
images: what they show does not matter for speed.

    python -m benchmarks.training
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import scipy
import torch
from torch import nn

from benchmarks import textbook
from benchmarks.report import machine, write_json
from common_corruptions.evaluation import memory_format
from nets.registry import create_net
from training.batches import TrainingSet, draw_epoch
from training.device import choose_device
from training.epoch import train_epoch
from training.recipe import Precision

RESULTS = Path(__file__).parent / "results" / "training.json"
NETS = {"resnet20": None, "resnet20-pp": "first"}
MEAN, STD = [0.5] * 3, [0.25] * 3
RECIPE = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
FULL = 200 * 50_000  # images of the paper's training


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` images uint8 (count, 32, 32, 3) and labels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count)


def new_net(name: str, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return create_net("resnet20", pushpull=NETS[name]).to(device)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Wall time of a call and of the work that it leaves queued on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def fast_epoch(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    precision: Precision,
    device: torch.device,
) -> Callable[[], object]:
    """A call that trains one epoch with the engine."""
    net = new_net(name, device).to(memory_format=memory_format(device, precision))
    optimizer = torch.optim.SGD(net.parameters(), nesterov=True, fused=True, **RECIPE)
    data = TrainingSet.place(images, labels, MEAN, STD, device)

    def epoch() -> None:
        draws = draw_epoch(len(data), 0, 1, True, device)
        train_epoch(net, optimizer, data, draws, batch_size, precision, lambda: None)

    return epoch


def textbook_epoch(
    name: str, images: np.ndarray, labels: np.ndarray, batch_size: int, workers: int, device: torch.device
) -> Callable[[], object]:
    """A call that trains one epoch with the textbook loop."""
    net = new_net(name, device)
    batches = textbook.loader(
        images, labels, mean=MEAN, std=STD, batch_size=batch_size, shuffle=True, workers=workers,
        augment=textbook.augmentation(*images.shape[1:3], flip=True),
    )  # fmt: skip
    epochs = textbook.train(net, batches, epochs=1_000_000, milestones=[], **RECIPE)
    return lambda: next(epochs)


def measure(count: int, textbook_count: int, batch_size: int, workers: int, repeats: int,
            precision: Precision, device: torch.device) -> tuple[dict[str, dict[str, float]], float]:  # fmt: skip
    """What `compared` gives for an epoch of each net."""
    images, labels = pictures(count)
    few = images[:textbook_count], labels[:textbook_count]
    calls: dict[tuple[str, str], Callable[[], object]] = {
        (name, "fast"): fast_epoch(name, images, labels, batch_size, precision, device) for name in NETS
    }
    for name in NETS:
        calls[name, "textbook"] = textbook_epoch(name, *few, batch_size, workers, device)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for repeat in range(repeats + 1):
        for key, call in calls.items():
            taken = seconds(call, device)
            if repeat:  # the first one warms up
                times[key].append(taken)
    results, cost = compared(times, count, textbook_count)
    for row in results.values():
        row["seconds_of_200_epochs_of_50000"] = round(FULL / row["images_per_second"], 1)
    return results, cost


def compared(
    times: dict[tuple[str, str], list[float]], count: int, textbook_count: int
) -> tuple[dict[str, dict[str, float]], float]:
    """Images a second of ours and of the textbook loop, and their ratio, for each net; the push-pull net's cost.

    The cost is its time in that of its baseline. All are medians over the rounds. Both sides of a ratio are of the
    same round: a shared machine changes its speed from one to the next.

    Args:
        times: seconds of every round for each (net, "fast" or "textbook").
        count, textbook_count: images that each of them went through.
    """
    seconds_of = {key: np.array(taken) for key, taken in times.items()}
    results = {
        name: {
            "textbook_images_per_second": round(textbook_count / np.median(seconds_of[name, "textbook"]), 1),
            "images_per_second": round(count / np.median(seconds_of[name, "fast"]), 1),
            "ratio": round(
                count / textbook_count * np.median(seconds_of[name, "textbook"] / seconds_of[name, "fast"]), 2
            ),
        }
        for name in NETS
    }
    baseline, with_pushpull = (seconds_of[name, "fast"] for name in NETS)
    return results, round(float(np.median(with_pushpull / baseline)), 3)


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--images", default=512, show_default=True, type=click.IntRange(1), help="Of an epoch.")
@click.option(
    "--textbook-images",
    default=512,
    show_default=True,
    type=click.IntRange(1),
    help="Of the textbook's epoch; fewer than --images where it is far slower.",
)
@click.option("--batch-size", default=128, show_default=True, type=click.IntRange(1))
@click.option("--workers", default=2, show_default=True, help="Processes that load the textbook's images.")
@click.option("--repeats", default=8, show_default=True, type=click.IntRange(1), help="Rounds.")
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "tf32", "bf16"]))
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@click.option(
    "--output",
    default=RESULTS,
    show_default="benchmarks/results/training.json",
    type=click.Path(dir_okay=False, path_type=Path),
)
def main(images: int, textbook_images: int, batch_size: int, workers: int, repeats: int,
         precision: Precision, device: str, output: Path) -> None:  # fmt: skip
    place = choose_device(device)
    results, cost = measure(images, textbook_images, batch_size, workers, repeats, precision, place)
    setting = {
        "images": images, "textbook_images": textbook_images, "batch_size": batch_size,
        "workers": workers, "repeats": repeats, "precision": precision,
    }  # fmt: skip
    for name, row in results.items():
        click.echo(
            f"{name:12} textbook {row['textbook_images_per_second']:8.1f} images/s, "
            f"engine {row['images_per_second']:8.1f} images/s: {row['ratio']:.2f} times"
        )
    click.echo(f"a push-pull net takes {cost:.3f} times its baseline")
    write_json(output, machine=hardware(place), setting=setting, results=results, pushpull_time_ratio=cost)


def hardware(device: torch.device) -> dict:
    """The machine, with what torch computes on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    threads = torch.get_num_threads()
    return machine(
        numpy=np.__version__, scipy=scipy.__version__, torch=torch.__version__,
        device=name, threads=threads, load=os.getloadavg()[0],
    )  # fmt: skip


if __name__ == "__main__":
    main()
