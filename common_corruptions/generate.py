"""Whole corrupted and perturbed data sets on disk, in the form CIFAR-10-C and CIFAR-10-P are published in.

A folder gets one `.npy` file per corruption or perturbation, `labels.npy`, and `generated.json`, which says
from which images, with which seed and by which recipes each file is made. A file is made under `.partial/`
and moved into place when it is whole: what stands in the folder can be trusted, and a run that was stopped
goes on where it was.

Linux and macOS; the lock that keeps two runs apart is POSIX's.
"""

import contextlib
import fcntl
import hashlib
import inspect
import json
import operator
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common_corruptions.checks import check_images, check_name, check_seed
from common_corruptions.npy import load_array
from common_corruptions.recipes.names import CORRUPTIONS, FRAMES, PERTURBATIONS, SEVERITIES
from common_corruptions.recipes.registry import check_corruption, recipe
from common_corruptions.writing import SetFile, available_cores, write_files

RECIPES_VERSION = 3
"""Goes up when the output of a published recipe changes, so that files made by the old one are made again."""

RECORD = "generated.json"
PARTIAL = ".partial"

Origin = dict[str, str | int]
"""What decides the bytes of a file: the digest of the images, the version of its recipe and the seed."""


def generate_corruptions(
    images: np.ndarray,
    labels: np.ndarray | None,
    folder: str | os.PathLike,
    *,
    corruptions: Iterable[str] = CORRUPTIONS,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Write a corrupted data set as CIFAR-10-C has it.

    Each `<corruption>.npy` is uint8 (5 N, H, W, C), severities 1 to 5 one after the other; `labels.npy` holds
    the labels five times. A file that an earlier run made from the same images, with the same seed and by the
    same recipes is kept; one that it made from others is replaced.

    Args:
        images: uint8 (N, H, W, C), as for `corrupt`; may be a memory map.
        labels: integers (N,), or None to write no labels.
        folder: where to write; made if it is not there.
        corruptions: which, and in which order: by default the benchmark's; also those declared with `corruption`.
        seed: any integer.
        workers: processes; by default one for each available core. With more than 1, a script that calls this
            needs `if __name__ == "__main__":`, as always with `multiprocessing`.
        progress: show a bar with the time left, on stderr.

    Returns:
        The names written now, without the ones kept.

    Raises:
        TypeError, ValueError: as `corrupt`; no images; labels of another length; fewer than 1 worker.
        FileExistsError: a file in the way that no earlier run made, or that is not as that run made it.
        OSError: too little free space; another run at work in the folder; the file system's own errors.
    """
    names = _distinct(corruptions, "corruption")
    for name in names:
        check_corruption(name)
    return _generate("corruption", names, images, labels, folder, seed, workers, progress)


def generate_perturbations(
    images: np.ndarray,
    labels: np.ndarray | None,
    folder: str | os.PathLike,
    *,
    perturbations: Iterable[str] = PERTURBATIONS,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Write a data set of perturbation sequences as CIFAR-10-P has it.

    Each `<perturbation>.npy` is uint8 (N, T, H, W, C); `labels.npy` holds the labels once.
    `perturbations` may name `NOISE_VARIANTS` too. All else is as in `generate_corruptions`.
    """
    names = _distinct(perturbations, "perturbation")
    for name in names:
        check_name(name, FRAMES, "perturbation")
    return _generate("perturbation", names, images, labels, folder, seed, workers, progress)


def _generate(
    kind: str,
    names: list[str],
    images: np.ndarray,
    labels: np.ndarray | None,
    folder: str | os.PathLike,
    seed: int,
    workers: int | None,
    progress: bool,
) -> list[str]:
    check_images(images)
    check_seed(seed, 0)
    if len(images) == 0:
        raise ValueError("there are no images to work on")
    workers = _checked_workers(workers)
    labels = None if labels is None else _checked_labels(labels, images)
    files = [_set_file(kind, name, images.shape, int(seed)) for name in names]
    fingerprint = _fingerprint(images)
    origins: dict[str, Origin] = {
        file.name: {"images": fingerprint, "recipes": recipe_version(file), "seed": int(seed)}
        for file in files
    }

    folder = Path(folder).absolute()  # workers may have another current folder
    with _sigterm_as_exit(), _working_folder(folder) as partial:
        made = _read_record(folder, kind)
        missing = [file for file in files if not _is_kept(file, images, folder, made, origins[file.name])]
        _check_rest(folder, made, names, fingerprint)
        outdated = [path for file in missing if (path := folder / f"{file.name}.npy").exists()]
        freed = sum(path.stat().st_size for path in outdated)
        _check_space(folder, sum(file.size for file in missing) + images.nbytes - freed)
        for path in outdated:  # before the record changes: an entry and its file together mean a whole file
            path.unlink()
        if labels is not None:
            copies = len(SEVERITIES) if kind == "corruption" else 1
            _write_labels(np.tile(labels, copies), folder, partial)
        made |= {file.name: origins[file.name] for file in missing}
        _write_record({"kind": kind, "files": made}, folder, partial)
        if missing:
            write_files(missing, images, partial, folder, workers=workers, progress=progress)
    return [file.name for file in missing]


def _distinct(names: Iterable[str], kind: str) -> list[str]:
    if isinstance(names, str):
        raise TypeError(f"{kind}s must be several names, such as [{names!r}], not one string")
    return list(dict.fromkeys(names))


def _set_file(kind: str, name: str, shape: tuple[int, ...], seed: int) -> SetFile:
    """A file to be made; of a corruption, with the module that declares it, for the worker processes to import."""
    module = recipe(name).function.__module__ if kind == "corruption" else ""
    return SetFile(kind, name, shape, seed, module)


def recipe_version(file: SetFile) -> int | str:
    """Of the recipe: the number of the published ones, or a digest of one's own, of its constants and source."""
    if file.kind == "perturbation" or file.name in CORRUPTIONS:
        return RECIPES_VERSION
    own = recipe(file.name)
    try:
        source = inspect.getsource(own.function)
    except OSError:  # of a session without a file
        source = ""
    return hashlib.sha256(f"{own.constants} {source}".encode()).hexdigest()[:16]


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
    return labels


def _fingerprint(images: np.ndarray) -> str:
    digest = hashlib.sha256(repr(images.shape).encode())
    for first in range(0, len(images), 1000):
        digest.update(np.ascontiguousarray(images[first : first + 1000]).data)
    return digest.hexdigest()


@contextlib.contextmanager
def _working_folder(folder: Path) -> Iterator[Path]:
    """An empty folder for unfinished files, held by this run alone and removed at its end."""
    partial = folder / PARTIAL
    partial.mkdir(parents=True, exist_ok=True)
    with open(partial / "lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it if the run is killed
        except BlockingIOError:
            raise OSError(f"another run is writing to {folder}; wait for it, or stop it") from None
        for leftover in partial.iterdir():  # of a run that was killed
            if leftover.name != "lock":
                leftover.unlink()
        try:
            yield partial
        finally:
            shutil.rmtree(partial)


def _read_record(folder: Path, kind: str) -> dict[str, Origin]:
    """From what each file in the folder is made; empty for a folder without a record."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        made, found = record["files"], record["kind"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged; remove it with the files beside it") from None
    if found != kind:
        raise FileExistsError(f"{folder} holds {found}s; write {kind}s elsewhere")
    return made


def _is_kept(
    file: SetFile, images: np.ndarray, folder: Path, made: dict[str, Origin], made_from: Origin
) -> bool:
    """Whether the file is there as it would be made; FileExistsError if it is not known where it is from."""
    path = folder / f"{file.name}.npy"
    if not path.exists():
        return False
    if file.name not in made:
        raise FileExistsError(f"{path} is not known to {RECORD}; move it or write elsewhere")
    if made[file.name] != made_from:
        return False
    if not _agrees(file, path, images):
        raise FileExistsError(f"{path} is not what {RECORD} says; remove it and run again")
    return True


def _agrees(file: SetFile, path: Path, images: np.ndarray) -> bool:
    """Whether a file has the right shape and three of its images, made again, are the same."""
    try:
        present = load_array(path)
    except ValueError:
        return False
    if present.shape != file.shape or present.dtype != np.uint8:
        return False
    samples = {0, len(images) // 2, len(images) - 1}
    return all(
        np.array_equal(present[place], part[0])
        for index in samples
        for place, part in file.parts(images[index : index + 1], index)
    )


def _check_rest(folder: Path, made: dict[str, Origin], names: list[str], fingerprint: str) -> None:
    """Refuse a folder whose other files are of other images, which have other labels."""
    for name, origin in made.items():
        if name not in names and origin["images"] != fingerprint and (folder / f"{name}.npy").exists():
            raise FileExistsError(f"{folder} holds {name}.npy, made from other images; write elsewhere")


def _check_space(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OSError(f"writing to {folder} needs {need / 1e9:.3f} GB, and {free / 1e9:.3f} GB are free")


def _write_labels(labels: np.ndarray, folder: Path, partial: Path) -> None:
    path = folder / "labels.npy"
    if path.exists() and not (folder / RECORD).exists() and not np.array_equal(load_array(path), labels):
        raise FileExistsError(f"{path} holds other labels; move it or write elsewhere")
    np.save(partial / path.name, labels)
    os.replace(partial / path.name, path)


def _write_record(record: dict[str, Any], folder: Path, partial: Path) -> None:
    (partial / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial / RECORD, folder / RECORD)


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM raise SystemExit, so that what has to be cleaned up is."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
