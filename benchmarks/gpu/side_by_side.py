"""Several trainings at once on one GPU, whose kernels are too small to fill it: a thread and a stream for each.

Each ends with the bits that it has alone, as long as nothing in it draws numbers on the device: dropout takes them from
the one generator that all share.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch

from common_corruptions.evaluation import float32_as

Key = TypeVar("Key")
Item = TypeVar("Item")


def side_by_side(
    trainings: Mapping[Key, Iterator[Item]],
    device: torch.device,
    wanted: Callable[[Key], bool] = lambda key: True,
) -> Iterator[tuple[Key, Item]]:
    """(key, what its training yields), as it comes.

    The first of each is waited for before the next is begun: in it a step is recorded, which nothing may disturb.
    After that a training does not wait for what it yielded to be used, so states in it are those of a later moment.

    Args:
        trainings: iterators of `training.engine.train_epochs` that record their steps, each of a net of its own.
        device: of the nets.
        wanted: asked after each item; a training that is no longer wanted is ended.

    Raises:
        what a training raised; the others are ended after their next item.
    """
    streams = {key: torch.cuda.Stream(device) if device.type == "cuda" else None for key in trainings}
    found: queue.SimpleQueue[tuple[Key, Item | None, BaseException | None]] = queue.SimpleQueue()
    closed = threading.Event()

    def go_on(key: Key) -> None:
        try:
            with torch.cuda.stream(streams[key]):
                while (
                    not closed.is_set() and wanted(key) and (item := next(trainings[key], None)) is not None
                ):
                    found.put((key, item, None))
            found.put((key, None, None))
        except BaseException as error:  # whatever ends the thread: who waits for it has to know
            found.put((key, None, error))

    threads = [threading.Thread(target=go_on, args=(key,), name=str(key)) for key in trainings]
    # Threads that each set and put back the arithmetic of all would leave it to chance: what they put back is this.
    with float32_as("ieee"), contextlib.ExitStack() as at_the_end:
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # nets and images may still be made on another stream
        for key, training in trainings.items():
            with torch.cuda.stream(streams[key]):
                item = next(training, None)
            if item is not None:
                yield key, item
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        at_the_end.callback(lambda: [thread.join() for thread in threads])
        at_the_end.callback(closed.set)
        for thread in threads:
            thread.start()
        running = len(threads)
        while running:
            key, item, error = found.get()
            if error is not None:
                raise error
            if item is None:
                running -= 1
            else:
                yield key, item
