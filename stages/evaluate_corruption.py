"""Stage `evaluate_corruption@<net>`: error of a trained net on the clean test images and on every corruption."""

from pathlib import Path

import click
import pandas as pd
from tqdm import tqdm

from robustness.benchmark import measure_corruptions
from robustness.folding import fold_norms
from robustness.names import SEVERITIES
from stages import models
from stages.datasets import DATASETS
from stages.params import load_params
from stages.tables import write_csv


@click.command()
@click.argument("net")
def main(net: str) -> None:
    """Measure NET, writing metrics/<data>/corruption/<net>.csv: one row for each seed, corruption and severity."""
    params = load_params()
    trained = models.load(models.MODELS / f"{net}.pt")
    device = models.choose_device(params.evaluate.device)
    names = params.data.corruption_names()
    options = {"mean": trained.mean, "std": trained.std, "batch_size": params.evaluate.batch_size}
    rows = []
    with tqdm(
        total=len(trained.weights) * (1 + len(names) * len(SEVERITIES)), desc=f"{net} C", unit="set"
    ) as bar:
        for seed in trained.weights:
            module = fold_norms(trained.net(seed, device))
            try:
                for row in measure_corruptions(module, DATASETS / params.data.name, names, **options):
                    rows.append((net, seed, *row))
                    bar.update()
            except (FileNotFoundError, ValueError) as error:
                raise click.ClickException(f"{error}; `dvc repro corrupt` makes the sets") from None
    table = pd.DataFrame(rows, columns=["net", "seed", "corruption", "severity", "error"])
    write_csv(Path("metrics") / params.data.name / "corruption" / f"{net}.csv", table)


if __name__ == "__main__":
    main()
