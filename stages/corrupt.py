"""Stage `corrupt`: the C and P sets of `data.name`, made from its test images, in the published form."""

import hashlib
import os
import shutil
from pathlib import Path

import click

from robustness.generate import generate_corruptions, generate_perturbations
from stages import tracking
from stages.datasets import DATASETS, load_split
from stages.params import load_params


@click.command()
def main() -> None:
    """Write datasets/<data.name>/c and datasets/<data.name>/p."""
    data = load_params().data
    test = load_split(data.name, "test")
    count = len(test.images) if data.perturbed_images is None else data.perturbed_images
    # DVC empties the outputs of a stage before it runs, so files that are to survive a stop are made elsewhere.
    state = hashlib.sha256(data.model_dump_json().encode()).hexdigest()[:16]
    work = tracking.scratch() / f"corrupt-{data.name}-{state}"
    try:
        generate_corruptions(
            test.images, test.labels, work / "c", corruptions=data.corruption_names(), seed=data.seed
        )
        generate_perturbations(
            test.images[:count],
            test.labels[:count],
            work / "p",
            perturbations=data.perturbation_names(),
            seed=data.seed,
        )
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    for part in ("c", "p"):
        move(work / part, DATASETS / data.name / part)
    shutil.rmtree(work)


def move(source: Path, target: Path) -> None:
    """Put a folder in the place of another."""
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


if __name__ == "__main__":
    main()
