"""The nets of the paper's authors, the images they are run on, and what was released of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import click
import numpy as np
import pandas as pd
import torch
from torch import nn

from archives.formats import ArchiveError, read_cifar_batches
from common_corruptions.evaluation import predict
from common_corruptions.evaluation.folding import fold_norms
from nets.official import load_official
from stages.files.measurements import registry_name
from training.normalisation import normalisation

PUBLISHED = Path(__file__).parents[1] / "data" / "published"


def folders(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that say where images and nets are."""
    folder = click.Path(exists=True, file_okay=False, path_type=Path)
    data = click.option("--data", required=True, type=folder, help="Folder with CIFAR-10's batches.")
    checkpoints = click.option(
        "--checkpoints", required=True, type=folder, help="Folder of the authors' <net>/checkpoint.pth.tar."
    )
    return data(checkpoints(command))


def read_test_images(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images of the CIFAR-10 test set in a folder, uint8 (N, 32, 32, 3), and their labels.

    Raises:
        click.ClickException: they are not in the folder, or are damaged.
    """
    try:
        return read_cifar_batches(data)["test"]
    except ArchiveError as error:
        raise click.ClickException(str(error)) from None


def load_nets(checkpoints: Path, nets: Sequence[str]) -> dict[str, nn.Module]:
    """The authors' nets by the names of their folders, as they are evaluated fastest: up to rounding what they were.

    Raises:
        click.ClickException: one is not there.
    """
    found = {path.parent.name: path for path in sorted(checkpoints.glob("*/checkpoint.pth.tar"))}
    if missing := [net for net in nets if net not in found]:
        raise click.ClickException(
            f"no checkpoint of {', '.join(missing)} in {checkpoints}; there are {', '.join(found) or 'none'}"
        )
    return {net: fold_norms(load_official(found[net])).to(memory_format=torch.channels_last) for net in nets}


def classes_of(net: nn.Module, images: np.ndarray) -> np.ndarray:
    """What one of the authors' nets takes each image for, (N,)."""
    mean, std = normalisation("cifar10", images)
    return predict(net, images, mean=mean, std=std).argmax(axis=1)


def read_released(kind: Literal["c", "p"], nets: Sequence[str]) -> pd.DataFrame:
    """The figures released for CIFAR-10-C or -P, of these nets, under the names of their folders."""
    table = pd.read_csv(PUBLISHED / f"released-{kind}.csv")
    names = {registry_name(net): net for net in nets}
    return table.assign(net=table["net"].map(names)).dropna(subset="net")
