"""`python -m common_corruptions`: C and P sets of any images, as `.npy` files, and what a net makes of them."""

import functools
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from common_corruptions.generate import generate_corruptions, generate_perturbations
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
    help="Import it first: a module that declares corruptions of your own.",
)
def main(module: str | None) -> None:
    """Make the corrupted (-C) or perturbed (-P) version of any images, as they were published; measure nets.

    IN.npy holds uint8 images of shape (N, H, W, C): 16 to 1024 pixels a side (256 for perturb), C 3 (RGB) or 1. A run
    that was stopped goes on where it was when it is started again.

    \b
    python -m common_corruptions corrupt test_images.npy out/c --labels test_labels.npy
    python -m common_corruptions perturb test_images.npy out/p --only gaussian_noise,rotate --seed 1
    python -m common_corruptions --import my_corruptions corrupt test_images.npy out/c --only posterize
    python -m common_corruptions benchmark CIFAR-10-C --net my_nets:resnet20 --baseline alexnet-cifar10
    """
    if module is not None:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise click.ClickException(f"--import {module}: {error}") from None


def _writing_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one per core]"),
        click.option("--labels", type=EXISTING_FILE, help="Integers (N,), to be written beside the images."),
        click.option("--seed", type=int, default=0, show_default=True, help="Decides all that is drawn."),
        click.option("--only", metavar="NAME,NAME", help="Make these alone; `list` shows the names."),
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
    help="Constants of CIFAR-10-C or of ImageNet-C.  [default: cifar up to 64 pixels a side, else imagenet]",
)
def corrupt(images: Path, folder: Path, only: str | None, **options: Any) -> None:
    """Write each corruption at severities 1 to 5 to OUT_DIR.

    OUT_DIR/<corruption>.npy is uint8 (5 N, H, W, C), the severities one after the other, and labels.npy the
    labels five times.

    \b
    python -m common_corruptions corrupt test_images.npy out/c --labels test_labels.npy
    """
    names = _chosen(only, CORRUPTIONS)
    _write(functools.partial(generate_corruptions, corruptions=names), images, folder, len(names), **options)


@main.command()
@_writing_options
def perturb(images: Path, folder: Path, only: str | None, **options: Any) -> None:
    """Write a sequence of frames for each image and perturbation to OUT_DIR.

    OUT_DIR/<perturbation>.npy is uint8 (N, T, H, W, C); T is 31, but 21 for motion_blur and 16 for translate.
    The stronger noises (gaussian_noise_2, ...) are made only when they are named.

    \b
    python -m common_corruptions perturb test_images.npy out/p --only gaussian_noise,rotate --seed 1
    """
    names = _chosen(only, PERTURBATIONS)
    _write(
        functools.partial(generate_perturbations, perturbations=names),
        images,
        folder,
        len(names),
        **options,
    )


class _Numbers(click.ParamType):
    name = "numbers"

    def convert(self, value, param, ctx):
        try:
            return value if isinstance(value, list) else [float(number) for number in value.split(",")]
        except ValueError:
            self.fail(f"{value!r} is not one number for each channel, with commas between them", param, ctx)


@main.command("benchmark")
@click.argument("folder", metavar="FOLDER", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--net", "name", required=True, metavar="NET", help="See above.")
@click.option("--only", metavar="NAME,NAME", help="Measure these alone; `list` shows the names.")
@click.option(
    "--baseline", metavar="NAME|FILE.csv", help="alexnet-cifar10, or a table: name, error (percent)."
)
@click.option("--logits", metavar="KEY", help="Which is the logits, where the net returns several things.")
@click.option("--mean", type=_Numbers(), metavar="R,G,B", help="Of values 0..1, with --std.  [default: none]")
@click.option("--std", type=_Numbers(), metavar="R,G,B")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images at a time.  [default: 64, GPU 1000]")
@click.option("--device", metavar="DEVICE", help="cpu, cuda, ...  [default: where the net is]")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the table there, as CSV."
)
def run_benchmark(
    folder: Path, name: str, only: str | None, logits: str | None, output: Path | None, **options: Any
) -> None:
    """Measure a net on the sets in FOLDER: errors by corruption, flips by perturbation, and their means.

    FOLDER is CIFAR-10-C or CIFAR-10-P as published, or what `corrupt` and `perturb` wrote: one of their folders, or the
    one with c/ and p/, and clean/ with test_images.npy and test_labels.npy if there are clean images.

    \b
    NET is module:function, which is called without arguments and returns the net,
           file.onnx, or
           torchvision:model, with its default weights.
    It takes floats 0..1, normalised by --mean and --std, (N, C, H, W), and returns logits.

    \b
    python -m common_corruptions benchmark CIFAR-10-C --net my_nets:resnet20 --baseline alexnet-cifar10
    """
    try:  # here alone, so that the other commands do without torch
        from common_corruptions.benchmark_text import as_text, write_table
        from common_corruptions.benchmarking import benchmark
        from common_corruptions.folders import split_names
        from common_corruptions.named_nets import load_net
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"benchmark needs {error.name}, which is not installed: pip install 'pushpull-robustness[benchmark]'"
        ) from None

    key = int(logits) if logits is not None and logits.lstrip("-").isdecimal() else logits
    try:
        if output is not None and not output.absolute().parent.is_dir():
            raise FileNotFoundError(f"--output: there is no folder {output.parent}")
        corruptions, perturbations = (
            split_names(folder, _chosen(only, ())) if only is not None else (None, None)
        )
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: click.echo(f"warning: {message}", err=True)
            table, summary = benchmark(
                load_net(name),
                folder,
                corruptions=corruptions,
                perturbations=perturbations,
                logits=key,
                **options,
            )
        if output is not None:
            write_table(table, output)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(as_text(table, summary))


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


def _chosen(only: str | None, default: tuple[str, ...]) -> list[str]:
    if only is None:
        return list(default)
    names = [name.strip() for name in only.split(",")]
    if not all(names):
        raise click.UsageError("--only takes names with commas between them, such as fog,snow")
    return list(dict.fromkeys(names))


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
