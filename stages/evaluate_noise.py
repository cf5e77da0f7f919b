"""Stage `evaluate_noise@<net>` of studies/dvc.yaml: error of a trained net under the paper's noise sweeps."""

import json
from pathlib import Path

import click
import pandas as pd
from torch import nn
from tqdm import tqdm

from common_corruptions.checks import check_images
from common_corruptions.sweeps import SWEEPS, measure_noise
from stages.files.datasets import load_split
from stages.files.interruption import stopping
from stages.files.models import load, measured_seeds, options
from stages.files.params import in_pipeline, load_params
from stages.files.unfinished import Found
from stages.files.workspace import MODELS
from stages.files.writing import write_csv, write_text


@click.command()
@click.argument("net")
@in_pipeline
@stopping("resumes after the last seed measured")
def main(net: str, pipeline: Path) -> None:
    """Measure NET and write metrics/<data>/noise/<net>.csv (one row per seed, sweep and level) and means as JSON."""
    params = load_params(pipeline=pipeline)
    path = pipeline / MODELS / f"{net}.pt"
    trained = load(path)
    test = load_split(params.data.name, "test")
    try:
        check_images(test.images)  # here, since a ValueError of the measurement counts as the net's fault
    except ValueError as error:
        raise click.ClickException(
            f"no noise is added to the images of {params.data.name}: {error}"
        ) from None

    def measure(module: nn.Module, bar: tqdm) -> Found:
        errors = []
        settings = {"seed": params.data.seed, **options(trained, params)}
        for row in measure_noise(module, test.images, test.labels, **settings):
            errors.append(row)
            bar.update()
        return errors, {}

    rows = []
    stage, label = "evaluate_noise", f"{net} noise"
    sets = 1 + sum(map(len, SWEEPS.values()))
    with measured_seeds(stage, params, path, trained, sets, label, measure, "studies/dvc.yaml") as seeds:
        for seed, errors, _ in seeds:
            rows += [(net, seed, *row) for row in errors]
        table = pd.DataFrame(rows, columns=["net", "seed", "sweep", "level", "error"])
        folder = pipeline / "metrics" / params.data.name / "noise"
        write_csv(folder / f"{net}.csv", table)
        write_text(folder / f"{net}.json", json.dumps(means(table), indent=2) + "\n")


def means(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Mean error over seeds by sweep and level, in the form for `dvc metrics show`."""
    errors = table.groupby(["sweep", "level"], sort=False).error.mean().round(4)
    return {
        sweep: {f"{level:g}": float(error) for level, error in errors[sweep].items()}
        for sweep in errors.index.unique("sweep")
    }


if __name__ == "__main__":
    main()
