"""Stage `official`: the authors' trained nets, from a folder of their checkpoints, measured like our own."""

from collections.abc import Iterator
from pathlib import Path

import click
import pandas as pd
import torch
from tqdm import tqdm

from nets import load_official
from robustness.benchmark import measure_corruptions, measure_perturbations
from robustness.names import SEVERITIES
from stages import models
from stages.cells import AUTHORS
from stages.datasets import CIFAR_MEAN, CIFAR_STD, DATASETS
from stages.params import load_params
from stages.tables import write_csv


@click.command()
def main() -> None:
    """Measure every checkpoint under official.path, writing metrics/<data>/official/; without a path, empty tables."""
    params = load_params()
    data = params.data
    device = models.choose_device(params.evaluate.device)
    options = {
        "mean": [value / 255 for value in CIFAR_MEAN],
        "std": [value / 255 for value in CIFAR_STD],
        "batch_size": params.evaluate.batch_size,
    }
    corruption, perturbation = [], []
    found = dict(checkpoints(params.official.path)) if params.official.path else {}
    names, flips = data.corruption_names(), data.perturbation_names()
    with tqdm(
        total=len(found) * (1 + len(names) * len(SEVERITIES) + len(flips)), unit="set", desc="official"
    ) as bar:
        for name, path in found.items():
            try:
                net = load_official(path).to(device, memory_format=torch.channels_last)
                for row in measure_corruptions(net, DATASETS / data.name, names, **options):
                    corruption.append((f"{name} ({AUTHORS})", 0, *row))
                    bar.update()
                for rows in measure_perturbations(
                    net, DATASETS / data.name, flips, data.perturbed_images, **options
                ):
                    perturbation += [(f"{name} ({AUTHORS})", 0, *row) for row in rows]
                    bar.update()
            except (FileNotFoundError, ValueError) as error:
                raise click.ClickException(f"{path}: {error}") from None
    folder = Path("metrics") / data.name / "official"
    columns = ["net", "seed", "corruption", "severity", "error"]
    write_csv(folder / "corruption.csv", pd.DataFrame(corruption, columns=columns))
    columns = ["net", "seed", "perturbation", "protocol", "metric", "value"]
    write_csv(folder / "perturbation.csv", pd.DataFrame(perturbation, columns=columns))


def checkpoints(folder: str) -> Iterator[tuple[str, Path]]:
    """Name and file of every checkpoint below a folder, as the authors place them: `<net>/checkpoint.pth.tar`.

    Raises:
        click.ClickException: no such folder, or no checkpoint in it.
    """
    found = sorted(Path(folder).expanduser().rglob("*.pth.tar"))
    if not found:
        raise click.ClickException(f"official.path: no <net>/checkpoint.pth.tar below {folder}")
    for path in found:
        yield (
            path.parent.name if path.name == "checkpoint.pth.tar" else path.name.removesuffix(".pth.tar"),
            path,
        )


if __name__ == "__main__":
    main()
