"""`python -m common_corruptions benchmark`: measure a net on the sets in a folder, or on sets made from its images."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from common_corruptions.allocator import keep_freed_memory
from common_corruptions.needs import what_to_install
from common_corruptions.raising import raised_by_net
from common_corruptions.recipes.scales import SCALES


def chosen(only: str) -> list[str]:
    """The names in the comma-separated --only, without duplicates."""
    names = [name.strip() for name in only.split(",")]
    if not all(names):
        raise click.UsageError("--only takes comma-separated names, such as fog,snow")
    return list(dict.fromkeys(names))


def _numbers(
    kind: type[float] | type[int], meaning: str
) -> Callable[[Any, Any, str | None], list[float] | None]:
    """A callback that parses comma-separated numbers."""

    def read(ctx: Any, param: Any, text: str | None) -> list[float] | None:
        try:
            return None if text is None else [kind(one) for one in text.split(",")]
        except ValueError:
            raise click.BadParameter(f"{text!r} is not {meaning}, separated by commas") from None

    return read


VALUES = _numbers(float, "one number for each channel")
SEVERITIES = _numbers(int, "severities from 1 to 5")
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("benchmark")
@click.argument("folder", metavar="FOLDER", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--net", "spec", required=True, metavar="NET", help="See above.")
@click.option("--only", metavar="NAME,NAME", help="Measure only these; `list` prints the names.")
@click.option(
    "--severities", callback=SEVERITIES, metavar="N,N", help="Corruption severities.  [default: 1,2,3,4,5]"
)
@click.option("--perturb", is_flag=True, help="Also make and measure perturbations of clean images.")
@click.option("--seed", type=int, help="Seed for sets made from clean images.  [default: 0]")
@click.option(
    "--scale",
    type=click.Choice(SCALES),
    help="Constants for corrupting clean images.  [default: cifar up to 64 pixels a side, else imagenet]",
)
@click.option(
    "--baseline",
    metavar="NAME|FILE.csv",
    help="alexnet-cifar10, alexnet-imagenet, or a table with the columns name and error (percent).",
)
@click.option("--logits", metavar="KEY", help="Key, index or attribute of the logits in the net's output.")
@click.option("--mean", callback=VALUES, metavar="R,G,B", help="For values 0..1 with --std.  [default: none]")
@click.option("--std", callback=VALUES, metavar="R,G,B")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images per batch.  [default: 64, GPU 1000]")
@click.option("--device", metavar="DEVICE", help="cpu, cuda, ...  [default: the net's device]")
@click.option("--output", type=FILE, help="Write the table to this CSV file.")
@click.option(
    "--answers",
    type=FOLDER,
    help="Keep the prediction for every image in this folder.  [default with --output t.csv: t.answers/]",
)
@click.option("--name", help="Name of a net that is a function: see above.")
def run_benchmark(
    folder: Path,
    spec: str,
    only: str | None,
    perturb: bool,
    logits: str | None,
    output: Path | None,
    answers: Path | None,
    name: str | None,
    **options: Any,
) -> None:
    """Measure a net on the sets in FOLDER: errors by corruption, flips by perturbation, and their means.

    \b
    FOLDER is CIFAR-10-C or CIFAR-10-P as published;
              an output folder of `corrupt` or `perturb`, or a folder that has these as c/ and p/ and may have
              test_images.npy and test_labels.npy in clean/;
              ImageNet-C as published, <corruption>/<severity>/<class>/<image>, or with noise/, blur/, ... around
              the corruptions, which may have clean images in clean/<class>; or
              clean images in <class>/<image>, which are corrupted while they are measured.

    \b
    NET is module:net,
           module:function, which is called without arguments and returns the net,
           file.onnx, or
           torchvision:model, with its default weights.
    It takes floats 0..1, normalised by --mean and --std, (N, C, H, W), and returns logits.

    With --output or --answers, a run that was stopped resumes when it is started again: predictions of the same net for
    the same images are reused. A net that is neither a torch Module nor an ONNX file needs a --name for this, and a new
    name whenever it changes.

    \b
    python -m common_corruptions benchmark CIFAR-10-C --net my_nets:resnet20 --baseline alexnet-cifar10
    python -m common_corruptions benchmark ImageNet-C --net torchvision:resnet50 --baseline alexnet-imagenet \\
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --output resnet50.csv
    """
    try:  # imported here, so that the other commands work without torch
        from common_corruptions.benchmarking.benchmark import benchmark
        from common_corruptions.benchmarking.named_nets import digest_of_file, load_net
        from common_corruptions.benchmarking.text import as_text, write_table
        from common_corruptions.replacing import check_writable
        from common_corruptions.sets.any_data import split_names
    except ModuleNotFoundError as error:
        raise click.ClickException(what_to_install("benchmark", "benchmark", error)) from None

    keep_freed_memory()
    key = int(logits) if logits is not None and logits.lstrip("-").isdecimal() else logits
    try:
        if output is not None and not output.absolute().parent.is_dir():
            raise FileNotFoundError(f"--output: there is no folder {output.parent}")
        if output is not None:
            check_writable(output.absolute().parent)
        if output is not None and answers is None:
            answers = output.with_suffix(".answers")
        corruptions, perturbations = split_names(folder, None if only is None else chosen(only), perturb)
        net = load_net(spec)
        if name is None and spec.endswith(".onnx"):
            name = digest_of_file(Path(spec))
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: click.echo(f"warning: {message}", err=True)
            table, summary = benchmark(
                net,
                folder,
                corruptions=corruptions,
                perturbations=perturbations,
                answers=answers,
                name=name,
                logits=key,
                **options,
            )
        if output is not None:
            write_table(table, output)
    except Exception as error:
        if of_net := raised_by_net(error):
            raise click.ClickException(of_net) from None
        if isinstance(error, TypeError | ValueError | OSError | RuntimeError):
            raise click.ClickException(str(error)) from None
        raise
    except KeyboardInterrupt:
        again = "starts over" if answers is None else f"resumes with the answers in {answers}"
        click.echo(f"Stopped; the same command {again}.", err=True)
        sys.exit(130)
    click.echo(as_text(table, summary))
