"""Stage `evaluate_perturbation@<net>`: how much the predictions of a trained net change within perturbed sequences."""

from pathlib import Path

import click
import pandas as pd
from tqdm import tqdm

from robustness.benchmark import measure_perturbations
from robustness.folding import fold_norms
from stages import models
from stages.datasets import DATASETS
from stages.params import load_params
from stages.tables import write_csv


@click.command()
@click.argument("net")
def main(net: str) -> None:
    """Measure NET, writing metrics/<data>/perturbation/<net>.csv: a row for each seed and measurement."""
    params = load_params()
    trained = models.load(models.MODELS / f"{net}.pt")
    device = models.choose_device(params.evaluate.device)
    names = params.data.perturbation_names()
    options = {"mean": trained.mean, "std": trained.std, "batch_size": params.evaluate.batch_size}
    options["count"] = params.data.perturbed_images
    rows = []
    with tqdm(total=len(trained.weights) * len(names), desc=f"{net} P", unit="set") as bar:
        for seed in trained.weights:
            module = fold_norms(trained.net(seed, device))
            try:
                for measured in measure_perturbations(module, DATASETS / params.data.name, names, **options):
                    rows += [(net, seed, *row) for row in measured]
                    bar.update()
            except (FileNotFoundError, ValueError) as error:
                raise click.ClickException(f"{error}; `dvc repro corrupt` makes the sets") from None
    table = pd.DataFrame(rows, columns=["net", "seed", "perturbation", "protocol", "metric", "value"])
    write_csv(Path("metrics") / params.data.name / "perturbation" / f"{net}.csv", table)


if __name__ == "__main__":
    main()
