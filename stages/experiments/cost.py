"""Stage `cost@<table>` of studies/dvc.yaml: time and memory of the nets of a study, measured in turn in one process.

Times depend on the machine and its other load; compare nets by the ratio of their times.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from nets.__main__ import count_multiply_adds, count_parameters
from nets.registry import create_net
from stages.files.datasets import count_classes, load_split
from stages.files.interruption import stopping
from stages.files.params import in_pipeline, load_params
from stages.files.writing import write_csv
from training.device import choose_device

ROUNDS = 30
COLUMNS = [
    "net",
    "parameters",
    "multiply_adds",
    "training_ms",
    "evaluation_ms",
    "kept_mib",
    "batch",
    "device",
]


@click.command()
@click.argument("table")
@in_pipeline
@stopping("starts over")
def main(table: str, pipeline: Path) -> None:
    """Measure the nets of the study of TABLE and write metrics/<data>/cost/<table>.csv below the pipeline."""
    params = load_params(pipeline=pipeline)
    try:
        device = choose_device(params.train.device)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    test = load_split(params.data.name, "test")
    height, width, channels = test.images.shape[1:]
    classes = {
        "num_classes": count_classes(load_split(params.data.name, "train"), test),
        "in_channels": channels,
    }
    torch.manual_seed(0)
    nets = {
        name: create_net(entry.arch, **params.options(name), **classes).to(device)
        for name, entry in params.nets.items()
    }
    images = torch.randn(params.train.batch_size, channels, height, width, device=device)
    rows = measure(nets, images, ROUNDS).assign(batch=len(images), device=device.type)
    write_csv(pipeline / "metrics" / params.data.name / "cost" / f"{table}.csv", rows[COLUMNS])


def measure(nets: Mapping[str, nn.Module], images: Tensor, rounds: int) -> pd.DataFrame:
    """Measure each net in float32, neither compiled nor exported.

    Args:
        nets: nets for images of this shape, all on one device.
        images: a batch (N, C, H, W) on that device.
        rounds: how often each net is timed, after two warm-up rounds.

    Returns:
        One row per net: net, parameters, multiply_adds (of one image), training_ms (median time of forward, loss and
        backward on the batch), evaluation_ms (forward alone, in eval mode), kept_mib (memory kept for the backward
        pass).
    """
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    actions: dict[tuple[str, str], Callable[[], object]] = {}
    for name, net in nets.items():
        actions[name, "training_ms"] = lambda net=net: train(net, images, labels)
        actions[name, "evaluation_ms"] = lambda net=net: evaluate(net, images)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in actions}
    for number in trange(rounds + 2, desc="cost", unit="round"):
        for key, action in actions.items():
            took = timed(action, images.device)
            if number >= 2:
                times[key].append(took)
    medians = {key: 1e3 * statistics.median(values) for key, values in times.items()}
    rows = [
        (
            name,
            count_parameters(net),
            count_multiply_adds(net, tuple(images.shape[1:])),
            medians[name, "training_ms"],
            medians[name, "evaluation_ms"],
            kept_for_backward(net, images, labels) / 2**20,
        )
        for name, net in nets.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS[:6])


def train(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    net.train().zero_grad()
    F.cross_entropy(net(images), labels).backward()


def evaluate(net: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        net.eval()(images)


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has finished the action."""
    finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    finish()
    start = time.perf_counter()
    action()
    finish()
    return time.perf_counter() - start


def kept_for_backward(net: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Bytes that the graph of a training step holds, without the parameters: the same on every machine."""
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = F.cross_entropy(
            net.train()(images), labels
        )  # keep the graph alive, otherwise addresses would be reused
    del loss
    return sum(held.values())


if __name__ == "__main__":
    main()
