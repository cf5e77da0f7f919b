"""How fast the corruptions are beside those of torch-uncertainty, at the scale of ImageNet-C.

Both run on one core, on the same photographs of 224 x 224 x 3 at all five severities, in turn; CPU time, of which the
shortest counts. torch-uncertainty gets floats from 0 to 1, a batch where its corruption takes one. Its brightness,
contrast and saturation are other formulas than ImageNet-C's, and its frost is left out: the photographs that it needs
are in a package of their own.

    pip install --target FOLDER --no-deps torch-uncertainty kornia kornia-rs einops lightning lightning-utilities \\
        torchmetrics pytorch-lightning glest timm huggingface_hub httpx2 httpcore2 truststore
    python -m benchmarks.torch_uncertainty FOLDER
"""

import importlib
import os
import sys
from importlib.metadata import distributions
from pathlib import Path

import click
import cv2
import numpy as np
import torch

from benchmarks.imagenet_scale import cpu_ms, photographs
from benchmarks.report import machine, write_json
from common_corruptions import CORRUPTIONS, corrupt
from common_corruptions.recipes.names import SEVERITIES

RESULTS = Path(__file__).parent / "results" / "torch_uncertainty.json"
# Its classes by our names, where the one is not the other in capitals.
CLASSES = {"elastic_transform": "Elastic", "jpeg_compression": "JPEGCompression", "saturate": "Saturation"}
LEFT_OUT = ("frost", "spatter")  # photographs that are elsewhere; it has none


def measure(module, name: str, batch: int, repeats: int) -> dict[str, float]:
    """Milliseconds of CPU time for an image, mean over severities, here and there."""
    images = np.resize(photographs(224), (batch, 224, 224, 3))
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    made = getattr(module, CLASSES.get(name) or name.title().replace("_", ""))
    theirs = [made(severity) for severity in SEVERITIES]

    def here() -> None:
        for severity in SEVERITIES:
            corrupt(images, name, severity, scale="imagenet")

    def there() -> None:
        for one in theirs:
            if getattr(one, "batchable", False):
                one(tensors)
            else:
                for tensor in tensors:
                    one(tensor)

    for work in (here, there):  # tables are made once
        work()
    found = [(cpu_ms(here), cpu_ms(there)) for _ in range(repeats)]
    ours, other = (min(times) / len(SEVERITIES) / batch for times in zip(*found, strict=True))
    return {"ms": ours, "torch_uncertainty_ms": other, "ratio": other / ours}


@click.command(help=__doc__.split("\n\n")[0])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--batch", default=8, show_default=True, type=click.IntRange(1), help="Images at a time.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="The shortest counts.")
@click.option("--output", default=RESULTS, show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(folder: Path, batch: int, repeats: int, output: Path) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    sys.path.append(str(folder))  # after what is installed
    module = importlib.import_module("torch_uncertainty.transforms.corruption")
    rows = {}
    for name in CORRUPTIONS:
        if name not in LEFT_OUT:
            row = rows[name] = measure(module, name, batch, repeats)
            click.echo(f"{name:18} " + "  ".join(f"{key} {value:8.3f}" for key, value in row.items()))
    ours, other = (sum(row[key] for row in rows.values()) for key in ("ms", "torch_uncertainty_ms"))
    rows["all"] = {"ms": ours, "torch_uncertainty_ms": other, "ratio": other / ours}
    click.echo(f"all: {ours:.1f} and {other:.1f} ms, {other / ours:.1f} times")
    versions = {one.metadata["Name"]: one.version for one in distributions(path=[str(folder)])}
    write_json(
        output,
        machine=machine(
            torch=torch.__version__,
            torch_uncertainty=versions["torch_uncertainty"],
            kornia=versions["kornia"],
            load=os.getloadavg()[0],
        ),
        setting={"batch": batch, "repeats": repeats, "side": 224, "left_out": LEFT_OUT},
        corruptions={
            name: {key: round(value, 4) for key, value in row.items()} for name, row in rows.items()
        },
    )


if __name__ == "__main__":
    main()
