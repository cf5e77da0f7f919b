"""What every part of the measurement is told, and where it keeps what it found."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA_NAME = "cifar10-jpeg"
DATA_FILE = f"{DATA_NAME}.npz"

# The recipe of the paper (section 4.2.2) and its sizes.
RECIPE = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "milestones": [80, 120, 160]}
EPOCHS = 200
BATCH_SIZE = 128
PUSHPULL = {
    "resnet20": None,
    "resnet20-pp": "first",
    "resnet56": None,
    "resnet56-pp": "first",
    "alexnet": None,
}
TRAINED = ("resnet20", "resnet20-pp", "alexnet")  # by the recipe, where no others are named
NORMALISER_FILE = "normaliser.pt"  # weights of the AlexNet, too large to be brought home


@dataclass(frozen=True)
class Setting:
    """Where data, unfinished work and results are, and how much there is to do."""

    data: Path  # folder with cifar10-jpeg.npz
    work: Path  # folder of this machine: data sets, and the files of the parts
    seeds: tuple[int, ...] = (0, 1, 2)
    nets: tuple[str, ...] = TRAINED
    way: str | None = None  # to train: precision, layout, kind; by default by what has been measured
    dry_run: bool = False  # few images, an epoch, a few sets: does every part run?
    limit: float = 600.0  # seconds for the part
    started: float = field(default_factory=time.monotonic)

    @property
    def images(self) -> Path:
        """Folder of the data set in the pipeline's form, with `clean/`, `c/` and `p/`."""
        return self.work / "datasets" / DATA_NAME

    @property
    def left(self) -> float:
        """Seconds until the part is stopped."""
        return self.limit - (time.monotonic() - self.started)

    def part_file(self, name: str) -> Path:
        """What the part of this name has found."""
        return self.work / "parts" / f"{name}.json"

    def found(self, name: str) -> dict[str, Any]:
        """What a part has found; nothing if it has not run here."""
        path = self.part_file(name)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def keep(self, name: str, results: dict[str, Any]) -> None:
        """Replace what the part has found."""
        write_whole(self.part_file(name), json.dumps(results, indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
