"""Images in files by class, as in torchvision's ImageFolder, decoded slice by slice in threads."""

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from common_corruptions.generate.writing import available_cores

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class Listing(NamedTuple):
    """The images of a folder: `<class>/<file>` of each in order, and labels (N,), indices into the sorted classes.

    `unread` counts everything else in the class folders by kind: "folder", or the suffix of a file's name.
    """

    names: list[str]
    labels: np.ndarray
    classes: list[str]
    unread: Counter[str]


def list_images(folder: Path) -> Listing:
    """The images in the subfolders of `folder`, one per class, both sorted by name.

    Raises:
        FileNotFoundError: `folder` has no subfolder, or one without an image.
    """
    with os.scandir(folder) as entries:
        classes = sorted(entry.name for entry in entries if entry.is_dir())
    names: list[str] = []
    counts = []
    unread: Counter[str] = Counter()
    for label in classes:
        files, others = _names_in(folder / label)
        if not files:
            raise FileNotFoundError(
                f"{folder / label} has no image ({', '.join(SUFFIXES)}); each folder in {folder} is a class"
            )
        names += [f"{label}/{file}" for file in files]
        counts.append(len(files))
        unread += others
    if not classes:
        raise FileNotFoundError(f"{folder} has no class folders")
    return Listing(names, np.repeat(np.arange(len(classes)), counts), classes, unread)


def image_names(folder: Path) -> list[str]:
    """The names of the images in a folder, sorted."""
    return _names_in(folder)[0]


def _names_in(folder: Path) -> tuple[list[str], Counter[str]]:
    """The sorted names of the images in a folder, and the number of other entries by kind, without hidden files."""
    names = []
    others: Counter[str] = Counter()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                others["folder"] += 1
            elif entry.name.lower().endswith(SUFFIXES):
                names.append(entry.name)
            elif not entry.name.startswith("."):
                others[os.path.splitext(entry.name)[1].lower() or "file without a suffix"] += 1
    return sorted(names), others


class ImageFiles:
    """RGB images (N, H, W, 3) uint8 in files of one size; a slice is decoded when it is accessed.

    Args:
        folder: the folder of the files.
        names: the path of each file in the folder.

    Raises:
        ValueError: a file that is not an image, or has values of more than 8 bits; on access, an image of another size
            than the first.
        OSError: a file that cannot be read.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names
        with _reading(folder / names[0]) as picture:
            width, height = picture.size
        self.shape = (len(names), height, width, 3)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, part: slice) -> np.ndarray:
        names = self.names[part]
        decoded = np.empty((len(names), *self.shape[1:]), np.uint8)
        for place, image in enumerate(_threads(os.getpid()).map(self._decode, names)):
            decoded[place] = image
        return decoded

    def identity(self) -> str:
        """A digest of the names, sizes and modification times of the files."""
        digest = hashlib.sha256()
        for name in self.names:
            status = os.stat(self.folder / name)
            digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _decode(self, name: str) -> np.ndarray:
        path = self.folder / name
        with _reading(path) as picture:
            height, width = self.shape[1:3]
            if picture.size != (width, height):
                raise ValueError(
                    f"{path} is {picture.height} x {picture.width} pixels (height x width), but {self.names[0]} "
                    f"is {height} x {width}: all must have the same size; prepare them as for ImageNet-C, with "
                    f"torchvision's Resize(256) and CenterCrop(224), and save them as PNG"
                )
            try:
                return np.asarray(picture.convert("RGB"))
            except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError for a damaged PNG
                raise ValueError(f"{path} is damaged: {error}; fetch it again") from None


def _reading(path: Path) -> Any:
    try:
        picture = Image.open(path)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError) as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        raise ValueError(f"{path} is not an image that Pillow can read{reason}; fetch it again") from None
    # Pillow clips grey values of 16 or 32 bits to 0..255; of colour values it keeps the upper 8 bits.
    if picture.mode.startswith(("I", "F")):
        picture.close()
        raise ValueError(
            f"{path} has values of more than 8 bits (Pillow's mode {picture.mode}), whose range is unknown; scale them "
            f"to 0 to 255 and save the image with 8 bits a channel"
        )
    return picture


@functools.cache
def _threads(process: int) -> ThreadPoolExecutor:
    """The threads of this process; a forked child inherits the pool of its parent, but not its threads."""
    return ThreadPoolExecutor(available_cores(), thread_name_prefix="decoding")
