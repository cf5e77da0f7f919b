"""Open any kind of data for a measurement: its type or, for a folder, its contents decide how."""

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
            folder: with `.npy` files (`folders.open_arrays`), with a folder for each corruption and severity
            (`imagenet_folders.open_imagenet_c`), or with clean images by class. `made.make_sets` makes the sets of
            clean images.
        corruptions, perturbations, severities: which; by default all that a folder has, and for clean images the 19
            corruptions.
        seed: for sets made here, by default 0.
        scale: of corruptions made here, as for `make_sets`.
        progress: show a progress bar while the labels of a data set are read.

    Raises:
        FileNotFoundError: nothing to measure, or a requested set that is missing.
        TypeError, ValueError: neither a folder nor images with labels; a seed or a scale for sets that already exist;
            and as the functions named.
    """
    chosen = (corruptions, perturbations, severities, 0 if seed is None else seed, scale)
    if isinstance(data, tuple | list):
        if len(data) != 2:
            raise ValueError(
                f"give a folder, a data set, or (images, labels), not {len(data)} items; convert a list of "
                f"(image, label) with zip(*data)"
            )
        images, labels = data
        return make_sets("the images given", array_of(images), labels, *chosen)
    if not isinstance(data, str | Path):
        if is_image(data) or isinstance(data, np.ndarray | Tensor):
            raise TypeError(f"give (images, labels), not a {type(data).__name__} of images without labels")
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
        raise ValueError(f"{folder} has ready-made sets; {what} is only for clean images")
    if kind == "arrays":
        return open_arrays(folder, corruptions, perturbations, severities)
    if perturbations:
        raise FileNotFoundError(f"{folder} has folders of images by corruption, but no perturbations")
    return open_imagenet_c(folder, corruptions, severities)


def split_names(
    folder: Path, names: list[str] | None, perturb: bool
) -> tuple[list[str] | None, list[str] | None]:
    """Split names into corruptions and perturbations, some of which are both; None stands for the default.

    For clean images, a name that is both means the corruption or, with `perturb`, both. Without names it means all
    corruptions and, with `perturb`, all perturbations.

    Raises:
        FileNotFoundError, ValueError: as `kind_of`; an unknown name, or one that is missing; `perturb` for a folder
            whose sets already exist.
    """
    kind = kind_of(folder)
    if perturb and kind != "images":
        raise ValueError(f"{folder} has ready-made sets; perturbations can only be made from clean images")
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
    """The kind of a folder: "arrays", "corruptions" (folders of images for each) or "images" (clean, by class).

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
