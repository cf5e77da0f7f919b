"""Stage `evaluate_perturbation@<net>`: stability of a trained net's predictions within perturbed sequences."""

from pathlib import Path

import click
import pandas as pd
from torch import nn
from tqdm import tqdm

from common_corruptions.evaluation.answers import answer_perturbations
from common_corruptions.sets.on_disk import open_perturbations
from stages.files.datasets import DATASETS, naming_stage_corrupt
from stages.files.interruption import stopping
from stages.files.models import load, measured_seeds, options
from stages.files.params import in_pipeline, load_params
from stages.files.predictions import PREDICTIONS, save_frames
from stages.files.unfinished import Found
from stages.files.workspace import MODELS
from stages.files.writing import write_csv


@click.command()
@click.argument("net")
@in_pipeline
@stopping("resumes after the last seed measured")
def main(net: str, pipeline: Path) -> None:
    """Measure NET and write metrics/<data>/perturbation/<net>.csv: one row per seed and measurement.

    The predicted class of every frame goes to predictions/<data>/perturbation/<net>.npz.
    """
    params = load_params(pipeline=pipeline)
    data, folder = params.data, DATASETS / params.data.name
    path = pipeline / MODELS / f"{net}.pt"
    trained = load(path)
    names = data.perturbation_names()
    with naming_stage_corrupt():
        open_perturbations(folder, names, data.perturbed_images)

    def measure(module: nn.Module, bar: tqdm) -> Found:
        settings = options(trained, params)
        return answer_perturbations(module, folder, names, data.perturbed_images, bar, **settings)

    rows, frames = [], {}
    stage, label = "evaluate_perturbation", f"{net} P"
    with measured_seeds(stage, params, path, trained, len(names), label, measure) as seeds:
        for seed, measured, answers in seeds:
            frames[seed] = answers
            rows += [(net, seed, *row) for row in measured]
        save_frames(pipeline / PREDICTIONS / data.name / "perturbation" / f"{net}.npz", frames)
        table = pd.DataFrame(rows, columns=["net", "seed", "perturbation", "protocol", "metric", "value"])
        write_csv(pipeline / "metrics" / data.name / "perturbation" / f"{net}.csv", table)


if __name__ == "__main__":
    main()
