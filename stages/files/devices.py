"""The device that params.yaml names, or a one-line error if it is not available."""

import click
import torch

from stages.files.schema import Params
from training.device import choose_device


def evaluation_device(params: Params) -> torch.device:
    """The device that `evaluate.device` names.

    Raises:
        click.ClickException: `cuda` is named but not available.
    """
    try:
        return choose_device(params.evaluate.device)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
