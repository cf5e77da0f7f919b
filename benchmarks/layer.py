"""Time of the push-pull layer, against its two convolutions alone and against the plain formula.

conv3 and conv7 are Conv2d layers with the sizes of the push and the pull kernel. Plain is the textbook way: two
`F.conv2d`, two ReLU and a subtraction, with the pull kernel upsampled at every forward. All four run in turn in one
process, a few calls each time, and the medians are compared. A backward pass gives the gradient of the weights, and
of the input where told.

The process keeps the memory that it frees. The C library would give that of so small a program back to the system
after some calls and not after others, and to have it mapped anew costs more than the arithmetic; a training, with
its hundreds of megabytes of activations, does not meet that at every call.

The table is also put into docs/layer.md, unless another output is given.

On a GPU, `--device cuda`, the Triton kernel is timed beside the layer, in float32 and bfloat16, and each time is
compared with the least that the memory allows: every value of input, output and gradients moved once.

    python -m benchmarks.layer
"""

import ctypes
import functools
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
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.layer_variants import triton_path
from benchmarks.report import machine, write_json
from common_corruptions.evaluation import float32_as
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
GPU = Shape((1024, 3, 32, 32), 16)
IMAGENET = Shape((8, 3, 224, 224), 64, kernel=7, stride=2)


def plain(input: Tensor, layer: PushPull2d) -> Tensor:
    size = layer.kernel_size[0]
    pull = 2 * size + 1
    kernel = -F.interpolate(layer.weight, size=(pull, pull), mode="bilinear", align_corners=True)
    push_response = F.relu(F.conv2d(input, layer.weight, None, layer.stride, size // 2))
    pull_response = F.relu(F.conv2d(input, kernel, None, layer.stride, pull // 2))
    return push_response - layer.alpha * pull_response


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


def median_times_on_gpu(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each call, its second-level cache cleared before each."""
    from triton.testing import do_bench

    return {name: 1e-3 * do_bench(call, return_mode="median") for name, call in calls.items()}


def measure(
    shape: Shape,
    layout: str,
    what: str,
    times: Callable[[dict[str, Callable[[], object]]], dict[str, float]],
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, float]:
    """Milliseconds of conv3, conv7, plain and the layer, and on a GPU of the Triton kernel; ratios of the layer."""
    torch.manual_seed(0)
    in_channels, size = shape.batch[1], shape.kernel
    to = {"device": device, "dtype": dtype}
    input = torch.randn(shape.batch, **to).contiguous(memory_format=LAYOUTS[layout])
    input.requires_grad_(what.endswith("input"))
    options = {"stride": shape.stride, "bias": False, **to}
    layer = PushPull2d(in_channels, shape.out_channels, size, padding=size // 2, **options)
    conv3 = nn.Conv2d(in_channels, shape.out_channels, size, padding=size // 2, **options)
    conv7 = nn.Conv2d(in_channels, shape.out_channels, 2 * size + 1, padding=size, **options)
    responses = {
        "conv3": lambda: conv3(input),
        "conv7": lambda: conv7(input),
        "plain": lambda: plain(input, layer),
        "layer": lambda: layer(input),
    }
    if device.type == "cuda":
        responses["triton"] = lambda: triton_path(input, layer)
    with torch.no_grad():
        expected = responses["plain"]()
        tolerance = 1e-4 if dtype == torch.float32 else 0.1
        for name in responses.keys() & {"layer", "triton"}:
            torch.testing.assert_close(responses[name](), expected, rtol=tolerance, atol=tolerance)
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
            seconds = times(responses)
    else:
        seconds = times({name: with_backward(response) for name, response in responses.items()})
    both = seconds["conv3"] + seconds["conv7"]
    row = {name: round(1e3 * value, 3) for name, value in seconds.items()} | {
        "to_convolutions": round(seconds["layer"] / both, 3),
        "to_plain": round(seconds["layer"] / seconds["plain"], 3),
    }
    if device.type == "cuda":
        moved = input.nbytes + gradient.nbytes  # forward: the input, and an output of the gradient's size
        if what != "forward":
            moved *= 2
        if input.requires_grad:
            moved += input.nbytes
        row |= {
            "layer_to_conv3": round(seconds["layer"] / seconds["conv3"], 3),
            "triton_to_conv3": round(seconds["triton"] / seconds["conv3"], 3),
            "memory_bound": round(1e3 * moved / bandwidth(device), 3),
        }
    return row


@functools.cache
def bandwidth(device: torch.device) -> float:
    """Bytes a second that a copy of 1 GiB reads and writes."""
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = median_times_on_gpu({"copy": lambda: target.copy_(source)})["copy"]
    return 2 * source.nbytes / seconds


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
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1), help="Of the CPU.")
@click.option("--rounds", default=6, show_default=True, type=click.IntRange(1), help="On a CPU.")
@click.option(
    "--repeats", default=5, show_default=True, type=click.IntRange(1), help="Calls in each round, on a CPU."
)
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option(
    "--output",
    show_default="benchmarks/results/layer.json, or layer-cuda.json",
    type=click.Path(dir_okay=False, path_type=Path),
)
def main(threads: int, rounds: int, repeats: int, device: str, output: Path | None) -> None:
    target = torch.device(device)
    torch.set_num_threads(threads)
    keep_freed_memory()
    if device == "cuda":
        if not torch.cuda.is_available():
            raise click.UsageError("there is no CUDA GPU; leave --device out to measure on the CPU")
        times = median_times_on_gpu
        shapes = list(product([GPU], LAYOUTS, PASSES))
        cases = [(*case, dtype) for dtype in (torch.float32, torch.bfloat16) for case in shapes]
        setting = {"device": torch.cuda.get_device_name()}
    else:
        times = functools.partial(median_times, rounds=rounds, repeats=repeats)
        shapes = [
            *product(CIFAR, LAYOUTS, PASSES),
            *((shape, "contiguous", what) for shape in (MNIST, IMAGENET) for what in PASSES[:2]),
        ]
        cases = [(*case, torch.float32) for case in shapes]
        setting = {"device": "cpu", "threads": threads, "rounds": rounds, "repeats": repeats}
    rows = []
    for shape, layout, what, dtype in tqdm(cases, unit="case", desc="layer"):
        with float32_as("ieee"):
            row = measure(shape, layout, what, times, target, dtype)
        case = {
            "batch": shape.batch,
            "out_channels": shape.out_channels,
            "kernel": shape.kernel,
            "stride": shape.stride,
            "layout": layout,
            "pass": what,
            "dtype": str(dtype).removeprefix("torch."),
        }
        rows.append(case | row)
    click.echo(pd.DataFrame(rows).drop(columns=["kernel", "stride"]).to_string(index=False))
    here = machine(torch=torch.__version__)
    output = output or (RESULTS if device == "cpu" else RESULTS.with_name("layer-cuda.json"))
    write_json(output, machine=here, setting=setting, results=rows)
    if output == RESULTS:
        insert(PAGE, markdown(rows, here, threads))


if __name__ == "__main__":
    main()
