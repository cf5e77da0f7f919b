"""`python -m common_corruptions`: make C and P sets of any images as `.npy` files, and benchmark nets on them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from common_corruptions.benchmarking.command import chosen, run_benchmark
from common_corruptions.generate import generate_corruptions, generate_perturbations
from common_corruptions.importing import import_named
from common_corruptions.npy import load_array
from common_corruptions.recipes.names import (
    CORRUPTIONS,
    EXTRA_CORRUPTIONS,
    EXTRA_PERTURBATIONS,
    MAIN_PERTURBATIONS,
    NOISE_VARIANTS,
    PERTURBATIONS,
)
from common_corruptions.recipes.registry import added, grouped
from common_corruptions.recipes.scales import SCALES

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--import",
    "module",
    metavar="MODULE",
    help="Module that declares your own corruptions; it is imported first.",
)
def main(module: str | None) -> None:
    """Make corrupted (-C) or perturbed (-P) versions of any images, as published, and benchmark nets on them.

    IN.npy holds uint8 images of shape (N, H, W, C), with sides of 16 to 1024 pixels (256 for perturb) and C 3 (RGB) or
    1. A run that was stopped resumes when it is started again.

    \b
    python -m common_corruptions corrupt test_images.npy out/c --labels test_labels.npy
    python -m common_corruptions perturb test_images.npy out/p --only gaussian_noise,rotate --seed 1
    python -m common_corruptions --import my_corruptions corrupt test_images.npy out/c --only posterize
    python -m common_corruptions benchmark CIFAR-10-C --net my_nets:resnet20 --baseline alexnet-cifar10
    """
    if module is not None:
        try:
            import_named(module)
        except ValueError as error:
            raise click.ClickException(f"--import {error}") from None


def _writing_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--workers", type=click.IntRange(min=1), help="Process count.  [default: one per core]"),
        click.option("--labels", type=EXISTING_FILE, help="Class indices (N,), saved beside the images."),
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random draws."),
        click.option("--only", metavar="NAME,NAME", help="Make only these; `list` prints the names."),
        click.argument("folder", metavar="OUT_DIR", type=click.Path(file_okay=False, path_type=Path)),
        click.argument("images", metavar="IN.npy", type=EXISTING_FILE),
    ):
        command = option(command)
    return command


@main.command()
@_writing_options
@click.option(
    "--scale",
    type=click.Choice(SCALES),
    help="Use CIFAR-10-C's or ImageNet-C's constants.  [default: cifar up to 64 pixels a side, else imagenet]",
)
def corrupt(images: Path, folder: Path, only: str | None, **options: Any) -> None:
    """Write each corruption at severities 1 to 5 to OUT_DIR.

    OUT_DIR/<corruption>.npy is a uint8 array (5 N, H, W, C) with the severities in order. labels.npy repeats the labels
    five times.

    \b
    python -m common_corruptions corrupt test_images.npy out/c --labels test_labels.npy
    """
    names = list(CORRUPTIONS) if only is None else chosen(only)
    _write(functools.partial(generate_corruptions, corruptions=names), images, folder, len(names), **options)


@main.command()
@_writing_options
def perturb(images: Path, folder: Path, only: str | None, **options: Any) -> None:
    """Write a sequence of frames for each image and perturbation to OUT_DIR.

    OUT_DIR/<perturbation>.npy is a uint8 array (N, T, H, W, C); T is 31, except 21 for motion_blur and 16 for
    translate. The stronger noise variants (gaussian_noise_2, ...) are made only if they are named.

    \b
    python -m common_corruptions perturb test_images.npy out/p --only gaussian_noise,rotate --seed 1
    """
    names = list(PERTURBATIONS) if only is None else chosen(only)
    _write(
        functools.partial(generate_perturbations, perturbations=names),
        images,
        folder,
        len(names),
        **options,
    )


main.add_command(run_benchmark)


@main.command("list")
def list_names() -> None:
    """Print the names of all corruptions and perturbations by group."""
    own = added()
    note = ", + not the benchmark's" if own else ""
    click.echo(f"Corruptions (* not among the main 15{note})")
    for group, names in grouped().items():
        marked = (
            f"{name}{'*' if name in EXTRA_CORRUPTIONS else '+' if name in own else ''}" for name in names
        )
        click.echo(f"  {group:8} {' '.join(marked)}")
    click.echo("Perturbations")
    click.echo(f"  {'main':8} {' '.join(MAIN_PERTURBATIONS)}")
    click.echo(f"  {'extra':8} {' '.join(EXTRA_PERTURBATIONS)}")
    click.echo(f"  {'variants':8} {' '.join(NOISE_VARIANTS)}")


def _write(
    generate: Callable[..., list[str]],
    images: Path,
    folder: Path,
    count: int,
    labels: Path | None,
    **options: Any,
) -> None:
    try:
        written = generate(
            load_array(images), None if labels is None else load_array(labels), folder, **options
        )
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    kept = count - len(written)
    click.echo(f"{len(written)} files written to {folder}" + (f", {kept} kept" if kept else ""))


if __name__ == "__main__":
    main(prog_name="python -m common_corruptions")
