"""How fast the corruptions are at the scale of ImageNet-C, beside plain scripts that take one image at a time.

All run on one core, on the same photographs of 224 x 224 x 3 at all five severities, in turn; CPU time, of which the
shortest counts. Beside them stands, where a folder holds it, the package imagecorruptions:

    pip install --target FOLDER --no-deps imagecorruptions scikit-image lazy-loader networkx tifffile imageio
    python -m benchmarks.imagenet_scale --imagecorruptions FOLDER

It was last released in 2021; what it imports and NumPy, SciPy and scikit-image no longer have is put back for it.
The cost of a pixel is also compared with that of the same corruption of CIFAR-10-C at 32 x 32.
"""

import importlib
import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import PIL
import scipy
from sklearn.datasets import load_sample_images

from benchmarks.reference_corruptions import corrupt_one
from benchmarks.report import machine, write_json
from common_corruptions import CORRUPTIONS, corrupt
from common_corruptions.recipes.names import SEVERITIES

RESULTS = Path(__file__).parent / "results" / "imagenet_scale.json"


def photographs(side: int) -> np.ndarray:
    """Two crops, uint8 (2, side, side, 3)."""
    china, flower = load_sample_images().images
    crops = china[100:324, 40:264], flower[100:324, 200:424]
    return np.stack([cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA) for crop in crops])


def load_imagecorruptions(folder: Path) -> Callable[[np.ndarray, str, int], np.ndarray]:
    """`corrupt` of the package in a folder, as corrupt(image, name, severity)."""
    sys.path.append(str(folder))  # after what is installed
    setattr(np, "float_", np.float64)  # noqa: B010
    sys.modules["scipy.ndimage.interpolation"] = scipy.ndimage
    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda package, path: str(folder / package.split(".")[0] / path)  # type: ignore
    sys.modules.setdefault("pkg_resources", resources)
    package = importlib.import_module("imagecorruptions")
    module = importlib.import_module("imagecorruptions.corruptions")
    gaussian = module.gaussian

    def of_2021(
        image: np.ndarray, *sigma: float, multichannel: bool = False, **options: object
    ) -> np.ndarray:
        return gaussian(image, *sigma, channel_axis=-1 if multichannel else None, **options)

    module.gaussian = of_2021
    return lambda image, name, severity: package.corrupt(image, severity, name)


def cpu_ms(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3


def measure(
    name: str, batch: int, few: int, repeats: int, other: Callable[[np.ndarray, str, int], np.ndarray] | None
) -> dict[str, float]:
    """Milliseconds of CPU time for an image (mean over severities), and nanoseconds for a pixel at both sizes."""
    large, small = (
        np.resize(photographs(side), (count, side, side, 3)) for side, count in ((224, batch), (32, 640))
    )
    random = np.random.default_rng(0)
    for severity in SEVERITIES:  # tables are made once
        corrupt(large[:2], name, severity)
        corrupt(small[:2], name, severity)
    found: dict[str, list[float]] = {"ms": [], "at_32": [], "plain_ms": [], "imagecorruptions_ms": []}
    for _ in range(repeats):
        found["ms"].append(cpu_ms(lambda: [corrupt(large, name, s) for s in SEVERITIES]) / batch)
        found["at_32"].append(cpu_ms(lambda: [corrupt(small, name, s) for s in SEVERITIES]) / len(small))
        if other is not None:
            theirs = cpu_ms(lambda: [other(image, name, s) for s in SEVERITIES for image in large[:few]])
            found["imagecorruptions_ms"].append(theirs / few)
        found["plain_ms"].append(
            cpu_ms(lambda: [corrupt_one(large[0], name, s, random, "imagenet") for s in SEVERITIES])
        )
    best = {key: min(times) / len(SEVERITIES) for key, times in found.items() if times}
    at_32 = best.pop("at_32")
    best["pixel_ns"] = best["ms"] / 224**2 * 1e6
    best["pixel_ns_at_32"] = at_32 / 32**2 * 1e6
    return best


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--imagecorruptions", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--batch", default=64, show_default=True, type=click.IntRange(2), help="Images at a time.")
@click.option("--few", default=8, show_default=True, type=click.IntRange(1), help="Images for the package.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="The shortest counts.")
@click.option("--output", default=RESULTS, show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(folder: Path | None, batch: int, few: int, repeats: int, output: Path) -> None:
    cv2.setNumThreads(1)
    other = None if folder is None else load_imagecorruptions(folder)
    rows = {}
    for name in CORRUPTIONS:
        row = rows[name] = measure(name, batch, few, repeats, other)
        click.echo(f"{name:18} " + "  ".join(f"{key} {value:8.3f}" for key, value in row.items()))
    keys = [key for key in rows["fog"] if key.endswith("ms")]
    total = {key: sum(row[key] for row in rows.values()) for key in keys}
    rows["all"] = total
    for row in rows.values():
        for key in keys[1:]:
            row[key.replace("_ms", "_ratio")] = row[key] / row["ms"]
    click.echo("all                " + "  ".join(f"{key} {value:8.3f}" for key, value in total.items()))
    versions = machine(
        numpy=np.__version__,
        scipy=scipy.__version__,
        opencv=cv2.__version__,
        pillow=PIL.__version__,
        load=os.getloadavg()[0],
    )
    setting = {"batch": batch, "images_for_the_package": few, "repeats": repeats, "side": 224}
    rounded = {name: {key: round(value, 4) for key, value in row.items()} for name, row in rows.items()}
    write_json(output, machine=versions, setting=setting, corruptions=rounded)


if __name__ == "__main__":
    main()
