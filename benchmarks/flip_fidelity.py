"""Do perturbations made here make a net flip as often as the published CIFAR-10-P does?

The nets trained by the paper's authors are run on the first images of the CIFAR-10 test set, perturbed here, and their
flip probabilities (each frame against the one before, noises too) are put beside those that the authors released for
CIFAR-10-P (10,000 images).

    python -m benchmarks.flip_fidelity
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.fidelity import MEAN, NETS, SHARED, STD, read_test_images
from nets import load_official
from robustness import PERTURBATIONS, perturb
from robustness.evaluation import predict
from robustness.metrics import flip_probability


def read_published(shared: Path, nets: Sequence[str] = NETS) -> pd.DataFrame:
    """The released flip probabilities: a row a perturbation, a column a net."""
    table = pd.read_csv(shared / "reference" / "official-cifar10-p.csv")
    table = table[table["metric"] == "flip_probability"]
    return table.pivot(index="perturbation", columns="model", values="value").loc[
        list(PERTURBATIONS), list(nets)
    ]


def measure(
    shared: Path, nets: Sequence[str] = NETS, seed: int = 0, pairs: int | None = None, progress: bool = False
) -> pd.DataFrame:
    """The flip probabilities of the authors' nets on perturbations made here, in the form of `read_published`.

    With `pairs`, only that many pairs of neighbouring frames are looked at in each sequence. A few tell nearly as much
    as all 30, since images differ more than the parts of a sequence do.
    """
    images, _ = read_test_images(shared)
    checkpoints = {net: shared / "reference" / "official" / net / "checkpoint.pth.tar" for net in nets}
    loaded = {  # a third faster in the memory format that `predict` feeds
        net: load_official(path).to(memory_format=torch.channels_last) for net, path in checkpoints.items()
    }
    flips = pd.DataFrame(0.0, index=list(PERTURBATIONS), columns=list(nets))
    for name in tqdm(PERTURBATIONS, disable=not progress):
        sequences = perturb(images, name, seed)
        if pairs is not None:
            sequences = stretches(sequences, pairs)
        frames = sequences.reshape(-1, *sequences.shape[2:])
        for net in nets:
            classes = predict(loaded[net], frames, mean=MEAN, std=STD, batch_size=128).argmax(axis=1)
            flips.loc[name, net] = flip_probability(classes.reshape(sequences.shape[:2]), protocol="official")
    return flips


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
def main(shared: Path, nets: tuple[str, ...], pairs: int | None, seed: int) -> None:
    if not (shared / "reference").is_dir():
        raise click.ClickException(
            f"{shared} with the reference data is not there; give its place with --shared"
        )
    missing = [net for net in nets if not (shared / "reference" / "official" / net).is_dir()]
    if missing:
        raise click.ClickException(
            f"no checkpoint of {', '.join(missing)} in {shared / 'reference' / 'official'}"
        )
    ours, published = measure(shared, nets, seed, pairs, progress=True), read_published(shared, nets)
    table = pd.concat({"here": ours, "published": published, "difference": ours - published}, axis=1)
    table = table.swaplevel(axis=1)[list(nets)]
    table.loc["mean"] = table.mean()
    click.echo(table.to_string(float_format="{:.4f}".format))


if __name__ == "__main__":
    main()
