"""The device that params.yaml names, or one line that says why there is none."""

import click
import torch

from stages.files.schema import Params
from training.device import choose_device


def evaluation_device(params: Params) -> torch.device:
    """The device that `evaluate.device` names.

    Raises:
        click.ClickException: cuda where there is none.
    """
    try:
        return choose_device(params.evaluate.device)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
