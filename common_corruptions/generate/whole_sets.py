"""Whole corrupted and perturbed data sets on disk, in the published form of CIFAR-10-C and CIFAR-10-P.

A folder gets one `.npy` file per corruption or perturbation, `labels.npy`, and `generated.json`, which records the
images, the seed and the recipe that each file was made from, and its digest. A file is made under `.partial/` and
moved into place when it is complete, and its digest is checked before it is kept. So the files in the folder can be
trusted, and a run that was stopped resumes where it was.
"""

import hashlib
import inspect
import operator
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from common_corruptions.checks import check_images, check_name, check_seed
from common_corruptions.generate.earlier_run import check_rest, is_kept, new_labels
from common_corruptions.generate.partial import working_folder
from common_corruptions.generate.writing import SetFile, available_cores, check_not_importing, write_files
from common_corruptions.recipes.names import CORRUPTIONS, FRAMES, PERTURBATIONS
from common_corruptions.recipes.perturbations import PERTURBED_LARGEST
from common_corruptions.recipes.registry import check_corruption, recipe
from common_corruptions.recipes.scales import scale_of
from common_corruptions.record import Entry, digest, digest_of_images, read_record, write_record

RECIPES_VERSION = {"corruption": 4, "perturbation": 3}
"""Increased when the output of a published recipe changes, so that files made by the old one are replaced."""


