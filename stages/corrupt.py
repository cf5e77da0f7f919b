"""Stage `corrupt`: fetch or generate the C and P sets of `data.name`, and draw pictures of them."""

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from PIL import Image

from archives.bring import bring
from archives.catalogue import Archive
from archives.form import put_in_place
from archives.formats import ArchiveError
from common_corruptions.generate import generate_corruptions, generate_perturbations
from common_corruptions.generate.pictures import animation, corruption_sheet, film_strip
from common_corruptions.npy import load_array
from common_corruptions.recipes.names import CORRUPTIONS, FRAMES, PERTURBATIONS, SEVERITIES
from stages.files import workspace
from stages.files.datasets import DATASETS, Split, load_split
from stages.files.interruption import stopping
from stages.files.params import load_params
from stages.files.published import published
from stages.files.schema import Data
from stages.files.writing import write_bytes

log = logging.getLogger(__name__)

PARTS = ("c", "p")


@click.command()
@stopping("resumes after the last complete file")
def main() -> None:
    """Write datasets/<data.name>/c, datasets/<data.name>/p and pictures of them in metrics/<data.name>."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data = load_params().data
    folder = DATASETS / data.name
    test = load_split(data.name, "test")
    sources = {part: published(data, part) for part in PARTS}
    # DVC empties the outputs of a stage before it runs; files that must survive an interruption are made elsewhere.
    work = workspace.scratch() / f"corrupt-{data.name}-{fingerprint(data, sources)}"
    with workspace.lock(work.name):
        try:
            for part, archives in sources.items():
                if archives:
                    take(data, part, archives, test, work / part)
                else:
                    generate(data, part, test, work / part)
            for part in PARTS:
                put_in_place(work / part, folder / part)
            shutil.rmtree(work)
        except (ValueError, OSError) as error:
            raise click.ClickException(str(error)) from None
    draw(folder, data.corruption_names(), test.images, Path("metrics") / data.name)


def fingerprint(data: Data, sources: dict[str, list[Archive]]) -> str:
    """Digest of what determines the sets, except the test images, which `take` and `generate` check themselves."""
    archives = [archive.model_dump(mode="json") for found in sources.values() for archive in found]
    return hashlib.sha256(json.dumps([data.decisive(), archives]).encode()).hexdigest()[:16]


def take(data: Data, part: str, archives: Sequence[Archive], test: Split, out: Path) -> None:
    """Fetch a published set to the new folder `out`, unless an earlier run did, and generate the added corruptions.

    Raises:
        ArchiveError: as `bring`; also if the set was not made from these test images.
    """
    names = data.averaged_corruptions() if part == "c" else data.perturbation_names()
    count = len(test.labels) * (len(SEVERITIES) if part == "c" else 1)
    mismatch = ArchiveError(
        f"{' and '.join(archive.name for archive in archives)} was not made from the test images in "
        f"{DATASETS / data.name / 'clean'}. Set data.corrupted: generate to make the set from them, or data.path: null "
        f"to use the published test images."
    )
    if any(member.shape[0] != count for archive in archives for member in archive.choose(names)):
        raise mismatch  # before 3 or 18 GB are downloaded
    if not out.exists():
        placed = workspace.below_root(data.archives) if data.archives else None
        bring(
            archives,
            out,
            workspace.scratch(),
            placed,
            names,
            ranges=names not in (CORRUPTIONS, PERTURBATIONS),
        )
    if part == "c" and not np.array_equal(
        load_array(out / "labels.npy"), np.tile(test.labels, len(SEVERITIES))
    ):
        raise mismatch
    if part == "c" and (added := data.added_corruptions()):
        log.info("generating %s of %s/c from the test images", ", ".join(added), data.name)
        generate_corruptions(test.images, test.labels, out, corruptions=added, seed=data.seed)


def generate(data: Data, part: str, test: Split, out: Path) -> None:
    """Generate a set from the test images in `out`; files of an earlier run there are kept.

    Raises:
        ValueError: the corruptions cannot be applied to images of this kind.
        OSError: too little disk space.
    """
    log.info("generating %s/%s from the test images", data.name, part)
    if part == "c":
        count = data.corrupted_images
        generate_corruptions(
            test.images[:count],
            test.labels[:count],
            out,
            corruptions=data.corruption_names(),
            seed=data.seed,
        )
    else:
        count = data.perturbed_images
        generate_perturbations(
            test.images[:count],
            test.labels[:count],
            out,
            perturbations=data.perturbation_names(),
            seed=data.seed,
        )


def draw(folder: Path, corruptions: Iterable[str], images: np.ndarray, pictures: Path) -> None:
    """Draw the sets for the first test image: all corruptions, and all perturbations as film strip and animation."""
    severities = {
        name: stack[:: len(stack) // len(SEVERITIES)] for name, stack in arrays(folder / "c", corruptions)
    }
    sequences = {name: stack[0] for name, stack in arrays(folder / "p", FRAMES)}
    write_bytes(pictures / "corruptions.png", png(corruption_sheet(severities, images[0])))
    write_bytes(pictures / "perturbations.png", png(film_strip(sequences)))
    write_bytes(pictures / "perturbations.gif", animation(sequences))


def arrays(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and array, memory-mapped, for each of the names that has a file in the folder."""
    for name in names:
        if (folder / f"{name}.npy").exists():
            yield name, load_array(folder / f"{name}.npy")


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
