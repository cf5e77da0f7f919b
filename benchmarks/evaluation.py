"""Evaluation speed of ResNet-20 with and without push-pull, against a loader of PIL images.

Both read the same memory-mapped file, one run of each in turn, and must give the images the same classes. On the CPU
the nets run as they do for many images, in ONNX Runtime, and in a third run in torch, as for few. A product of matrices
is timed in the same rounds: the share of its rate that a net reaches shows how far the processor is from its limit.

    python -m benchmarks.evaluation
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from benchmarks import textbook
from benchmarks.report import write_json
from benchmarks.training import MEAN, NETS, STD, compared, hardware, new_net, pictures, seconds
from common_corruptions.evaluation import predict
from common_corruptions.evaluation.folding import fold_norms
from common_corruptions.evaluation.onnx_runtime import Exported
from nets.__main__ import count_multiply_adds
from training.device import choose_device

RESULTS = Path(__file__).parent / "results" / "evaluation.json"
SIDE = 2048  # of the matrices


def measure(
    images: np.ndarray, labels: np.ndarray, batch_size: int | None, textbook_batch: int, workers: int,
    repeats: int, device: torch.device,
) -> tuple[dict[str, dict[str, float]], float]:  # fmt: skip
    """What `compared` gives for `predict` and the textbook loop.

    On the CPU also what the export costs and saves, and the share of the rate of a matrix product.
    """
    calls: dict[tuple[str, str], Callable[[], np.ndarray | Tensor]] = {}
    operations: dict[str, int] = {}
    on_cpu = device.type == "cpu"
    for name in NETS:
        folded = fold_norms(new_net(name, device).to(memory_format=torch.channels_last).eval())
        height, width, channels = images.shape[1:]
        operations[name] = 2 * count_multiply_adds(folded, (channels, height, width))
        options = {"mean": MEAN, "std": STD, "batch_size": batch_size}
        runs = {"fast": Exported(folded), "torch": folded} if on_cpu else {"fast": folded}
        for run, net in runs.items():
            calls[name, run] = lambda net=net, options=options: predict(net, images, **options).argmax(1)
    for name in NETS:
        plain = new_net(name, device)
        batches = textbook.loader(
            images, labels, mean=MEAN, std=STD, batch_size=textbook_batch, workers=workers
        )
        calls[name, "textbook"] = lambda net=plain, batches=batches: textbook.evaluate(net, batches)
    first = {name: seconds(calls[name, "fast"], device) for name in NETS}
    for name in NETS:  # warms up, too
        differing = np.mean(calls[name, "fast"]() != calls[name, "textbook"]())
        if differing > 1e-3:  # rounding may decide between two classes of equal logits
            raise click.ClickException(f"{name}: {100 * differing:.2f} % of the classes differ")
    if on_cpu:
        matrix = torch.randn(SIDE, SIDE)
        calls["matrices", "product"] = lambda: matrix @ matrix
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(repeats):
        for key, call in calls.items():
            times[key].append(seconds(call, device))
    results, cost = compared(times, len(images), len(images))
    for name, row in results.items() if on_cpu else ():
        rate = operations[name] * len(images) / np.array(times[name, "fast"])
        row["share_of_matrix_rate"] = round(
            float(np.median(rate / (2 * SIDE**3 / np.array(times["matrices", "product"])))), 2
        )
        in_torch, fast = np.median(times[name, "torch"]), np.median(times[name, "fast"])
        export = first[name] - fast
        row["torch_images_per_second"] = round(len(images) / in_torch, 1)
        row["export_seconds"] = round(export, 1)
        row["export_pays_from_images"] = (
            round(export / (in_torch - fast) * len(images)) if fast < in_torch else None
        )
    return results, cost


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--images", default=512, show_default=True, type=click.IntRange(1))
@click.option("--batch-size", type=click.IntRange(1), help="Default: that of `predict`.")
@click.option(
    "--textbook-batch",
    default=128,
    show_default=True,
    type=click.IntRange(1),
    help="Batch of the textbook loop.",
)
@click.option("--workers", default=0, show_default=True, help="Processes that load the textbook's images.")
@click.option("--repeats", default=30, show_default=True, type=click.IntRange(1), help="Rounds.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@click.option(
    "--output",
    default=RESULTS,
    show_default="benchmarks/results/evaluation.json",
    type=click.Path(dir_okay=False, path_type=Path),
)
def main(
    images: int,
    batch_size: int | None,
    textbook_batch: int,
    workers: int,
    repeats: int,
    device: str,
    output: Path,
) -> None:
    place = choose_device(device)
    with tempfile.TemporaryDirectory(prefix="evaluation-") as folder:
        stacked, labels = pictures(images)
        np.save(Path(folder) / "images.npy", stacked)
        mapped = np.load(Path(folder) / "images.npy", mmap_mode="r")
        results, cost = measure(mapped, labels, batch_size, textbook_batch, workers, repeats, place)
    for name, row in results.items():
        click.echo(
            f"{name:12} textbook {row['textbook_images_per_second']:8.1f} images/s, "
            f"predict {row['images_per_second']:8.1f} images/s: {row['ratio']:.2f} times"
        )
    click.echo(f"a push-pull net takes {cost:.3f} times its baseline")
    setting = {
        "images": images, "batch_size": batch_size, "textbook_batch": textbook_batch,
        "workers": workers, "repeats": repeats,
    }  # fmt: skip
    write_json(output, machine=hardware(place), setting=setting, results=results, pushpull_time_ratio=cost)


if __name__ == "__main__":
    main()
