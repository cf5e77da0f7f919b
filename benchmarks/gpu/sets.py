"""The C and P sets of the test images, made on the CPU cores while the GPU is measured: started by the parent."""

import os
from pathlib import Path

import click
import numpy as np

from benchmarks.gpu.setting import Setting
from common_corruptions.generate import generate_corruptions, generate_perturbations
from common_corruptions.recipes.names import CORRUPTIONS, PERTURBATIONS

SPARED = 4  # cores for the process that launches on the GPU
SEQUENCES = 2  # of a dry run
FEW = {"corruptions": ("gaussian_noise", "fog"), "perturbations": ("brightness",)}


def names(setting: Setting) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The corruptions and the perturbations."""
    return (FEW["corruptions"], FEW["perturbations"]) if setting.dry_run else (CORRUPTIONS, PERTURBATIONS)


def made(setting: Setting) -> bool:
    """Whether all of them are there: each file appears when it is whole."""
    corruptions, perturbations = names(setting)
    files = [setting.images / "c" / f"{name}.npy" for name in corruptions]
    files += [setting.images / "p" / f"{name}.npy" for name in perturbations]
    return all(file.exists() for file in files)


@click.command()
@click.option("--data", type=click.Path(path_type=Path))
@click.option("--work", required=True, type=click.Path(path_type=Path))
@click.option("--seeds")
@click.option("--nets")
@click.option("--way")
@click.option("--limit", type=float)
@click.option("--dry-run", is_flag=True)
def main(data: Path, work: Path, seeds: str, nets: str, way: str | None, limit: float, dry_run: bool) -> None:
    """Make the sets that are not there."""
    os.nice(10)
    setting = Setting(data, work, dry_run=dry_run)
    clean = setting.images / "clean"
    images = np.load(clean / "test_images.npy", mmap_mode="r")
    labels = np.load(clean / "test_labels.npy")
    corruptions, perturbations = names(setting)
    workers = max(1, len(os.sched_getaffinity(0)) - SPARED)
    options = {"seed": 0, "workers": workers, "progress": False}
    generate_corruptions(images, labels, setting.images / "c", corruptions=corruptions, **options)
    if dry_run:
        images, labels = images[:SEQUENCES], labels[:SEQUENCES]
    generate_perturbations(images, labels, setting.images / "p", perturbations=perturbations, **options)


if __name__ == "__main__":
    main()
