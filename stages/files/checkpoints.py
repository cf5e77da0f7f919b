"""Checkpoints of unfinished trainings: where they are kept, and when one is taken up."""

from pathlib import Path

import click
import torch

from nets.checkpoint import read_checkpoint
from nets.families import families
from stages.files import workspace
from stages.files.datasets import DATASETS
from stages.files.dependencies import digest
from stages.files.schema import Params
from stages.files.writing import write_bytes
from training.resumable import pack, same_hardware


def work_folder(params: Params, net: str) -> Path:
    """Where the unfinished training of a net is kept: named by everything in the repository that decides the weights.

    That is parameters, the name of the data set, on which mirroring and normalisation depend, the code that dvc.yaml
    names, images and the version of torch. Checkpoints note their hardware themselves.
    """
    chosen = params.nets[net]
    decides = {
        "data": params.data.name,
        "arch": chosen.arch,
        "options": params.options(net),
        "train": params.training(net).model_dump(exclude={"device"}),
        "torch": torch.__version__,
    }
    images = sorted((DATASETS / params.data.name / "clean").glob("*.npy"))
    name = digest(decides, "train", families()[chosen.arch], images)
    return workspace.scratch() / f"{net}-{name}"


def load_checkpoint(file: Path) -> dict | None:
    """The checkpoint in a file, or None where there is no file, or a damaged one, which a line names."""
    try:
        return read_checkpoint(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        click.echo(f"{file}: {error}; the training starts anew")
        return None


def usable_checkpoint(file: Path, hardware: str, epochs: int) -> dict | None:
    """The checkpoint to go on from, or None where there is none, or an unfinished one of other hardware.

    Args:
        file: of the checkpoint.
        hardware: of this process, as `training.device.describe` names it.
        epochs: of the whole training.
    """
    saved = load_checkpoint(file)
    if saved and not same_hardware(saved, hardware, epochs):
        click.echo(f"a training begun on {saved['device']} is not taken up on {hardware}: it starts anew")
        return None
    return saved


def save_checkpoint(path: Path, content: dict) -> None:
    """Replace the checkpoint by a newer one; a kill or a full disk at any moment leaves one of the two."""
    write_bytes(path, pack(content))
