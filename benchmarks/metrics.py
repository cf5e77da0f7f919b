"""Flip probability and rank distances of one perturbation, against a Python loop over the frames.

The loop is the textbook way: `scipy.stats.rankdata` frame by frame, then one distance at a time. It runs on a
subset of the sequences and is scaled to all; both ways must agree on that subset. Logits are random; flip
probability starts from their predictions.

    python -m benchmarks.metrics
"""

import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import scipy
from scipy.stats import rankdata

from benchmarks.report import machine, write_json
from common_corruptions.metrics import flip_probability, ordinal_ranks, top5_distance, zipf_distance

RESULTS = Path(__file__).parent / "results" / "metrics.json"


def loop_flips(predictions: np.ndarray) -> float:
    flips = []
    for sequence in predictions:
        for previous, current in pairwise(sequence):
            flips.append(previous != current)
    return float(np.mean(flips))


def loop_ranks(logits: np.ndarray) -> np.ndarray:
    return np.array([[rankdata(-frame, method="ordinal") for frame in sequence] for sequence in logits])


def loop_distance(ranks: np.ndarray, distance: Callable[[np.ndarray], float]) -> float:
    """Mean over frames of `distance` of the permutation from the previous frame's ranks to the frame's."""
    distances = []
    for sequence in ranks:
        for previous, current in pairwise(sequence):
            distances.append(distance(current[np.argsort(previous)]))
    return float(np.mean(distances))


def top5(permutation: np.ndarray) -> float:
    return np.abs(np.arange(1, 6) - np.minimum(permutation[:5], 6)).sum()


def zipf(permutation: np.ndarray) -> float:
    weight = 1 / np.arange(1, len(permutation) + 1)
    return (np.abs(weight - 1 / permutation) * weight).sum()


def best_time(call: Callable[[], object], repeats: int) -> float:
    """Shortest wall time of `call` in seconds, after one call to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(
    sequences: int, frames: int, classes: int, subset: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds of the loop (scaled) and of `common_corruptions.metrics`, and their ratio, for each metric."""
    logits = np.random.default_rng(0).normal(size=(sequences, frames, classes)).astype(np.float32)
    predictions = logits.argmax(-1)

    def loop_all(predictions: np.ndarray, logits: np.ndarray) -> tuple[float, float, float]:
        ranks = loop_ranks(logits)
        return loop_flips(predictions), loop_distance(ranks, top5), loop_distance(ranks, zipf)

    def ours_all(predictions: np.ndarray, logits: np.ndarray) -> tuple[float, float, float]:
        ranks = ordinal_ranks(logits)
        return (
            flip_probability(predictions),
            top5_distance(ranks, ranked=True),
            zipf_distance(ranks, ranked=True),
        )

    Metric = Callable[[np.ndarray, np.ndarray], float | tuple[float, float, float]]
    pairs: dict[str, tuple[Metric, Metric]] = {
        "flip_probability": (lambda p, _: loop_flips(p), lambda p, _: flip_probability(p)),
        "top5_distance": (lambda _, x: loop_distance(loop_ranks(x), top5), lambda _, x: top5_distance(x)),
        "zipf_distance": (lambda _, x: loop_distance(loop_ranks(x), zipf), lambda _, x: zipf_distance(x)),
        "all_three": (loop_all, ours_all),
    }
    results = {}
    for name, (loop, ours) in pairs.items():
        part = predictions[:subset], logits[:subset]
        if not np.allclose(loop(*part), ours(*part)):
            raise click.ClickException(f"{name}: the loop and common_corruptions.metrics disagree")
        loop_seconds = best_time(partial(loop, *part), repeats) * sequences / subset
        seconds = best_time(partial(ours, predictions, logits), repeats)
        results[name] = {
            "loop_seconds": round(loop_seconds, 3),
            "seconds": round(seconds, 5),
            "ratio": round(loop_seconds / seconds, 1),
        }
    return results


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--sequences", default=10_000, show_default=True, type=click.IntRange(1))
@click.option("--frames", default=31, show_default=True, type=click.IntRange(2))
@click.option("--classes", default=10, show_default=True, type=click.IntRange(5))
@click.option(
    "--subset", default=200, show_default=True, type=click.IntRange(1), help="Sequences the loop runs on."
)
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1), help="The shortest counts.")
@click.option(
    "--output",
    default=RESULTS,
    show_default="benchmarks/results/metrics.json",
    type=click.Path(dir_okay=False, path_type=Path),
)
def main(sequences: int, frames: int, classes: int, subset: int, repeats: int, output: Path) -> None:
    subset = min(subset, sequences)
    results = measure(sequences, frames, classes, subset, repeats)
    setting = {
        "sequences": sequences,
        "frames": frames,
        "classes": classes,
        "loop_subset": subset,
        "repeats": repeats,
    }
    for name, row in results.items():
        click.echo(
            f"{name:17} {row['loop_seconds']:8.2f} s  {row['seconds'] * 1e3:8.2f} ms  {row['ratio']:.0f} times"
        )
    here = machine(numpy=np.__version__, scipy=scipy.__version__)
    write_json(output, machine=here, setting=setting, results=results)


if __name__ == "__main__":
    main()
