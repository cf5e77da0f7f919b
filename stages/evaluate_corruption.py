"""Stage `evaluate_corruption@<net>`: a trained net on the clean test images and on every corruption."""

from pathlib import Path

import click
import pandas as pd
from torch import nn
from tqdm import tqdm

from common_corruptions.evaluation.answers import answer_corruptions
from common_corruptions.recipes.names import SEVERITIES
from common_corruptions.sets.on_disk import open_clean, open_corruptions
from nets.families import families
from stages.files.datasets import DATASETS, load_split, naming_stage_corrupt
from stages.files.interruption import stopping
from stages.files.models import answering, every_seed, load, options
from stages.files.params import in_pipeline, load_params
from stages.files.predictions import PREDICTIONS, Logits, save_logits
from stages.files.unfinished import Found, measured_once
from stages.files.workspace import MODELS
from stages.files.writing import write_csv


@click.command()
@click.argument("net")
@in_pipeline
@stopping("goes on after the last seed that it measured")
def main(net: str, pipeline: Path) -> None:
    """Measure NET, writing metrics/<data>/corruption/<net>.csv: one row for each seed, corruption and severity.

    The logits of every image go to predictions/<data>/corruption/<net>.npz.
    """
    params = load_params(pipeline=pipeline)
    data = params.data
    path = pipeline / MODELS / f"{net}.pt"
    trained = load(path)
    labels = load_split(data.name, "test").labels
    names = data.corruption_names()
    rows, logits = [], {}
    sets = 1 + len(names) * len(SEVERITIES)
    with naming_stage_corrupt():
        open_corruptions(DATASETS / data.name, names, open_clean(DATASETS / data.name))
    with (
        measured_once("evaluate_corruption", params, [path], families()[trained.arch]) as once,
        tqdm(total=len(trained.weights) * sets, desc=f"{net} C", unit="set") as bar,
    ):

        def answer(module: nn.Module) -> Found:
            settings = options(trained, params)
            measured, own = answer_corruptions(module, DATASETS / data.name, names, bar, **settings)
            return measured, {"logits": own}

        for number, (seed, module) in enumerate(every_seed(trained, params), 1):
            with answering(path, seed):
                measured, own = once(str(seed), answer, module)
            bar.update(number * sets - bar.n)  # of those measured before
            logits[seed] = own["logits"]
            rows += [(net, seed, *row) for row in measured]
        images = next(iter(logits.values())).shape[1]
        answers = pipeline / PREDICTIONS / data.name / "corruption" / f"{net}.npz"
        conditions = [(name, severity) for name, severity, _ in measured]
        save_logits(answers, Logits(labels[:images], conditions, logits))
        table = pd.DataFrame(rows, columns=["net", "seed", "corruption", "severity", "error"])
        write_csv(pipeline / "metrics" / data.name / "corruption" / f"{net}.csv", table)


if __name__ == "__main__":
    main()
