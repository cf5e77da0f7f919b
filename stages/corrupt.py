"""Stage `corrupt`: the C and P sets of `data.name`, the published ones or made from its test images, and pictures."""

import hashlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import numpy as np
from PIL import Image

from robustness.generate import generate_corruptions, generate_perturbations
from robustness.names import CORRUPTIONS, FRAMES
from robustness.pictures import animation, corruption_sheet, film_strip
from stages import tracking
from stages.datasets import DATASETS, Split, load_split
from stages.params import Data, load_params
from stages.published import bring
from stages.tables import write_bytes


@click.command()
def main() -> None:
    """Write datasets/<data.name>/c, datasets/<data.name>/p and pictures of them in metrics/<data.name>."""
    data = load_params().data
    folder = DATASETS / data.name
    test = load_split(data.name, "test")
    if data.corrupted == "download":
        some = data.corruptions != "all", data.perturbations != "all"
        bring(data.name, "c", folder / "c", data.archives, data.corruption_names(), ranges=some[0])
        bring(data.name, "p", folder / "p", data.archives, data.perturbation_names(), ranges=some[1])
    else:
        generate(data, test, folder)
    draw(folder, test.images, Path("metrics") / data.name)


def generate(data: Data, test: Split, folder: Path) -> None:
    """Make the C and P sets of the test images.

    Raises:
        click.ClickException: images that the corruptions do not take, too little space.
    """
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
        move(work / part, folder / part)
    shutil.rmtree(work)


def draw(folder: Path, images: np.ndarray, pictures: Path) -> None:
    """Show what the sets hold, on the first test image: all corruptions, and all perturbations still and moving."""
    severities = {name: stack[:: len(images)] for name, stack in arrays(folder / "c", CORRUPTIONS)}
    sequences = {name: stack[0] for name, stack in arrays(folder / "p", FRAMES)}
    write_bytes(pictures / "corruptions.png", png(corruption_sheet(severities, images[0])))
    write_bytes(pictures / "perturbations.png", png(film_strip(sequences)))
    write_bytes(pictures / "perturbations.gif", animation(sequences))


def arrays(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Those of the named arrays that are in the folder, memory-mapped."""
    for name in names:
        if (folder / f"{name}.npy").exists():
            yield name, np.load(folder / f"{name}.npy", mmap_mode="r")


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def move(source: Path, target: Path) -> None:
    """Put a folder in the place of another."""
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


if __name__ == "__main__":
    main()
