"""Give a trained net a push-pull first layer, fine-tune it, and compare its errors on clean and corrupted images.

A ResNet-20 with plain convolutions is trained, or a net is read from a checkpoint. It is then fine-tuned twice from the
same weights for the same number of epochs: once unchanged, as a baseline, and once with its first layer converted. The
table shows the error in percent on the clean test images, and the mean error over the corruptions of
`common_corruptions` at the chosen severities.

    python -m examples.finetune /folder/with/cifar-10-batches-py
"""

import copy
from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from archives.formats import ArchiveError, read_cifar_batches
from common_corruptions import CORRUPTIONS, corrupt
from common_corruptions.evaluation import predict
from common_corruptions.metrics import classification_error
from nets import create_net, load_official
from pushpull import convert
from training.batches import TrainingSet
from training.engine import DivergedError, train_epochs
from training.normalisation import normalisation
from training.recipe import Recipe

Corrupted = dict[tuple[str, int], np.ndarray]


@click.command(help=__doc__.split("\n\n")[0])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--epochs", default=10, show_default=True, type=click.IntRange(1), help="Epochs of the first training."
)
@click.option("--tuning-epochs", default=5, show_default=True, type=click.IntRange(1))
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Start from this net in the authors' format (see nets.export_official) and skip the first training.",
)
@click.option("--alpha", default=1.0, show_default=True, type=click.FloatRange(0))
@click.option("--train-alpha", is_flag=True, help="Learn one alpha for each kernel, starting at --alpha.")
@click.option(
    "--severity", "severities", default=(3,), show_default=True, multiple=True, type=click.IntRange(1, 5)
)
@click.option("--seed", default=0, show_default=True)
def main(
    folder: Path,
    epochs: int,
    tuning_epochs: int,
    checkpoint: Path | None,
    alpha: float,
    train_alpha: bool,
    severities: tuple[int, ...],
    seed: int,
) -> None:
    try:
        splits = read_cifar_batches(folder)
    except ArchiveError as error:
        raise click.ClickException(str(error)) from None
    (images, labels), test = splits["train"], splits["test"]
    classes = int(labels.max()) + 1
    mean, std = normalisation("cifar10" if classes == 10 else "cifar100", images)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = TrainingSet.place(images, labels, mean, std, device)
    torch.manual_seed(seed)
    net = create_net("resnet20", num_classes=classes) if checkpoint is None else load(checkpoint, classes)
    net = net.to(device, memory_format=torch.channels_last)
    if checkpoint is None:
        train(net, data, test, epochs, 0.1, seed, "train")
    converted = convert(copy.deepcopy(net), layers="first", alpha=alpha, train_alpha=train_alpha)
    tuned, tuned_converted = copy.deepcopy(net), copy.deepcopy(converted)
    train(tuned, data, test, tuning_epochs, 0.01, seed, "fine-tune as it is")
    train(tuned_converted, data, test, tuning_epochs, 0.01, seed, "fine-tune converted")

    corrupted = corrupt_all(test[0], severities, seed)
    click.echo(
        f"{len(images)} training and {len(test[0])} test images; error in percent; "
        f"fine-tuned for {tuning_epochs} epochs"
    )
    click.echo(f"{'':38}{'clean':>8}{'corrupted':>12}")
    rows = {
        "convolution, as trained": net,
        "converted, not fine-tuned": converted,
        "convolution, fine-tuned": tuned,
        "converted, fine-tuned": tuned_converted,
    }
    for title, module in rows.items():
        clean, mean_corrupted = errors(module, test, corrupted, mean, std)
        click.echo(f"{title:38}{clean:8.2f}{mean_corrupted:12.2f}")


def train(
    net: nn.Module,
    data: TrainingSet,
    test: tuple[np.ndarray, np.ndarray],
    epochs: int,
    lr: float,
    seed: int,
    title: str,
) -> None:
    """Train in place with the paper's recipe; of three or more epochs, the last third has a tenth of the rate."""
    recipe = Recipe(
        epochs=epochs,
        batch_size=64,
        lr=lr,
        momentum=0.9,
        weight_decay=1e-4,
        milestones=(-(-2 * epochs // 3),),
        flip=True,
        seed=seed,
    )
    with tqdm(total=epochs * -(-len(data) // recipe.batch_size), desc=title, unit="batch") as bar:
        try:
            for row, _ in train_epochs(net, data, *test, recipe, on_batch=bar.update):
                bar.set_postfix_str(f"train error {row['train_error']:.1f} %")
        except DivergedError as error:
            raise click.ClickException(str(error)) from None


def load(path: Path, classes: int) -> nn.Module:
    """Load a checkpoint in the authors' format; it must have `classes` classes and a convertible first layer."""
    try:
        net = load_official(path)
        convert(copy.deepcopy(net), layers="first")
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path}: {error}") from None
    *_, classifier = (module for module in net.modules() if isinstance(module, nn.Linear))
    if classifier.out_features != classes:
        raise click.ClickException(
            f"{path}: the net has {classifier.out_features} classes, the images have {classes}"
        )
    return net


def corrupt_all(images: np.ndarray, severities: Iterable[int], seed: int) -> Corrupted:
    """Apply every corruption at every severity to the images."""
    cases = [(name, severity) for name in CORRUPTIONS for severity in severities]
    return {
        (name, severity): corrupt(images, name, severity, seed)
        for name, severity in tqdm(cases, desc="corrupt")
    }


def errors(
    net: nn.Module,
    test: tuple[np.ndarray, np.ndarray],
    corrupted: Corrupted,
    mean: list[float],
    std: list[float],
) -> tuple[float, float]:
    """Error in percent on the clean images, and the mean error over all corrupted images."""

    def error(images: np.ndarray) -> float:
        return classification_error(predict(net, images, mean=mean, std=std), test[1])

    return error(test[0]), float(np.mean([error(images) for images in corrupted.values()]))


if __name__ == "__main__":
    main()
