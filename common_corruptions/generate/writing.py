"""Make the files of a corrupted or perturbed set, block by block, in worker processes.

Each worker memory-maps the images, makes a block of one file and writes it to its place in that file. No array of
the size of a set exists, and only names and positions pass between processes.
"""

import contextlib
import functools
import importlib
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from common_corruptions.recipes.corruptions import corrupt
from common_corruptions.recipes.names import FRAMES, SEVERITIES
from common_corruptions.recipes.perturbations import perturb
from common_corruptions.recipes.registry import check_corruption

UNGUARDED = (
    "each worker process imports the script that was started, so its code that makes sets must be under "
    '`if __name__ == "__main__":`; or pass workers=1'
)

BLOCK_BYTES = (
    8 << 20
)  # of output made at a time: short enough to stop soon, long enough to hide the bookkeeping


@dataclass(frozen=True)
class SetFile:
    """One file of a set: what it holds and how it is made from images (N, H, W, C)."""

    kind: str  # corruption or perturbation
    name: str
    images_shape: tuple[int, ...]
    seed: int
    scale: str = ""  # of a corruption
    module: str = ""  # of a corruption: where it is declared

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array: (5 N, H, W, C), severities 1 to 5 in order, or (N, T, H, W, C)."""
        count, *image = self.images_shape
        if self.kind == "corruption":
            return (len(SEVERITIES) * count, *image)
        return (count, FRAMES[self.name], *image)

    @property
    def size(self) -> int:
        """Size of the array in bytes."""
        return math.prod(self.shape)

    @property
    def pictures(self) -> int:
        """Number of images in the file, counting each severity or frame."""
        return self.size // math.prod(self.images_shape[1:])

    def parts(self, images: np.ndarray, start: int) -> Iterator[tuple[int, np.ndarray]]:
        """Make the part of the file that belongs to `images`, the first of which has index `start`.

        Yields arrays, each with its position on the first axis of the array in the file.
        """
        if self.kind == "perturbation":
            yield start, perturb(images, self.name, self.seed, start=start)
            return
        for severity in SEVERITIES:
            place = (severity - 1) * self.images_shape[0] + start
            yield place, corrupt(images, self.name, severity, self.seed, start=start, scale=self.scale)


@dataclass(frozen=True)
class Block:
    """Images `first` to `stop` of an unfinished file at `path`, whose array begins `offset` bytes into it."""

    file: SetFile
    path: Path
    offset: int
    first: int
    stop: int


def write_files(
    files: list[SetFile],
    images: np.ndarray,
    partial: Path,
    finish: Callable[[SetFile, Path], None],
    *,
    workers: int,
    progress: bool,
) -> None:
    """Make `files` from `images` in `partial`, in that order, and pass each to `finish` once it is complete.

    `partial` is a folder of this run only, for unfinished files and for a copy of the images, which the workers read.
    """
    blocks = [block for file in files for block in _blocks(file, partial)]
    pictures = sum(file.pictures for file in files)
    with (
        _runner(images, partial, min(workers, len(blocks))) as run,
        tqdm(total=pictures, unit=" images", unit_scale=True, disable=not progress) as bar,
    ):
        for block, _ in zip(blocks, run(blocks), strict=True):
            count = block.file.images_shape[0]
            if block.stop == count:
                finish(block.file, block.path)
            bar.set_description(block.file.name, refresh=False)
            bar.update(block.file.pictures * (block.stop - block.first) // count)


def check_not_importing() -> None:
    """Raise RuntimeError in a worker process that reaches the call while importing the script that started it.

    Otherwise it would find the folder locked by its own parent.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing checks itself
        raise RuntimeError(UNGUARDED)


def available_cores() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _blocks(file: SetFile, partial: Path) -> Iterator[Block]:
    """Create `file` in `partial`, still empty, and divide the work on it."""
    path = partial / f"{file.name}.npy"
    offset = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=file.shape).offset
    count = file.images_shape[0]
    step = max(1, BLOCK_BYTES * count // file.size)
    for first in range(0, count, step):
        yield Block(file, path, offset, first, min(first + step, count))


Runner = Callable[[Iterable[Block]], Iterator[None]]
"""Writes blocks, possibly several at a time, and yields once for each written block, in their order."""


@contextlib.contextmanager
def _runner(images: np.ndarray, partial: Path, workers: int) -> Iterator[Runner]:
    if workers == 1:
        yield lambda blocks: map(functools.partial(_write_block, images), blocks)
        return
    path = partial / "images.npy"
    np.save(path, images)
    # Not fork: OpenCV and PyTorch may hold threads and locks that a forked child cannot use.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(path,))
    try:
        yield functools.partial(_map, pool)
    except BrokenProcessPool as error:
        workers_of_pool = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(cancel_futures=True)  # only then are their exit codes final
        if any(worker.exitcode == 1 for worker in workers_of_pool):  # negative if killed
            raise RuntimeError(f"no worker process could start; {UNGUARDED}") from error
        raise RuntimeError(
            "a worker process was killed, perhaps for lack of memory; run again to resume"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _map(pool: ProcessPoolExecutor, blocks: Iterable[Block]) -> Iterator[None]:
    """Distribute the blocks to the workers.

    Raises:
        BrokenProcessPool: a worker ended, now or while the results are awaited.
        OSError: a worker cannot be started.
    """
    try:
        return pool.map(_write_block_of_set, blocks)
    except OSError:
        # A pool that breaks while it starts a worker closes the worker's queue and reports only "handle is closed".
        # A second submission raises BrokenProcessPool.
        pool.submit(int)
        raise


_images: np.ndarray  # of the whole set, in a worker


def _start_worker(images: Path) -> None:
    global _images
    _images = np.load(images, mmap_mode="r")
    cv2.setNumThreads(1)  # the processes share the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which stops the pool
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End a worker whose parent was killed; it would otherwise wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _write_block_of_set(block: Block) -> None:
    if block.file.kind == "corruption":
        _declare(block.file)
    _write_block(_images, block)


def _declare(file: SetFile) -> None:
    """Import the module that declares the caller's own corruption, which a new process does not know.

    Raises:
        ValueError: the import does not declare it.
    """
    try:
        importlib.import_module(file.module)
        check_corruption(file.name)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"importing {file.module}, as worker processes do, does not declare {file.name}; declare it at the top "
            f"level of a module that can be imported, or pass workers=1"
        ) from error


def _write_block(images: np.ndarray, block: Block) -> None:
    """Make a block from the `images` of the whole set and write it to its place."""
    with open(block.path, "r+b") as target:
        for place, part in block.file.parts(images[block.first : block.stop], block.first):
            target.seek(block.offset + place * part[0].nbytes)
            target.write(part.data)
