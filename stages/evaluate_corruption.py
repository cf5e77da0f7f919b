"""Stage `evaluate_corruption@<net>`: a trained net on the clean test images and on every corruption."""

from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from robustness.benchmark import predict_corruptions
from robustness.metrics import classification_error
from robustness.names import SEVERITIES
from stages import models
from stages.datasets import DATASETS
from stages.evaluation import every_seed, made_by_corrupt, options
from stages.params import load_params
from stages.predictions import PREDICTIONS, Logits, save_logits
from stages.tables import write_csv


@click.command()
@click.argument("net")
def main(net: str) -> None:
    """Measure NET, writing metrics/<data>/corruption/<net>.csv: one row for each seed, corruption and severity.

    The logits of every image go to predictions/<data>/corruption/<net>.npz.
    """
    params = load_params()
    trained = models.load(models.MODELS / f"{net}.pt")
    folder = DATASETS / params.data.name
    names = params.data.corruption_names()
    rows, logits = [], {}
    sets = 1 + len(names) * len(SEVERITIES)
    with made_by_corrupt(), tqdm(total=len(trained.weights) * sets, desc=f"{net} C", unit="set") as bar:
        labels = np.load(folder / "clean" / "test_labels.npy")
        for seed, module in every_seed(trained, params):
            logits[seed] = []
            for name, severity, answers in predict_corruptions(
                module, folder, names, **options(trained, params)
            ):
                rows.append((net, seed, name, severity, classification_error(answers, labels)))
                logits[seed].append(answers)
                bar.update()
    table = pd.DataFrame(rows, columns=["net", "seed", "corruption", "severity", "error"])
    measured = list(dict.fromkeys(zip(table.corruption, table.severity, strict=True)))
    stacked = {seed: np.stack(answers) for seed, answers in logits.items()}
    save_logits(
        PREDICTIONS / params.data.name / "corruption" / f"{net}.npz", Logits(labels, measured, stacked)
    )
    write_csv(Path("metrics") / params.data.name / "corruption" / f"{net}.csv", table)


if __name__ == "__main__":
    main()
