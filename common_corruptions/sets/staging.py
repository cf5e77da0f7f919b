"""Move images from a memory-mapped file to the device: a thread reads ahead, and copies do not block."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

AHEAD = 2  # batches read in advance


@runtime_checkable
class Images(Protocol):
    """What batches are read from: an array, or an object that reads or makes a slice of one on access."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __len__(self) -> int: ...

    def __getitem__(self, part: Any, /) -> Any: ...


def count_frames(sequences: Iterable[Images]) -> int:
    """Number of single images in sequences (N, T, H, W, C)."""
    return sum(one.shape[0] * one.shape[1] for one in sequences)


def staged(
    images: Images, parts: Iterable[slice | np.ndarray], device: torch.device | str
) -> Iterator[Tensor]:
    """`images[part]` on the device for each of the parts, in their order.

    A thread reads the next parts while the device works on the current one. For a GPU it reads into pinned memory, so
    that the copy is queued behind the work there and neither side waits for the other.

    Args:
        images: (N, ...) uint8; most useful for a memory map, or anything else with slow access.
        parts: slices or arrays of indices.
        device: where the tensors go.
    """
    device = torch.device(device)
    waiting: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="staging") as reader:
        try:
            for part in parts:
                waiting.append(reader.submit(_read, images, part, device.type == "cuda"))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result().to(device, non_blocking=True)
            while waiting:
                yield waiting.popleft().result().to(device, non_blocking=True)
        finally:
            for future in waiting:
                future.cancel()


def slices(count: int, size: int) -> Iterator[slice]:
    """0..count cut into slices of `size`; the last one may be shorter."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _read(images: Images, part: slice | np.ndarray, pinned: bool) -> Tensor:
    chosen = images[part]  # a slice of a memory map is a view, which the copy below reads
    # A new buffer for each part: torch reuses a pinned buffer only when its copy is done.
    buffer = torch.empty(chosen.shape, dtype=torch.uint8, pin_memory=pinned)
    np.copyto(buffer.numpy(), chosen)
    return buffer
