"""`python -m nets`: table of the nets with their size, cost and the positions of push-pull layers."""

import copy

import click
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nets.families import families
from nets.registry import block1_layers, create_net, get_entry, list_nets
from pushpull import PushPull2d

COLUMNS = ("net", "family", "image", "parameters", "multiply-adds", "with first", "first", "block1", "all")


def count_parameters(net: nn.Module) -> int:
    """Number of values in all parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_multiply_adds(net: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-adds for one image (channels, height, width) in the convolutions and linear layers of a net.

    A push-pull layer costs its two convolutions and the upsampling of its kernels. The net may be on the meta device.
    """
    image = torch.empty(1, *image_shape, device=next(net.parameters()).device)
    evaluated = copy.deepcopy(net).eval()  # leaves the training mode of the net's modules unchanged
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        evaluated(image)
    return counter.get_total_flops() // 2


def push_pull_layers(net: nn.Module) -> list[str]:
    """Names of the push-pull layers in a net."""
    return [name for name, module in net.named_modules() if isinstance(module, PushPull2d)]


def describe(name: str) -> tuple[str, ...]:
    """One row of the table, as text."""
    entry = get_entry(name)
    with torch.device("meta"):  # only shapes are needed
        plain = create_net(name, in_channels=entry.image_shape[0])
        push_pull, everywhere = (
            create_net(name, in_channels=entry.image_shape[0], pushpull=layers) for layers in ("first", "all")
        )
    places = [push_pull_layers(push_pull)[0], "-", f"{len(push_pull_layers(everywhere))} layers"]
    if entry.block1:
        layers = block1_layers(plain, entry.block1)
        places[1] = f"{layers[0]} + {len(layers) - 1} in {entry.block1}"
    channels, height, width = entry.image_shape
    return (
        name,
        families()[name],
        f"{height} x {width} x {channels}",
        f"{count_parameters(plain):,}",
        *(f"{count_multiply_adds(net, entry.image_shape) / 1e6:,.1f} M" for net in (plain, push_pull)),
        *places,
    )


def table(rows: list[tuple[str, ...]]) -> str:
    """Format rows as a Markdown table with aligned columns."""
    rows = [COLUMNS, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    numeric = range(3, 6)
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if column in numeric else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(f"| {' | '.join(cells)} |")
    rule = (
        f"{'-' * (width + 1)}:" if column in numeric else "-" * (width + 2)
        for column, width in enumerate(widths)
    )
    lines.insert(1, f"|{'|'.join(rule)}|")
    return "\n".join(lines)


@click.command()
def main() -> None:
    """Print the nets: parameters, multiply-adds at the native image size, and what pushpull="first", "block1", "all"
    turn into push-pull layers ("with first" is the cost with a push-pull first layer)."""
    click.echo(table([describe(name) for name in list_nets()]))


if __name__ == "__main__":
    main(prog_name="python -m nets")
