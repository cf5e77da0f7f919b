"""Do corruptions made here cost a net as much as the published CIFAR-10-C does?

The nets trained by the paper's authors are run on the first images of the CIFAR-10 test set, corrupted here, and their
errors are put beside those that the authors released for CIFAR-10-C (10,000 images). On a few hundred images an error
is known to one or two points only, which all severities and corruptions share, as they share the images.

    python -m benchmarks.fidelity
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from archives.formats import read_cifar_batches
from benchmarks.report import machine, write_json
from common_corruptions import CORRUPTIONS, corrupt
from common_corruptions.evaluation import predict
from common_corruptions.evaluation.folding import fold_norms
from common_corruptions.generate import RECIPES_VERSION
from common_corruptions.recipes.names import SEVERITIES
from nets.official import load_official

RESULTS = Path(__file__).parent / "results" / "fidelity.json"
SHARED = Path(__file__).parents[2] / "shared"
NETS = ("resnet-20", "resnet-20-pp")
MEAN = [125.3 / 255, 123.0 / 255, 113.9 / 255]
STD = [63.0 / 255, 62.1 / 255, 66.7 / 255]


def read_test_images(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first images of the CIFAR-10 test set, uint8 (N, 32, 32, 3), and their labels."""
    return read_cifar_batches(shared / "data" / "cifar10-subset")["test"]


def read_published(
    shared: Path, nets: Sequence[str] = NETS, severities: Sequence[int] = SEVERITIES
) -> pd.DataFrame:
    """The released errors in percent, mean over severities: a row a corruption, a column a net."""
    table = pd.read_csv(shared / "reference" / "official-cifar10-c.csv")
    means = (
        table[table["severity"].isin(severities)].groupby(["corruption", "model"])["error"].mean().unstack()
        * 100
    )
    return means.loc[list(CORRUPTIONS), list(nets)]


def measure(
    shared: Path,
    nets: Sequence[str] = NETS,
    seed: int = 0,
    severities: Sequence[int] = SEVERITIES,
    progress: bool = False,
) -> pd.DataFrame:
    """How often the authors' nets err on each image, corrupted here at each severity.

    Returns:
        Percent of the severities, a row a corruption and image, a column a net.
    """
    images, labels = read_test_images(shared)
    loaded = {
        net: fold_norms(load_official(shared / "reference" / "official" / net / "checkpoint.pth.tar")).to(
            memory_format=torch.channels_last
        )
        for net in nets
    }
    rows = pd.MultiIndex.from_product([CORRUPTIONS, range(len(images))], names=["corruption", "image"])
    errors = pd.DataFrame(0.0, index=rows, columns=list(nets))
    for name in tqdm(CORRUPTIONS, disable=not progress):
        wrong = np.zeros((len(images), len(nets)))
        for severity in severities:
            corrupted = corrupt(images, name, severity, seed)
            for column, net in enumerate(nets):
                logits = predict(loaded[net], corrupted, mean=MEAN, std=STD)
                wrong[:, column] += logits.argmax(axis=1) != labels
        errors.loc[name] = 100 * wrong / len(severities)
    return errors


def compare(found: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """What was found on a few images beside what was published for all.

    A paired difference is that of one corruption or perturbation and its published share of the mean over all: that
    the images looked at are harder or easier than others cancels from it. A standard error is that of the sample, or,
    where less is found than published, of as many more counts: rare flips tell little of their own spread.

    Args:
        found: a row a name and image, a column a net.
        published: a row a name, a column a net.

    Returns:
        Columns here, published, difference and standard_error, then paired_difference and paired_error. A row a net and
        name, and last for each net the mean, which has no pair.
    """
    kind = found.index.names[0]
    groups = {}
    for net in published.columns:
        values = found[net].unstack(kind)[list(published.index)]
        mean = values.mean(axis=1)
        contrast = values - np.outer(mean, published[net] / published[net].mean())
        rarer = np.sqrt(np.maximum(published[net] / values.mean(), 1))
        root = np.sqrt(len(values))
        rows = pd.DataFrame(
            {
                "here": values.mean(),
                "published": published[net],
                "standard_error": rarer * values.std() / root,
                "paired_difference": contrast.mean(),
                "paired_error": rarer * contrast.std() / root,
            }
        )
        rows.loc["mean"] = [mean.mean(), published[net].mean(), mean.std() / root, np.nan, np.nan]
        rows.insert(2, "difference", rows["here"] - rows["published"])
        groups[net] = rows
    return pd.concat(groups, names=["net", kind])


def nested(table: pd.DataFrame, digits: int) -> dict[str, dict[str, dict[str, float]]]:
    """The table of `compare` as JSON has it: by net, name and column, what is not known left out."""
    return {
        net: {name: row.dropna().round(digits).to_dict() for name, row in rows.droplevel("net").iterrows()}
        for net, rows in table.groupby("net", sort=False)
    }


@click.command(help=__doc__.split("\n\n")[0])
@click.option(
    "--shared", type=click.Path(path_type=Path), default=SHARED, help="Folder with data/ and reference/."
)
@click.option(
    "--net", "nets", multiple=True, default=NETS, show_default=True, help="Folders of reference/official."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--output", default=RESULTS, show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(shared: Path, nets: tuple[str, ...], seed: int, output: Path) -> None:
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
    errors = measure(shared, nets, seed, progress=True)
    table = compare(errors, read_published(shared, nets))
    click.echo(table.to_string(float_format="{:.2f}".format))
    write_json(
        output,
        machine=machine(torch=torch.__version__, numpy=np.__version__),
        setting={
            "images": len(errors) // len(CORRUPTIONS),
            "seed": seed,
            "recipes": RECIPES_VERSION["corruption"],
        },
        error=nested(table, digits=3),
    )


if __name__ == "__main__":
    main()
