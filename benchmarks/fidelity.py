"""Do corruptions made here cost a net as much as the published CIFAR-10-C does?

The nets trained by the paper's authors are run on the first images of the CIFAR-10 test set, corrupted here, and their
errors are put beside those that the authors released for CIFAR-10-C (10,000 images). On a few hundred images an error
is known to one or two points only, which all severities and corruptions share, as they share the images.

    python -m benchmarks.fidelity --data cifar-10-batches-py --checkpoints FOLDER
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.authors import classes_of, folders, load_nets, read_released, read_test_images
from benchmarks.report import machine, write_json
from common_corruptions import CORRUPTIONS, corrupt
from common_corruptions.generate import RECIPES_VERSION
from common_corruptions.recipes.names import SEVERITIES

RESULTS = Path(__file__).parent / "results" / "fidelity.json"
NETS = ("resnet-20", "resnet-20-pp")


def read_published(nets: Sequence[str] = NETS, severities: Sequence[int] = SEVERITIES) -> pd.DataFrame:
    """The released errors in percent, mean over severities: a row a corruption, a column a net."""
    table = read_released("c", nets)
    table = table[table["severity"].isin(severities)]
    return table.pivot_table("error", "corruption", "net").loc[list(CORRUPTIONS), list(nets)]


def measure(
    images: np.ndarray,
    labels: np.ndarray,
    checkpoints: Path,
    nets: Sequence[str] = NETS,
    seed: int = 0,
    severities: Sequence[int] = SEVERITIES,
    progress: bool = False,
) -> pd.DataFrame:
    """How often the authors' nets err on each image, corrupted here at each severity.

    Returns:
        Percent of the severities, a row a corruption and image, a column a net.
    """
    loaded = load_nets(checkpoints, nets)
    rows = pd.MultiIndex.from_product([CORRUPTIONS, range(len(images))], names=["corruption", "image"])
    errors = pd.DataFrame(0.0, index=rows, columns=list(nets))
    for name in tqdm(CORRUPTIONS, disable=not progress):
        wrong = np.zeros((len(images), len(nets)))
        for severity in severities:
            corrupted = corrupt(images, name, severity, seed)
            for column, net in enumerate(nets):
                wrong[:, column] += classes_of(loaded[net], corrupted) != labels
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
@folders
@click.option("--net", "nets", multiple=True, default=NETS, show_default=True, help="A folder of theirs.")
@click.option("--seed", default=0, show_default=True)
@click.option("--output", default=RESULTS, show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(data: Path, checkpoints: Path, nets: tuple[str, ...], seed: int, output: Path) -> None:
    errors = measure(*read_test_images(data), checkpoints, nets, seed, progress=True)
    table = compare(errors, read_published(nets))
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
