"""How fast the perturbations are, beside a plain script that makes one frame of one image at a time.

Both run on one core, on random images of 32 x 32 x 3; the plain way on a few, and its time is scaled. A whole set is
then written to disk on all cores.

    python -m benchmarks.perturbations
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import PIL
import scipy

from benchmarks.reference_perturbations import REFERENCE
from benchmarks.report import machine, write_json
from common_corruptions import PERTURBATIONS, perturb
from common_corruptions.generate import generate_perturbations
from common_corruptions.generate.writing import available_cores

RESULTS = Path(__file__).parent / "results" / "perturbations.json"


def random_images(count: int) -> np.ndarray:
    """Smooth random images, uint8 (count, 32, 32, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (32, 32), interpolation=cv2.INTER_CUBIC) for image in coarse])


def shortest(call: Callable[[], object], repeats: int) -> float:
    """Seconds that `call` takes at best."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(images: np.ndarray, few: int, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds a sequence, in the plain way and by `perturb`, and their ratio, for each perturbation."""
    results = {}
    rng = np.random.default_rng(0)
    for name in PERTURBATIONS:
        perturb(images[:few], name)  # tables and maps are made once
        plain = (
            shortest(lambda name=name: [REFERENCE[name](image, rng) for image in images[:few]], repeats) / few
        )
        ours = shortest(lambda name=name: perturb(images, name), repeats) / len(images)
        results[name] = {"plain_ms": plain * 1e3, "ms": ours * 1e3, "ratio": plain / ours}
    return results


def measure_set(count: int) -> dict[str, float]:
    """Seconds for writing the 14 files of `count` sequences on all cores, and their size."""
    images = random_images(count)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        start = time.perf_counter()
        generate_perturbations(images, np.zeros(count, np.uint8), folder)
        seconds = time.perf_counter() - start
        size = sum(path.stat().st_size for path in Path(folder).glob("*.npy"))
    return {"sequences": count, "seconds": seconds, "gigabytes": size / 1e9, "workers": available_cores()}


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--images", default=1000, show_default=True, type=click.IntRange(1), help="For `perturb`.")
@click.option(
    "--few", default=20, show_default=True, type=click.IntRange(1), help="Images for the plain way."
)
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="The shortest counts.")
@click.option(
    "--set", "count", default=10_000, show_default=True, type=click.IntRange(0), help="Images of the set."
)
@click.option("--output", default=RESULTS, show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(images: int, few: int, repeats: int, count: int, output: Path) -> None:
    cv2.setNumThreads(1)
    results = measure(random_images(images), few, repeats)
    total = {key: sum(row[key] for row in results.values()) for key in ("plain_ms", "ms")}
    results["all"] = {**total, "ratio": total["plain_ms"] / total["ms"]}
    for name, row in results.items():
        click.echo(f"{name:15} {row['plain_ms']:8.3f} ms  {row['ms']:8.3f} ms  x {row['ratio']:.1f}")
    report = {
        "machine": machine(
            numpy=np.__version__,
            scipy=scipy.__version__,
            opencv=cv2.__version__,
            pillow=PIL.__version__,
            load=os.getloadavg()[0],
        ),
        "setting": {"images": images, "plain_images": few, "repeats": repeats},
        "per_sequence_one_core": {
            name: {key: round(value, 4) for key, value in row.items()} for name, row in results.items()
        },
    }
    if count:
        written = measure_set(count)
        plain = total["plain_ms"] * count / 1e3
        written |= {"plain_seconds_without_writing": plain, "ratio": plain / written["seconds"]}
        report["whole_set_written"] = {key: round(value, 2) for key, value in written.items()}
        click.echo(
            f"{count} x 14 written in {written['seconds']:.0f} s, the plain way takes {plain:.0f} s without"
        )
    write_json(output, **report)


if __name__ == "__main__":
    main()
