"""Does the fast engine train as well as the textbook loop? ResNet-20 on a folder with CIFAR-10 batches, over seeds.

Fast and textbook runs of one seed begin with the same weights and draw other crops. Each run, when it ends, becomes a
row of the result; runs that have their row are not repeated, so a stopped measurement is taken up by calling it again,
on another machine too: each row has its own (null in the result on file where that was not noted).

    python -m benchmarks.equivalence cifar-10-batches-py
"""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from tqdm import tqdm

from archives.formats import ArchiveError, Splits, read_cifar_batches
from benchmarks import textbook
from benchmarks.report import machine, write_json
from nets.registry import create_net
from training.batches import TrainingSet
from training.engine import train_epochs
from training.normalisation import normalisation
from training.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "equivalence.json"
BATCH_SIZE = 128
LAST = 10  # epochs over which the test error is averaged besides the last one


def schedule(epochs: int) -> dict:
    """The recipe of the paper with its milestones at the same fractions of the training."""
    milestones = [round(epochs * part) for part in (0.4, 0.6, 0.8)]
    return {"epochs": epochs, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "milestones": milestones}


def fast_epochs(splits: Splits, epochs: int, seed: int) -> Iterator[tuple[float, float]]:
    """Loss and test error in percent of each epoch of the engine."""
    (images, labels), (test_images, test_labels) = splits["train"], splits["test"]
    torch.manual_seed(seed)
    net = create_net("resnet20").to(memory_format=torch.channels_last)
    data = TrainingSet.place(images, labels, *normalisation("cifar10", images), torch.device("cpu"))
    settings = schedule(epochs)
    settings["milestones"] = tuple(settings["milestones"])
    recipe = Recipe(batch_size=BATCH_SIZE, flip=True, seed=seed, **settings)
    for row, _ in train_epochs(net, data, test_images, test_labels, recipe):
        yield row["train_loss"], row["test_error"]


def textbook_epochs(splits: Splits, epochs: int, seed: int) -> Iterator[tuple[float, float]]:
    """Loss and test error in percent of each epoch of the textbook loop."""
    (images, labels), (test_images, test_labels) = splits["train"], splits["test"]
    torch.manual_seed(seed)
    net = create_net("resnet20")
    mean, std = normalisation("cifar10", images)
    options = {"mean": mean, "std": std, "batch_size": BATCH_SIZE}
    augment = textbook.augmentation(*images.shape[1:3], flip=True)
    batches = textbook.loader(images, labels, augment=augment, shuffle=True, **options)
    test = textbook.loader(test_images, test_labels, **options)
    for loss in textbook.train(net, batches, **schedule(epochs)):
        yield loss, 100 * float((textbook.evaluate(net, test) != test_labels).mean())


WAYS = {"fast": fast_epochs, "textbook": textbook_epochs}


def summary(rows: list[dict]) -> dict[str, dict]:
    """Mean and standard deviation over seeds of each figure for each way, and the difference seed by seed."""
    found: dict[str, dict] = {}
    for figure in ("test_error", f"test_error_last_{LAST}", "train_loss"):
        values = {way: {row["seed"]: row[figure] for row in rows if row["way"] == way} for way in WAYS}
        values["difference"] = {
            seed: values["fast"][seed] - values["textbook"][seed]
            for seed in values["fast"].keys() & values["textbook"].keys()
        }
        found[figure] = {
            way: {
                "runs": len(own),
                "mean": round(float(np.mean(list(own.values()))), 4),
                "std": round(float(np.std(list(own.values()), ddof=1)), 4) if len(own) > 1 else None,
            }
            for way, own in values.items()
            if own
        }
    return found


@click.command(help=__doc__.split("\n\n")[0])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--epochs", default=60, show_default=True, type=click.IntRange(1))
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Seeds 0, 1, ...")
@click.option(
    "--output",
    default=RESULTS,
    show_default="benchmarks/results/equivalence.json",
    type=click.Path(dir_okay=False, path_type=Path),
)
def main(folder: Path, epochs: int, seeds: int, output: Path) -> None:
    try:
        splits = read_cifar_batches(folder)
    except ArchiveError as error:
        raise click.ClickException(str(error)) from None
    sizes = {split: len(images) for split, (images, _) in splits.items()}
    setting = {"net": "resnet20", "images": sizes, "batch_size": BATCH_SIZE, **schedule(epochs)}
    here = machine(numpy=np.__version__, torch=torch.__version__, threads=torch.get_num_threads())
    rows = []
    if output.exists():
        earlier = json.loads(output.read_text(encoding="utf-8"))
        if earlier["setting"] != setting:
            raise click.UsageError(
                f"{output} holds runs of another setting, {earlier['setting']}; choose another --output"
            )
        rows = earlier["runs"]
    for seed in range(seeds):
        for way, train in WAYS.items():
            if any(row["way"] == way and row["seed"] == seed for row in rows):
                continue
            bar = tqdm(train(splits, epochs, seed), total=epochs, desc=f"{way} {seed}", unit="epoch")
            losses, errors = zip(*bar, strict=True)
            rows.append(
                {
                    "way": way,
                    "seed": seed,
                    "train_loss": round(losses[-1], 5),
                    "test_error": round(errors[-1], 3),
                    f"test_error_last_{LAST}": round(float(np.mean(errors[-LAST:])), 3),
                    "machine": here,
                }
            )
            write_json(output, setting=setting, runs=rows, summary=summary(rows))
    for figure, ways in summary(rows).items():
        for way, found in ways.items():
            spread = "" if found["std"] is None else f" ± {found['std']:.3f}"
            click.echo(f"{figure:20} {way:10} {found['mean']:8.3f}{spread}  ({found['runs']} runs)")


if __name__ == "__main__":
    main()
