"""How fast the corruptions are, beside a plain script that takes one image at a time.

Both run on one core, on the same images of 32 x 32 x 3 at all five severities; the plain way on a few, and its time is
scaled. Then a whole CIFAR-10-C (19 corruptions, 5 severities, 10,000 images) is made on several cores, without reading
or writing. The images are those of the CIFAR-10 test set in the folder of `--data`, repeated, and scikit-learn's digits
without it.

    python -m benchmarks.corruptions
"""

import itertools
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import click
import cv2
import numpy as np
import PIL
import scipy
from sklearn.datasets import load_digits

from benchmarks.authors import read_test_images
from benchmarks.reference_corruptions import corrupt_one
from benchmarks.report import machine, write_json
from common_corruptions import CORRUPTIONS, corrupt
from common_corruptions.recipes.names import SEVERITIES

RESULTS = Path(__file__).parent / "results" / "corruptions.json"


def load_images(data: Path | None, count: int) -> tuple[np.ndarray, str]:
    """`count` images, uint8 (count, 32, 32, 3), and what they are."""
    if data is not None:
        return np.resize(read_test_images(data)[0], (count, 32, 32, 3)), "CIFAR-10 test images, repeated"
    digits = [cv2.resize(digit * 15.9, (32, 32)) for digit in load_digits().images]
    colour = np.stack(digits)[..., None].repeat(3, axis=-1).astype(np.uint8)
    return np.resize(colour, (count, 32, 32, 3)), "scikit-learn's digits, enlarged and repeated"


def measure_one_core(images: np.ndarray, few: int, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds an image (mean over severities), in the plain way and by `corrupt`, and their ratio."""
    cv2.setNumThreads(1)
    random = np.random.default_rng(0)
    results = {}
    for name in CORRUPTIONS:
        ours, plain = [], []
        for severity in SEVERITIES:
            corrupt(images[:few], name, severity)  # tables are made once
        for _ in range(repeats):
            start = time.perf_counter()
            for severity in SEVERITIES:
                corrupt(images, name, severity)
            middle = time.perf_counter()
            for severity in SEVERITIES:
                for image in images[:few]:
                    corrupt_one(image, name, severity, random)
            ours.append((middle - start) / len(images))
            plain.append((time.perf_counter() - middle) / few)
        ms, plain_ms = (min(times) / len(SEVERITIES) * 1e3 for times in (ours, plain))
        results[name] = {"plain_ms": plain_ms, "ms": ms, "ratio": plain_ms / ms}
    return results


def measure_set(data: Path | None, count: int, workers: int, repeats: int) -> dict[str, float]:
    """Seconds for all severities of `count` images, for each corruption, shared out over processes."""
    bounds = np.linspace(0, count, workers + 1).astype(int).tolist()
    parts = list(itertools.pairwise(bounds))
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(workers)
    seconds = {}
    with ProcessPoolExecutor(workers, context, prepare_worker, (data, count, ready)) as pool:
        list(pool.map(len, [()] * workers))  # a worker starts only for a task; they wait for each other
        for name in CORRUPTIONS:
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                list(pool.map(corrupt_part, [name] * workers, parts))
                times.append(time.perf_counter() - start)
            seconds[name] = min(times)
    return seconds


def prepare_worker(data: Path | None, count: int, ready: Barrier) -> None:
    global IMAGES
    cv2.setNumThreads(1)  # a worker has one core
    IMAGES, _ = load_images(data, count)
    ready.wait()


def corrupt_part(name: str, part: tuple[int, int]) -> None:
    for severity in SEVERITIES:
        corrupt(IMAGES[slice(*part)], name, severity, start=part[0])


@click.command(help=__doc__.split("\n\n")[0])
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with CIFAR-10's batches; digits are taken without it.",
)
@click.option("--images", default=1000, show_default=True, type=click.IntRange(1), help="For one core.")
@click.option(
    "--few", default=20, show_default=True, type=click.IntRange(1), help="Images for the plain way."
)
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="The shortest counts.")
@click.option(
    "--set", "count", default=10_000, show_default=True, type=click.IntRange(1), help="Images of the set."
)
@click.option(
    "--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes for the set."
)
@click.option("--output", default=RESULTS, show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(
    data: Path | None, images: int, few: int, repeats: int, count: int, workers: int, output: Path
) -> None:
    load = os.getloadavg()[0]
    pictures, source = load_images(data, images)
    results = measure_one_core(pictures, few, repeats)
    total = {key: sum(row[key] for row in results.values()) for key in ("plain_ms", "ms")}
    results["all"] = {**total, "ratio": total["plain_ms"] / total["ms"]}
    seconds = measure_set(data, count, workers, repeats)
    seconds["all"] = sum(seconds.values())
    for name, row in results.items():
        row["set_seconds"] = seconds[name]
        row["set_plain_seconds"] = row["plain_ms"] * len(SEVERITIES) * count / 1e3
        row["set_ratio"] = row["set_plain_seconds"] / row["set_seconds"]
        click.echo(
            f"{name:18} {row['plain_ms']:8.3f} ms {row['ms']:8.4f} ms  x {row['ratio']:6.1f};"
            f"  set {row['set_plain_seconds']:7.1f} s {row['set_seconds']:6.2f} s  x {row['set_ratio']:6.1f}"
        )
    report = {
        "machine": machine(
            numpy=np.__version__,
            scipy=scipy.__version__,
            opencv=cv2.__version__,
            pillow=PIL.__version__,
            load=load,
        ),
        "setting": {
            "source": source,
            "images": images,
            "plain_images": few,
            "repeats": repeats,
            "set_images": count,
            "set_workers": workers,
        },
        "corruptions": {
            name: {key: round(value, 4) for key, value in row.items()} for name, row in results.items()
        },
    }
    write_json(output, **report)


if __name__ == "__main__":
    main()
