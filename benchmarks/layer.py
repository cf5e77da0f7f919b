"""Time of the push-pull layer, against its two convolutions alone and against the plain formula.

conv3 and conv7 are Conv2d layers with the sizes of the push and the pull kernel. Plain is the textbook way: two
convolutions, two ReLU and a subtraction, with the pull kernel upsampled at every forward. All four run in turn in one
process, a few calls each time, and the medians are compared. A backward pass gives the gradient of the weights, and
of the input where told.

The process keeps the memory that it frees. The C library would give that of so small a program back to the system
after some calls and not after others, and to have it mapped anew costs more than the arithmetic; a training, with
its hundreds of megabytes of activations, does not meet that at every call.

The table is also put into docs/layer.md, unless another output is given.

On a GPU it is timed by the part `layer` of benchmarks/gpu.

    python -m benchmarks.layer
"""

import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import click
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.layer_variants import textbook
from benchmarks.report import machine, write_json
from pushpull import PushPull2d
from stages.files.writing import write_text

PAGE = Path(__file__).parents[1] / "docs" / "layer.md"
MARKS = ("<!-- benchmark -->", "<!-- /benchmark -->")
RESULTS = Path(__file__).parent / "results" / "layer.json"
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
PASSES = ("forward", "backward to weights", "backward to weights and input")  # a backward with its forward


class Shape(NamedTuple):
    """A batch (N, C, H, W) and the convolution it goes through."""

    batch: tuple[int, int, int, int]
    out_channels: int
    kernel: int = 3
    stride: int = 1


CIFAR = (Shape((128, 3, 32, 32), 16), Shape((64, 16, 32, 32), 16))
MNIST = Shape((128, 1, 28, 28), 6, kernel=5)
IMAGENET = Shape((8, 3, 224, 224), 64, kernel=7, stride=2)


def keep_freed_memory() -> None:
    """Tell glibc, where it is the C library, to give no memory back."""
    if sys.platform == "linux":
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**30)


def median_times(calls: dict[str, Callable[[], object]], rounds: int, repeats: int) -> dict[str, float]:
    """Median seconds of each call. In each round every call runs `repeats` times after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            for _ in range(repeats):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def measure(shape: Shape, layout: str, what: str, rounds: int, repeats: int) -> dict[str, float]:
    """Milliseconds of conv3, conv7, plain and the layer; ratios of the layer."""
    torch.manual_seed(0)
    in_channels, size = shape.batch[1], shape.kernel
    input = torch.randn(shape.batch).contiguous(memory_format=LAYOUTS[layout])
    input.requires_grad_(what.endswith("input"))
    options = {"stride": shape.stride, "bias": False}
    layer = PushPull2d(in_channels, shape.out_channels, size, padding=size // 2, **options)
    conv3 = nn.Conv2d(in_channels, shape.out_channels, size, padding=size // 2, **options)
    conv7 = nn.Conv2d(in_channels, shape.out_channels, 2 * size + 1, padding=size, **options)
    responses = {
        "conv3": lambda: conv3(input),
        "conv7": lambda: conv7(input),
        "plain": lambda: textbook(input, layer),
        "layer": lambda: layer(input),
    }
    with torch.no_grad():
        torch.testing.assert_close(responses["layer"](), responses["plain"](), rtol=1e-4, atol=1e-4)
        gradient = torch.randn_like(responses["conv3"]())
    parameters = [conv3.weight, conv7.weight, layer.weight, input]

    def with_backward(response: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            for tensor in parameters:
                tensor.grad = None
            response().backward(gradient)

        return run

    if what == "forward":
        with torch.no_grad():
            seconds = median_times(responses, rounds, repeats)
    else:
        calls = {name: with_backward(response) for name, response in responses.items()}
        seconds = median_times(calls, rounds, repeats)
    both = seconds["conv3"] + seconds["conv7"]
    return {name: round(1e3 * value, 3) for name, value in seconds.items()} | {
        "to_convolutions": round(seconds["layer"] / both, 3),
        "to_plain": round(seconds["layer"] / seconds["plain"], 3),
    }


def markdown(rows: list[dict], machine: dict, threads: int) -> str:
    """The table of docs/layer.md."""
    lines = [
        f"Milliseconds, medians, on {threads} threads of an {machine['cpu']}, torch {machine['torch']}, float32:",
        "",
        "| batch | layout | pass | conv3 | conv7 | plain | layer | layer / (conv3 + conv7) | layer / plain |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        kernel = f", {row['kernel']} x {row['kernel']}, stride {row['stride']}"
        batch = " x ".join(map(str, row["batch"])) + f" to {row['out_channels']}{kernel}"
        times = " | ".join(f"{row[name]:.2f}" for name in ("conv3", "conv7", "plain", "layer"))
        ratios = f"{row['to_convolutions']:.2f} | {row['to_plain']:.2f}"
        lines.append(f"| {batch} | {row['layout']} | {row['pass']} | {times} | {ratios} |")
    return "\n".join(lines)


def insert(page: Path, table: str) -> None:
    """Replace what stands between the two marks of the page."""
    before, rest = page.read_text(encoding="utf-8").split(MARKS[0])
    _, after = rest.split(MARKS[1])
    write_text(page, f"{before}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{after}")


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=6, show_default=True, type=click.IntRange(1))
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1), help="Calls in each round.")
@click.option("--output", default=RESULTS, show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(threads: int, rounds: int, repeats: int, output: Path) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    cases = [
        *product(CIFAR, LAYOUTS, PASSES),
        *((shape, "contiguous", what) for shape in (MNIST, IMAGENET) for what in PASSES[:2]),
    ]
    rows = []
    for shape, layout, what in tqdm(cases, unit="case", desc="layer"):
        row = measure(shape, layout, what, rounds, repeats)
        case = {
            "batch": shape.batch,
            "out_channels": shape.out_channels,
            "kernel": shape.kernel,
            "stride": shape.stride,
            "layout": layout,
            "pass": what,
        }
        rows.append(case | row)
    click.echo(pd.DataFrame(rows).drop(columns=["kernel", "stride"]).to_string(index=False))
    here = machine(torch=torch.__version__)
    setting = {"dtype": "float32", "threads": threads, "rounds": rounds, "repeats": repeats}
    write_json(output, machine=here, setting=setting, results=rows)
    if output == RESULTS:
        insert(PAGE, markdown(rows, here, threads))


if __name__ == "__main__":
    main()
