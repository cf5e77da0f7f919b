"""Do corruptions made here cost a net as much as the published CIFAR-10-C does?

The nets trained by the paper's authors are run on the first images of the CIFAR-10 test set, corrupted here, and their
errors are put beside those that the authors released for CIFAR-10-C (10,000 images). On a few hundred images an error
is known to one or two points only, and all severities and corruptions share that, as they share the images.

    python -m benchmarks.fidelity
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from nets import load_official
from robustness import CORRUPTIONS, corrupt
from robustness.evaluation import predict
from robustness.metrics import classification_error
from robustness.names import SEVERITIES
from stages.formats import read_cifar_batches

SHARED = Path(__file__).parents[2] / "shared"
NETS = ("resnet-20", "resnet-20-pp")
MEAN = [125.3 / 255, 123.0 / 255, 113.9 / 255]
STD = [63.0 / 255, 62.1 / 255, 66.7 / 255]


def read_test_images(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first images of the CIFAR-10 test set, uint8 (N, 32, 32, 3), and their labels."""
    return read_cifar_batches(shared / "data" / "cifar10-subset")["test"]


def read_published(shared: Path, nets: Sequence[str] = NETS) -> pd.DataFrame:
    """The released errors in percent, mean over severities: a row a corruption, a column a net."""
    table = pd.read_csv(shared / "reference" / "official-cifar10-c.csv")
    means = table.groupby(["corruption", "model"])["error"].mean().unstack() * 100
    return means.loc[list(CORRUPTIONS), list(nets)]


def measure(shared: Path, nets: Sequence[str] = NETS, seed: int = 0, progress: bool = False) -> pd.DataFrame:
    """The errors of the authors' nets on corruptions made here, in the form of `read_published`."""
    images, labels = read_test_images(shared)
    loaded = {
        net: load_official(shared / "reference" / "official" / net / "checkpoint.pth.tar") for net in nets
    }
    errors = pd.DataFrame(0.0, index=list(CORRUPTIONS), columns=list(nets))
    for name in tqdm(CORRUPTIONS, disable=not progress):
        for severity in SEVERITIES:
            corrupted = corrupt(images, name, severity, seed)
            for net in nets:
                logits = predict(loaded[net], corrupted, mean=MEAN, std=STD, batch_size=128)
                errors.loc[name, net] += classification_error(logits, labels) / len(SEVERITIES)
    return errors


@click.command(help=__doc__.split("\n\n")[0])
@click.option(
    "--shared", type=click.Path(path_type=Path), default=SHARED, help="Folder with data/ and reference/."
)
@click.option(
    "--net", "nets", multiple=True, default=NETS, show_default=True, help="Folders of reference/official."
)
@click.option("--seed", default=0, show_default=True)
def main(shared: Path, nets: tuple[str, ...], seed: int) -> None:
    if not (shared / "reference").is_dir():
        raise click.ClickException(
            f"{shared} with the reference data is not there; give its place with --shared"
        )
    missing = [net for net in nets if not (shared / "reference" / "official" / net).is_dir()]
    if missing:
        known = ", ".join(
            sorted(path.name for path in (shared / "reference" / "official").iterdir() if path.is_dir())
        )
        raise click.ClickException(f"no checkpoint of {', '.join(missing)}; there are {known}")
    ours, published = measure(shared, nets, seed, progress=True), read_published(shared, nets)
    table = pd.concat({"here": ours, "published": published, "difference": ours - published}, axis=1)
    table = table.swaplevel(axis=1)[list(nets)]
    table.loc["E"] = table.mean()
    click.echo(table.to_string(float_format="{:.2f}".format))
    worst = (ours - published).abs().max().max()
    overall = (ours - published).mean().abs().max()
    click.echo(f"largest difference of a corruption {worst:.2f}, of E {overall:.2f}")


if __name__ == "__main__":
    main()
