"""Stage `evaluate_corruption@<net>`: error of a trained net on the clean test images and on every corruption."""

from pathlib import Path

import click
import pandas as pd
from torch import nn
from tqdm import tqdm

from common_corruptions.evaluation.answers import answer_corruptions
from common_corruptions.recipes.names import SEVERITIES
from common_corruptions.sets.on_disk import open_clean, open_corruptions
from stages.files.datasets import DATASETS, load_split, naming_stage_corrupt
from stages.files.interruption import stopping
from stages.files.models import load, measured_seeds, options
from stages.files.params import in_pipeline, load_params
from stages.files.predictions import PREDICTIONS, Logits, save_logits
from stages.files.unfinished import Found
from stages.files.workspace import MODELS
from stages.files.writing import write_csv


@click.command()
@click.argument("net")
@in_pipeline
@stopping("resumes after the last seed measured")
def main(net: str, pipeline: Path) -> None:
    """Measure NET and write metrics/<data>/corruption/<net>.csv: one row per seed, corruption and severity.

    The logits of every image go to predictions/<data>/corruption/<net>.npz.
    """
    params = load_params(pipeline=pipeline)
    data, folder = params.data, DATASETS / params.data.name
    path = pipeline / MODELS / f"{net}.pt"
    trained = load(path)
    labels = load_split(data.name, "test").labels
    names = data.corruption_names()
    with naming_stage_corrupt():
        open_corruptions(folder, names, open_clean(folder))

    def measure(module: nn.Module, bar: tqdm) -> Found:
        errors, own = answer_corruptions(module, folder, names, bar, **options(trained, params))
        return errors, {"logits": own}

    rows, logits = [], {}
    sets = 1 + len(names) * len(SEVERITIES)
    with measured_seeds("evaluate_corruption", params, path, trained, sets, f"{net} C", measure) as seeds:
        for seed, errors, answers in seeds:
            logits[seed] = answers["logits"]
            rows += [(net, seed, *row) for row in errors]
        images = next(iter(logits.values())).shape[1]
        conditions = [(name, severity) for name, severity, _ in errors]
        save_logits(
            pipeline / PREDICTIONS / data.name / "corruption" / f"{net}.npz",
            Logits(labels[:images], conditions, logits),
        )
        table = pd.DataFrame(rows, columns=["net", "seed", "corruption", "severity", "error"])
        write_csv(pipeline / "metrics" / data.name / "corruption" / f"{net}.csv", table)


if __name__ == "__main__":
    main()
