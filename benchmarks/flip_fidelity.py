"""Do perturbations made here make a net flip as often as the published CIFAR-10-P does?

The nets trained by the paper's authors are run on the first images of the CIFAR-10 test set, perturbed here, and their
flip probabilities (each frame against the one before, noises too) are put beside those that the authors released for
CIFAR-10-P (10,000 images), with the standard errors of so few images.

    python -m benchmarks.flip_fidelity --data cifar-10-batches-py --checkpoints FOLDER
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from benchmarks.authors import classes_of, folders, load_nets, read_released, read_test_images
from benchmarks.fidelity import compare, nested
from benchmarks.report import machine, write_json
from common_corruptions import PERTURBATIONS, perturb
from common_corruptions.generate import RECIPES_VERSION

RESULTS = Path(__file__).parent / "results" / "flip_fidelity.json"
NETS = ("resnet-20", "resnet-20-pp", "resnet-44", "resnet-44-pp", "densenet-40-12", "densenet-40-12-pp")


def read_published(nets: Sequence[str] = NETS) -> pd.DataFrame:
    """The released flip probabilities: a row a perturbation, a column a net."""
    table = read_released("p", nets)
    table = table[table["metric"] == "flip_probability"]
    values = table.pivot(index="perturbation", columns="net", values="value")
    return values.loc[list(PERTURBATIONS), list(nets)]


def measure(
    images: np.ndarray,
    checkpoints: Path,
    nets: Sequence[str] = NETS,
    seed: int = 0,
    pairs: int | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """How often the authors' nets flip on each sequence made here.

    With `pairs`, only that many pairs of neighbouring frames are looked at in each sequence. A few tell nearly as much
    as all 30, since images differ more than the parts of a sequence do.

    Returns:
        The share of flips, a row a perturbation and image, a column a net.
    """
    loaded = load_nets(checkpoints, nets)
    rows = pd.MultiIndex.from_product([PERTURBATIONS, range(len(images))], names=["perturbation", "image"])
    found = pd.DataFrame(0.0, index=rows, columns=list(nets))
    with tqdm(total=len(PERTURBATIONS) * len(nets), disable=not progress) as bar:
        for name in PERTURBATIONS:
            sequences = perturb(images, name, seed)
            if pairs is not None:
                sequences = stretches(sequences, pairs)
            for net in nets:
                found.loc[name, net] = flips(classes_of_frames(loaded[net], sequences))
                bar.update()
    return found


def classes_of_frames(net: nn.Module, sequences: np.ndarray) -> np.ndarray:
    """What a net takes each frame of sequences (N, T, H, W, C) for, (N, T)."""
    return classes_of(net, sequences.reshape(-1, *sequences.shape[2:])).reshape(sequences.shape[:2])


def flips(classes: np.ndarray) -> np.ndarray:
    """The share of flips in each sequence of classes (N, T), (N,)."""
    return (classes[:, 1:] != classes[:, :-1]).mean(axis=1)


def stretches(sequences: np.ndarray, pairs: int) -> np.ndarray:
    """`pairs + 1` frames of each sequence (N, T, ...), from its beginning, middle and end in turn."""
    count = (sequences.shape[1] - 1) // pairs
    first = np.arange(len(sequences)) % count * pairs
    return sequences[np.arange(len(sequences))[:, None], first[:, None] + np.arange(pairs + 1)]


@click.command(help=__doc__.split("\n\n")[0])
@folders
@click.option("--net", "nets", multiple=True, default=NETS, show_default=True, help="A folder of theirs.")
@click.option(
    "--pairs", type=click.IntRange(min=1), help="Pairs of frames of each sequence; all if not given."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--output", default=RESULTS, show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(
    data: Path, checkpoints: Path, nets: tuple[str, ...], pairs: int | None, seed: int, output: Path
) -> None:
    images, _ = read_test_images(data)
    found = measure(images, checkpoints, nets, seed, pairs, progress=True)
    table = compare(found, read_published(nets))
    click.echo(table.to_string(float_format="{:.4f}".format))
    write_json(
        output,
        machine=machine(torch=torch.__version__, numpy=np.__version__),
        setting={
            "images": len(found) // len(PERTURBATIONS),
            "pairs": pairs or "all",
            "seed": seed,
            "recipes": RECIPES_VERSION["perturbation"],
        },
        flip_probability=nested(table, digits=5),
    )


if __name__ == "__main__":
    main()
