"""A file that arrives in pieces and in any order, and survives a kill: `<name>.part` and its map beside it."""

import bisect
import hashlib
import io
import json
import os
import threading
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

_MOST_UNSAVED = 64 << 20
_HASH_BLOCK = 128 << 10
_READ_AHEAD = 4 << 10
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class PartFile:
    """A `.part` file and `.part.map`, which says in JSON which byte ranges are in it.

    Several threads may `write`. The map is replaced after every hundredth of the file, so a kill costs hardly more
    than that: what was written is with the operating system. A power cut takes from there what was not flushed;
    therefore the map also holds the ranges that were flushed before it was written (`synced`, by `checkpoint`), and
    after a reboot only those count. Unwritten ranges are holes and take no space.

    Attributes: `total`, the size of the whole file in bytes (None until known); `generation`, which changes
    whenever something that had arrived is thrown away.
    """

    def __init__(self, path: Path):
        self.path = path
        self.total: int | None = None
        self.generation = 0
        self._map = path.with_name(path.name + ".map")
        self._done: list[list[int]] = []  # disjoint, sorted [start, stop)
        self._synced: list[list[int]] = []
        self._lock = threading.Lock()
        self._unsaved = 0
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        self._load_map()

    def __enter__(self) -> "PartFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def received(self) -> int:
        """How many bytes have arrived."""
        with self._lock:
            return sum(stop - start for start, stop in self._done)

    @property
    def prefix(self) -> int:
        """How many bytes from the beginning have arrived without a gap."""
        with self._lock:
            return self._done[0][1] if self._done and self._done[0][0] == 0 else 0

    def begin(self, total: int | None) -> None:
        """State the size of the whole. What belongs to a file of another size is thrown away."""
        if total is None or total != self.total:
            self.restart()
            self.total = total

    def restart(self) -> None:
        """Throw away what has arrived."""
        with self._lock:
            self._map.unlink(missing_ok=True)
            self._file.truncate(0)
            self._done, self._synced, self._unsaved = [], [], 0
            self.generation += 1

    def forget(self, start: int, stop: int) -> None:
        """Mark a range as not arrived."""
        with self._lock:
            kept = [[[a, min(b, start)], [max(a, stop), b]] for a, b in self._done]
            self._done = [[a, b] for pair in kept for a, b in pair if a < b]
            self._synced = []
            self.generation += 1
            self._save_map()

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The gaps in [start, stop), in order."""
        gaps = []
        with self._lock:
            for a, b in self._done:
                if b <= start:
                    continue
                if a >= stop:
                    break
                if a > start:
                    gaps.append((start, a))
                start = b
        if start < stop:
            gaps.append((start, stop))
        return gaps

    def write(self, block: bytes, position: int) -> None:
        """Store `block` at `position`. Raises OSError, for one when the disk is full."""
        view, at = memoryview(block), position
        while view:
            count = os.pwrite(self._file.fileno(), view, at)
            view, at = view[count:], at + count
        with self._lock:
            self._add(position, at)
            self._unsaved += len(block)
            if self.total and self._unsaved >= min(_MOST_UNSAVED, self.total // 100):
                self._save_map()

    def read_into(self, buffer: memoryview, position: int) -> int:
        """Fill `buffer` with the bytes from `position` on; return how many there were."""
        return os.preadv(self._file.fileno(), [buffer], position)

    def checkpoint(self) -> None:
        """Make what has arrived survive a power cut too. Raises OSError when the disk does not take it."""
        with self._lock:
            done = [list(pair) for pair in self._done]
        os.fsync(self._file.fileno())
        with self._lock:
            self._synced = done
            self._save_map()

    def finish(self, target: Path) -> None:
        """Give the complete file its final name."""
        os.fsync(self._file.fileno())
        os.replace(self.path, target)
        self._map.unlink(missing_ok=True)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Remove the file and its map."""
        self.path.unlink()
        self._map.unlink(missing_ok=True)

    def _add(self, start: int, stop: int) -> None:
        """Join [start, stop) with the ranges it touches."""
        first = bisect.bisect_left(self._done, start, key=itemgetter(1))
        last = bisect.bisect_right(self._done, stop, key=itemgetter(0))
        touched = self._done[first:last]
        if touched:
            start, stop = min(start, touched[0][0]), max(stop, touched[-1][1])
        self._done[first:last] = [[start, stop]]

    def _save_map(self) -> None:
        state = {"total": self.total, "done": self._done, "synced": self._synced, "boot": _boot_id()}
        fresh = self._map.with_name(self._map.name + ".new")
        fresh.write_text(json.dumps(state), encoding="utf-8")
        os.replace(fresh, self._map)
        self._unsaved = 0

    def _load_map(self) -> None:
        """Take over what an earlier process left; a map that cannot be right counts as none."""
        try:
            state = json.loads(self._map.read_text(encoding="utf-8"))
            same_boot = state["boot"] is not None and state["boot"] == _boot_id()
            done = [[int(start), int(stop)] for start, stop in state["done" if same_boot else "synced"]]
            total = int(state["total"])
        except (OSError, ValueError, TypeError, KeyError):
            total, done = -1, []
        edges = [edge for pair in done for edge in pair]
        size = min(os.fstat(self._file.fileno()).st_size, total)
        if total < 0 or edges != sorted(edges) or (edges and not 0 <= edges[0] <= edges[-1] <= size):
            self.restart()
        else:
            self.total, self._done = total, done


class PrefixDigests:
    """Digests of the bytes [start, stop) of a part file, computed in order while they arrive."""

    def __init__(self, expected: dict[str, str], part: PartFile, start: int = 0, stop: int | None = None):
        self.expected, self.part, self.start, self.stop = expected, part, start, stop
        self.generation = -1
        self.buffer = memoryview(bytearray(_HASH_BLOCK))

    def advance(self, most: int) -> int:
        """Hash up to `most` further bytes that have arrived; return how many."""
        if self.generation != self.part.generation:
            self.generation, self.position = self.part.generation, self.start
            self.hashes = {name: hashlib.new(name) for name in self.expected}
        arrived = self.part.prefix if self.stop is None else self.stop
        end = min(arrived, self.position + most)
        hashed = max(end - self.position, 0)
        while self.position < end:
            block = self.buffer[: self.part.read_into(self.buffer[: end - self.position], self.position)]
            for running in self.hashes.values():
                running.update(block)
            self.position += len(block)
        return hashed

    def difference(self) -> str | None:
        """Hash what is left, and say which digest is not the expected one."""
        while self.expected and self.advance(_HASH_BLOCK):
            pass
        for name, expected in self.expected.items():
            if (found := self.hashes[name].hexdigest()) != expected:
                return f"its {name} is {found} where {expected} is published"
        return None


class Window(io.RawIOBase):
    """A read-only, seekable view of a part file that brings what is missing when it is read."""

    def __init__(self, part: PartFile, bring: Callable[[int, int], None]):
        self.part, self.bring, self.position = part, bring, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.part.total}[whence]
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: memoryview) -> int:
        stop = min(self.position + max(len(buffer), _READ_AHEAD), self.part.total)
        for gap in self.part.missing(self.position, stop):
            self.bring(*gap)
        count = self.part.read_into(buffer, self.position)
        self.position += count
        return count


def _boot_id() -> str | None:
    """What tells one run of this machine from the next; None where it does not say."""
    try:
        return _BOOT_ID.read_text(encoding="utf-8").strip()
    except OSError:
        return None
