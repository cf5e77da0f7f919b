"""A file that arrives in pieces in any order and survives a kill of the process: `<name>.part` and its map."""

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
    """A `.part` file and its `.part.map`, which lists in JSON the byte ranges that have arrived.

    Several threads may `write`. The map is rewritten after every hundredth of the file, so a kill loses little more
    than that, as the operating system keeps what was written. A power cut also loses what was not flushed. Therefore
    the map also lists the ranges that `checkpoint` flushed before writing it (`synced`), and after a reboot only those
    count. Unwritten ranges are holes and take no space.

    Attributes: `total`, the size of the whole file in bytes (None until known); `generation`, which changes
    whenever data that had arrived is discarded.
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
        """Number of bytes that have arrived."""
        with self._lock:
            return sum(stop - start for start, stop in self._done)

    @property
    def prefix(self) -> int:
        """Number of bytes that have arrived from the start of the file without a gap."""
        with self._lock:
            return self._done[0][1] if self._done and self._done[0][0] == 0 else 0

    def begin(self, total: int | None) -> None:
        """Set the size of the whole file, and discard data that belongs to a file of another size."""
        if total is None or total != self.total:
            self.restart()
            self.total = total

    def restart(self) -> None:
        """Discard everything that has arrived."""
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
        """Store `block` at `position`. Raises OSError, for example if the disk is full."""
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
        """Read bytes from `position` into `buffer` and return their number."""
        return os.preadv(self._file.fileno(), [buffer], position)

    def checkpoint(self) -> None:
        """Flush what has arrived, so that it also survives a power cut. Raises OSError if the disk fails."""
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
        """Merge [start, stop) with the ranges it touches."""
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
        """Load the state that an earlier process left; an invalid map counts as none."""
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
        """Hash up to `most` further bytes that have arrived, and return their number."""
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
        """Hash the remaining bytes; return a description of the first wrong digest, or None."""
        while self.expected and self.advance(_HASH_BLOCK):
            pass
        for name, expected in self.expected.items():
            if (found := self.hashes[name].hexdigest()) != expected:
                return f"its {name} is {found}, not the published {expected}"
        return None


class Window(io.RawIOBase):
    """A read-only, seekable view of a part file that downloads missing bytes when they are read."""

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
    """Identifier of the current boot of this machine, or None if the system provides none."""
    try:
        return _BOOT_ID.read_text(encoding="utf-8").strip()
    except OSError:
        return None
