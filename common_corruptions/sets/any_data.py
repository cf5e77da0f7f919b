"""What people have to measure a net on, told apart by what it is and, for a folder, by what stands in it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from common_corruptions.images.forms import is_image
from common_corruptions.recipes.names import CORRUPTIONS, FRAMES, PERTURBATIONS
from common_corruptions.recipes.registry import added, check_corruption
from common_corruptions.sets.folders import holds_arrays, open_arrays
from common_corruptions.sets.folders import split_names as split_arrays
from common_corruptions.sets.image_files import ImageFiles, image_names, list_images
from common_corruptions.sets.imagenet_folders import corruption_folders, open_imagenet_c
from common_corruptions.sets.items import Items
from common_corruptions.sets.made import array_of, check_choice, make_sets
from common_corruptions.sets.opened import Sets


def open_data(
    data: Any,
    corruptions: Iterable[str] | None = None,
    perturbations: Iterable[str] | None = None,
    severities: Iterable[int] | None = None,
    seed: int | None = None,
    scale: str | None = None,
    progress: bool = False,
) -> Sets:
    """The sets to be measured.

    Args:
        data: (images, labels); a map-style data set of clean images with labels, as `items.Items` reads it; or a
            folder: with `.npy` files, as `folders.open_arrays` reads them; with a folder for each corruption and
            severity, as `imagenet_folders.open_imagenet_c` does; or of clean images by class. `made.make_sets` makes
            the sets of clean images.
        corruptions, perturbations, severities: which; by default all that a folder has, and of clean images the 19
            corruptions.
        seed: of what is made, by default 0.
        scale: of the corruptions that are made, as for `make_sets`.
        progress: show a bar while the labels of a data set are read.

    Raises:
        FileNotFoundError: nothing to measure, or what was asked for is not there.
        TypeError, ValueError: neither a folder nor images with labels; a seed or a scale for sets that are made
            already; and as the functions named.
    """
    chosen = (corruptions, perturbations, severities, 0 if seed is None else seed, scale)
    if isinstance(data, tuple | list):
        if len(data) != 2:
            raise ValueError(
                f"give a folder, a data set, or (images, labels), not {len(data)} things; of a list of (image, label) "
                f"make one with zip(*data)"
            )
        images, labels = data
        return make_sets("the images given", array_of(images), labels, *chosen)
    if not isinstance(data, str | Path):
        if is_image(data) or isinstance(data, np.ndarray | Tensor):
            raise TypeError(
                f"give (images, labels), and not a {type(data).__name__} of images without labels"
            )
        chosen = check_choice(*chosen)  # before all items are read
        items = Items(data, progress)
        source = f"the {type(data).__name__} given"
        return make_sets(source, items, items.labels, *chosen, classes=items.classes)
    folder = Path(data)
    kind = kind_of(folder)
    if kind == "images":
        listing = list_images(folder)
        files = ImageFiles(folder, listing.names)
        made = make_sets(str(folder), files, listing.labels, *chosen, classes=len(listing.classes))
        return made._replace(unread=listing.unread)
    if seed is not None or scale is not None:
        what = "a scale" if seed is None else "a seed"
        raise ValueError(f"{folder} holds sets that are made already; {what} is for clean images")
    if kind == "arrays":
        return open_arrays(folder, corruptions, perturbations, severities)
    if perturbations:
        raise FileNotFoundError(f"{folder} holds folders of images by corruption, and no perturbations")
    return open_imagenet_c(folder, corruptions, severities)


def split_names(
    folder: Path, names: list[str] | None, perturb: bool
) -> tuple[list[str] | None, list[str] | None]:
    """The corruptions and the perturbations among names, some of which are both; None for what is there by default.

    Of clean images a name that is both means the corruption, and with `perturb` both; without names it is all of both.

    Raises:
        FileNotFoundError, ValueError: as `kind_of`; a name that is neither's, or not there; `perturb` of a folder
            whose sets are made already.
    """
    kind = kind_of(folder)
    if perturb and kind != "images":
        raise ValueError(f"{folder} holds sets that are made already; perturbations are made of clean images")
    if names is None:
        return None, list(PERTURBATIONS) if perturb else None
    if kind == "arrays":
        return split_arrays(folder, names)
    if kind == "corruptions":
        return names, []
    for name in names:
        if name not in FRAMES:
            check_corruption(name)
    corruptions = [name for name in names if name in {*CORRUPTIONS, *added()}]
    return corruptions, [name for name in names if name in FRAMES and (perturb or name not in corruptions)]


def kind_of(folder: Path) -> str:
    """What stands in a folder: "arrays", "corruptions" (folders of images for each) or "images" (clean, by class).

    Raises:
        FileNotFoundError: none of these.
        ValueError: more than one of them.
    """
    kinds = {
        "arrays": holds_arrays(folder),
        "corruptions": folder.is_dir() and bool(corruption_folders(folder)),
        "images": folder.is_dir() and _holds_classes(folder),
    }
    found = [kind for kind, there in kinds.items() if there]
    if len(found) > 1:
        raise ValueError(
            f"{folder} holds more than one of .npy files, <corruption>/<severity> folders and <class> folders with "
            f"images; move one elsewhere"
        )
    if not found:
        raise FileNotFoundError(
            f"nothing to measure in {folder}: no <corruption>.npy or <perturbation>.npy, there or in c/ and p/, no "
            f"<corruption>/<severity>/<class>/<image> and no <class>/<image>"
        )
    return found[0]


def _holds_classes(folder: Path) -> bool:
    return any(path.is_dir() and bool(image_names(path)) for path in folder.iterdir())
