"""Checkpoints of unfinished trainings: where they are kept, and when a training resumes from one."""

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
    """Folder of the unfinished training of a net; its name is a digest of everything that determines the weights.

    That is: the parameters, the name of the data set (mirroring and normalisation depend on it), the code that dvc.yaml
    lists, the images and the version of torch. The hardware is recorded in the checkpoints themselves.
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
    """Load a checkpoint; None if there is no file, or if it is damaged, which is reported in one line."""
    try:
        return read_checkpoint(file)
    except FileNotFoundError:
        return None
    except ValueError as error:
        click.echo(f"{file}: {error}; the training starts over")
        return None


def usable_checkpoint(file: Path, hardware: str, epochs: int) -> dict | None:
    """The checkpoint to resume from; None if there is none, or if it is unfinished and from other hardware.

    Args:
        file: file of the checkpoint.
        hardware: hardware of this process, as `training.device.describe` names it.
        epochs: number of epochs of the whole training.
    """
    saved = load_checkpoint(file)
    if saved and not same_hardware(saved, hardware, epochs):
        click.echo(f"a training begun on {saved['device']} cannot resume on {hardware}; it starts over")
        return None
    return saved


def save_checkpoint(path: Path, content: dict) -> None:
    """Replace the checkpoint by a newer one; a kill or a full disk at any moment leaves one of the two intact."""
    write_bytes(path, pack(content))
