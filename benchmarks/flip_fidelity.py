"""Do perturbations made here make a net flip as often as the published CIFAR-10-P does?

The nets trained by the paper's authors are run on the first images of the CIFAR-10 test set, perturbed here, and their
flip probabilities (each frame against the one before, noises too) are put beside those that the authors released for
CIFAR-10-P (10,000 images), with the standard errors of so few images.

    python -m benchmarks.flip_fidelity
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from benchmarks.fidelity import MEAN, SHARED, STD, compare, nested, read_test_images
from benchmarks.report import machine, write_json
from common_corruptions import PERTURBATIONS, perturb
from common_corruptions.evaluation import predict
from common_corruptions.evaluation.folding import fold_norms
from common_corruptions.generate import RECIPES_VERSION
from nets.official import load_official

RESULTS = Path(__file__).parent / "results" / "flip_fidelity.json"
NETS = ("resnet-20", "resnet-20-pp", "resnet-44", "resnet-44-pp", "densenet-40-12", "densenet-40-12-pp")


def read_published(shared: Path, nets: Sequence[str] = NETS) -> pd.DataFrame:
    """The released flip probabilities: a row a perturbation, a column a net."""
    table = pd.read_csv(shared / "reference" / "official-cifar10-p.csv")
    table = table[table["metric"] == "flip_probability"]
    values = table.pivot(index="perturbation", columns="model", values="value")
    return values.loc[list(PERTURBATIONS), list(nets)]


def measure(
    shared: Path, nets: Sequence[str] = NETS, seed: int = 0, pairs: int | None = None, progress: bool = False
) -> pd.DataFrame:
    """How often the authors' nets flip on each sequence made here.

    With `pairs`, only that many pairs of neighbouring frames are looked at in each sequence. A few tell nearly as much
    as all 30, since images differ more than the parts of a sequence do.

    Returns:
        The share of flips, a row a perturbation and image, a column a net.
    """
    images, _ = read_test_images(shared)
    loaded = load_nets(shared, nets)
    rows = pd.MultiIndex.from_product([PERTURBATIONS, range(len(images))], names=["perturbation", "image"])
    found = pd.DataFrame(0.0, index=rows, columns=list(nets))
    with tqdm(total=len(PERTURBATIONS) * len(nets), disable=not progress) as bar:
        for name in PERTURBATIONS:
            sequences = perturb(images, name, seed)
            if pairs is not None:
                sequences = stretches(sequences, pairs)
            for net in nets:
                found.loc[name, net] = flips(classes_of(loaded[net], sequences))
                bar.update()
    return found


def load_nets(shared: Path, nets: Sequence[str]) -> dict[str, nn.Module]:
    """The authors' nets by the names of their folders, as they are evaluated fastest: up to rounding what they were."""
    return {
        net: fold_norms(load_official(shared / "reference" / "official" / net / "checkpoint.pth.tar")).to(
            memory_format=torch.channels_last
        )
        for net in nets
    }


def classes_of(net: nn.Module, sequences: np.ndarray) -> np.ndarray:
    """What a net takes each frame of sequences (N, T, H, W, C) for, (N, T)."""
    frames = sequences.reshape(-1, *sequences.shape[2:])
    return predict(net, frames, mean=MEAN, std=STD).argmax(axis=1).reshape(sequences.shape[:2])


def flips(classes: np.ndarray) -> np.ndarray:
    """The share of flips in each sequence of classes (N, T), (N,)."""
    return (classes[:, 1:] != classes[:, :-1]).mean(axis=1)


def stretches(sequences: np.ndarray, pairs: int) -> np.ndarray:
    """`pairs + 1` frames of each sequence (N, T, ...), from its beginning, middle and end in turn."""
    count = (sequences.shape[1] - 1) // pairs
    first = np.arange(len(sequences)) % count * pairs
    return sequences[np.arange(len(sequences))[:, None], first[:, None] + np.arange(pairs + 1)]


@click.command(help=__doc__.split("\n\n")[0])
@click.option(
    "--shared", type=click.Path(path_type=Path), default=SHARED, help="Folder with data/ and reference/."
)
@click.option(
    "--net", "nets", multiple=True, default=NETS, show_default=True, help="Folders of reference/official."
)
@click.option(
    "--pairs", type=click.IntRange(min=1), help="Pairs of frames of each sequence; all if not given."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--output", default=RESULTS, show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(shared: Path, nets: tuple[str, ...], pairs: int | None, seed: int, output: Path) -> None:
    if not (shared / "reference").is_dir():
        raise click.ClickException(
            f"{shared} with the reference data is not there; give its place with --shared"
        )
    missing = [net for net in nets if not (shared / "reference" / "official" / net).is_dir()]
    if missing:
        raise click.ClickException(
            f"no checkpoint of {', '.join(missing)} in {shared / 'reference' / 'official'}"
        )
    found = measure(shared, nets, seed, pairs, progress=True)
    table = compare(found, read_published(shared, nets))
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