def generate_corruptions(
    images: np.ndarray,
    labels: np.ndarray | None,
    folder: str | os.PathLike[str],
    *,
    corruptions: Iterable[str] = CORRUPTIONS,
    seed: int = 0,
    scale: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Write a corrupted data set in the form of CIFAR-10-C.

    Each `<corruption>.npy` is uint8 (5 N, H, W, C), severities 1 to 5 in order; `labels.npy` holds the labels five
    times. A file that an earlier run made from the same images, with the same seed and recipe, is kept; one that it
    made from others is replaced.

    Args:
        images: uint8 (N, H, W, C), as for `corrupt`; may be a memory map.
        labels: class indices (N,), integers from 0, or None to write no labels.
        folder: where to write; created if it does not exist.
        corruptions: which to make, in this order: by default the benchmark's; also those declared with `corruption`.
        seed: any integer.
        scale: whose constants to use, "cifar" or "imagenet"; by default the image size decides, as in `corrupt`.
        workers: number of processes; by default one per available core. With more than 1, a script that calls this
            needs `if __name__ == "__main__":`, as always with `multiprocessing`.
        progress: show a progress bar with the remaining time, on stderr.

    Returns:
        The names written now, without the ones kept.

    Raises:
        TypeError, ValueError: as `corrupt`; no images; labels of another length, or below 0; fewer than 1 worker.
        FileExistsError: a file in the way that no earlier run made, or that has changed since; files that would stay in
            the folder but are of other images or another scale; labels of other images.
        OSError: too little free space; another run at work in the folder; errors of the file system.
        RuntimeError: a worker process was killed, or a script without that line calls this.
    """
    names = _distinct(corruptions, "corruption")
    for name in names:
        check_corruption(name)
    check_images(images)
    scale = scale_of(scale, *images.shape[1:3])
    return _generate("corruption", names, images, labels, folder, seed, scale, workers, progress)


def generate_perturbations(
    images: np.ndarray,
    labels: np.ndarray | None,
    folder: str | os.PathLike[str],
    *,
    perturbations: Iterable[str] = PERTURBATIONS,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Write a data set of perturbation sequences in the form of CIFAR-10-P.

    Each `<perturbation>.npy` is uint8 (N, T, H, W, C); `labels.npy` holds the labels once.
    `perturbations` may include `NOISE_VARIANTS`. Everything else is as in `generate_corruptions`.
    """
    names = _distinct(perturbations, "perturbation")
    for name in names:
        check_name(name, FRAMES, "perturbation")
    check_images(images, largest=PERTURBED_LARGEST)
    return _generate("perturbation", names, images, labels, folder, seed, "", workers, progress)


def _generate(
    kind: str,
    names: list[str],
    images: np.ndarray,
    labels: np.ndarray | None,
    folder: str | os.PathLike[str],
    seed: int,
    scale: str,
    workers: int | None,
    progress: bool,
) -> list[str]:
    check_seed(seed, 0)
    if len(images) == 0:
        raise ValueError("there are no images to work on")
    workers = _checked_workers(workers)
    if workers > 1:
        check_not_importing()
    labels = None if labels is None else _checked_labels(labels, images)
    files = [_set_file(kind, name, images.shape, int(seed), scale) for name in names]
    fingerprint = digest_of_images(repr(images.shape), images)
    # What determines the bytes of each file.
    common: Entry = {"images": fingerprint, "seed": int(seed)}
    if scale:
        common["scale"] = scale
    origins: dict[str, Entry] = {file.name: common | {"recipes": recipe_version(file)} for file in files}

    folder = Path(folder).absolute()  # workers may have another current folder
    with working_folder(folder) as partial:
        record = read_record(folder, kind)
        missing = [file for file in files if not is_kept(file, images, folder, record, origins[file.name])]
        check_rest(folder, record, names, common)
        its_labels = new_labels(kind, labels, folder, partial, record, fingerprint)
        outdated = [path for file in missing if (path := folder / f"{file.name}.npy").exists()]
        freed = sum(path.stat().st_size for path in outdated)
        _check_space(folder, sum(file.size for file in missing) + images.nbytes - freed)
        # A file is removed before its entry and added after it, so a file with an entry is always complete.
        for path in outdated:
            path.unlink()
            del record.files[path.stem]
        if its_labels is not None:
            (folder / its_labels.name).unlink(missing_ok=True)
            record.labels = digest(its_labels) | {"images": fingerprint}
        write_record(record, folder, partial)
        if its_labels is not None:
            os.replace(its_labels, folder / its_labels.name)

        def finish(file: SetFile, path: Path) -> None:
            record.files[file.name] = origins[file.name] | digest(path)
            write_record(record, folder, partial)
            os.replace(path, folder / path.name)

        if missing:
            write_files(missing, images, partial, finish, workers=workers, progress=progress)
    return [file.name for file in missing]


def _distinct(names: Iterable[str], kind: str) -> list[str]:
    if isinstance(names, str):
        raise TypeError(f"{kind}s must be several names, such as [{names!r}], not one string")
    return list(dict.fromkeys(names))


def _set_file(kind: str, name: str, shape: tuple[int, ...], seed: int, scale: str) -> SetFile:
    """A file to be made; for a corruption, with the module that declares it, which worker processes import."""
    module = recipe(name).function.__module__ if kind == "corruption" else ""
    return SetFile(kind, name, shape, seed, scale, module)


def recipe_version(file: SetFile) -> int | str:
    """Version of a recipe: a number for the published ones; for your own, a digest of its constants and source.

    The digest does not cover what the function calls, so the images have to be compared, too.
    """
    if file.kind == "perturbation" or file.name in CORRUPTIONS:
        return RECIPES_VERSION[file.kind]
    own = recipe(file.name)
    described = f"{own.constants} {own.imagenet} {_source(own.function)}"
    if own.resized is not None:
        described += f" {_source(own.resized)}"
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _source(function: Callable[..., object]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # from an interactive session, or not written in Python
        return ""


def _checked_workers(workers: int | None) -> int:
    if workers is None:
        return available_cores()
    if operator.index(workers) < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    return workers


def _checked_labels(labels: np.ndarray, images: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        found = f"{labels.dtype} {labels.shape}"
        raise ValueError(f"labels must be {len(images)} integers, one for each image, not {found}")
    if labels.min() < 0:
        raise ValueError(f"labels must be class indices from 0; the lowest is {labels.min()}")
    return labels


def _check_space(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OSError(f"writing to {folder} needs {need / 1e9:.3f} GB, but {free / 1e9:.3f} GB are free")
