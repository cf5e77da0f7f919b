"""Download one published archive, complete and verified, over unreliable connections.

A file is divided into segments that several connections request in order of position. The gapless prefix therefore
grows steadily, and the main thread hashes it from the page cache behind the writers: verification needs no extra pass
over the disk. After a restart, the part that is already there is hashed again while the rest arrives.
"""

import logging
import random
import re
import sys
import tarfile
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import requests
from filelock import FileLock
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from archives.catalogue import Archive, ArchiveError, gigabytes, require_space
from archives.part_file import PartFile, PrefixDigests, Window
from archives.transport import Refused, Reply, Transient, open_session
from archives.unpack import published_members

log = logging.getLogger(__name__)
T = TypeVar("T")

_SMALLEST_SEGMENT = 8 << 20
_HASH_TURN = 64 << 20  # most bytes hashed between two checks of the time
_FLUSH_EVERY = 2.0  # seconds
_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body|!--)", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]*>\s*(.{1,80}?)\s*</title", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Policy:
    """Connections, request sizes, retries and timeouts of a download. Times in seconds, sizes in bytes."""

    connections: int = 4
    segment: int = 64 << 20  # most bytes in one request
    attempts: int = 6  # consecutive failures, without a byte of progress, after which a URL is given up
    backoff: float = 1.0  # pause before the first retry; doubles with each further one
    longest_pause: float = 300.0  # a server that asks for a longer pause is given up
    timeout: float = 30.0  # without receiving a byte
    slow: int = 100_000  # bytes per second; below it the next URL is tried, if there is one
    slow_after: float = 30.0


class _TooSlow(Refused):
    """This URL provides the file, but too slowly."""


class _Halted(Exception):
    """This connection stops because something else failed permanently."""


def download(
    archive: Archive, folder: Path, names: Collection[str] | None = None, policy: Policy = Policy()
) -> Path:
    """Download `archive` into `folder` and return its path; an existing file of that name is used as it is.

    The URLs are tried in order, and data from one URL is kept for the next. The file gets its final name only after
    its size and every published digest have been verified. With `names` (`fog`, `frost`, ...), only those members of a
    plain tar are requested, if the server supports byte ranges. The result is then `<name>.tar.part`, a tar with holes
    in which only these members may be read. Members with a published md5 are verified.

    Raises ArchiveError if no URL provides the file (the message lists the URLs, their failures and remedies), if the
    disk is full or too small, or if `names` contains an unknown name. What has arrived is kept for the next run.
    """
    archive.choose(names)
    target = folder / archive.name
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{archive.name}.lock"):  # a second process waits, then finds the file
            if target.exists():
                return target
            with PartFile(target.with_name(f"{target.name}.part")) as part, open_session() as session:
                return _from_any_url(archive, part, session, target, names, policy)
    except OSError as error:
        raise ArchiveError(
            f"{archive.name} cannot be written to {folder}: {error.strerror or error}. Make room there or choose "
            f"another folder with data.archives, then run it again: data fetched from {archive.urls[0]} is kept."
        ) from error


def _from_any_url(
    archive: Archive,
    part: PartFile,
    session: requests.Session,
    target: Path,
    names: Collection[str] | None,
    policy: Policy,
) -> Path:
    """Try the URLs in order; a slow one gets a second try, without a speed limit, after the others."""
    failures: dict[str, str] = {}
    turns = deque((url, len(archive.urls) > 1) for url in archive.urls)
    while turns:
        url, hurried = turns.popleft()
        try:
            return _Transfer(archive, part, session, url, policy, hurried).run(target, names)
        except Refused as refusal:
            log.warning("%s: %s: %s", archive.name, url, refusal)
            failures[url] = str(refusal)
            if isinstance(refusal, _TooSlow):
                turns.append((url, False))
    reasons = "\n".join(f"  {url}: {reason}" for url, reason in failures.items())
    kept = f"{gigabytes(part.received)} are kept for the next run. " if part.received else ""
    if not part.received:
        part.discard()
    raise ArchiveError(
        f"{archive.name} could not be fetched:\n{reasons}\n{kept}What to do: run it again later; or add a mirror "
        f"to its urls in data/archives.yaml; or put the file (md5 {archive.md5}) into a folder by hand and set "
        f"data.archives to that folder."
    )


class _Transfer:
    """One attempt to download an archive from one URL. Raises Refused if the URL fails, OSError if the disk does."""

    def __init__(
        self,
        archive: Archive,
        part: PartFile,
        session: requests.Session,
        url: str,
        policy: Policy,
        hurried: bool,
    ):
        self.archive, self.part, self.session, self.url = archive, part, session, url
        self.policy, self.hurried = policy, hurried
        self.halt = threading.Event()

    def run(self, target: Path, names: Collection[str] | None) -> Path:
        """Download the file, verify it and give it its final name; or only the members called `names`, as a `.part`."""
        log.info("%s: from %s to %s", self.archive.name, self.url, target.parent)
        total, ranged = self.patiently(self.probe, lambda: 0)
        if self.archive.bytes is not None and total not in (None, self.archive.bytes):
            raise Refused(f"has {total:,} bytes, but the published file has {self.archive.bytes:,}")
        self.part.begin(total or self.archive.bytes)
        chosen = {member.name for member in self.archive.choose(names)}
        if ranged and len(chosen) < len(self.archive.members) and self.archive.name.endswith(".tar"):
            return self.bring_members(chosen)
        resumed = self.part.received > 0
        digests = PrefixDigests(self.archive.digests, self.part)
        if ranged:
            self.bring([(0, self.part.total)], digests)
        else:
            log.warning("%s: %s has no byte ranges; fetching it from the start", self.archive.name, self.url)
            self.require_space((self.part.total or 0) - self.part.received)
            self.work([self.bring_stream], self.part.total, digests)
        if wrong := digests.difference():
            self.part.restart()
            if resumed:  # the wrong bytes may be from an earlier run or another URL
                log.warning("%s: %s; fetching all of it again", self.archive.name, wrong)
                return self.run(target, names)
            raise Refused(f"{wrong}: the file is damaged or not the published one")
        self.part.finish(target)
        return target

    def probe(self) -> tuple[int | None, bool]:
        """Return the size of the file, or None if not stated, and whether the server supports byte ranges."""
        with Reply(self.session, self.url, 0, 1024, self.policy.timeout) as reply:
            head = b"".join(reply.blocks(1024))
        # Check the content, not its declared type: servers mislabel both archives and error pages.
        if _WEB_PAGE.match(head):
            title = _TITLE.search(head)
            named = f" ({title[1].decode(errors='replace')!r})" if title else ""
            raise Refused(f"returned a web page{named} instead of the file")
        return reply.total, reply.ranged

    def bring_members(self, names: set[str]) -> Path:
        """Download the members called `names` and the tar headers before them; verify members with a published md5."""
        places = {}
        try:
            with tarfile.open(fileobj=Window(self.part, self.bring_segment), mode="r:") as tar:
                for info, member in published_members(tar, self.archive):
                    places[member.name] = member, info.offset_data, info.offset_data + info.size
        except tarfile.TarError as error:
            raise Refused(f"is not a readable tar: {error}") from error
        if missing := names - places.keys():
            raise Refused(f"does not hold {', '.join(sorted(missing))}")
        wanted = [places[name] for name in sorted(names)]
        self.bring([(start, stop) for _, start, stop in wanted])
        for member, start, stop in wanted:
            digests = PrefixDigests({"md5": member.md5} if member.md5 else {}, self.part, start, stop)
            if wrong := digests.difference():
                self.part.forget(start, stop)
                raise Refused(f"{member.name}: {wrong}")
        return self.part.path

    def bring(self, wanted: list[tuple[int, int]], digests: PrefixDigests | None = None) -> None:
        """Fill every gap in the `wanted` ranges over several connections."""
        gaps = [gap for start, stop in wanted for gap in self.part.missing(start, stop)]
        size = sum(stop - start for start, stop in gaps)
        self.require_space(size)
        step = min(self.policy.segment, max(size // (4 * self.policy.connections), _SMALLEST_SEGMENT))
        segments = deque(
            (at, min(at + step, stop)) for start, stop in gaps for at in range(start, stop, step)
        )

        failures: list[Refused] = []

        def connection() -> None:
            while not self.halt.is_set():
                try:
                    start, stop = segments.popleft()
                except IndexError:
                    return
                try:
                    for gap in self.part.missing(start, stop):
                        self.bring_segment(*gap)
                except Refused as refusal:
                    segments.appendleft((start, stop))
                    failures.append(refusal)
                    return

        goal, connections = self.part.received + size, self.policy.connections
        while segments:
            connections = min(connections, len(segments))
            self.work([connection] * connections, goal, digests)
            if len(failures) == connections:
                raise failures[0]
            connections -= len(failures)  # the server may allow fewer connections
            failures.clear()

    def bring_segment(self, start: int, stop: int) -> None:
        """Download the bytes [start, stop), resuming where a connection broke."""
        position = start

        def attempt() -> None:
            nonlocal position
            with Reply(self.session, self.url, position, stop, self.policy.timeout) as reply:
                if not reply.ranged:
                    raise Transient("no longer supports byte ranges")
                if reply.total != self.part.total:
                    raise Refused("has changed since the transfer began")
                for block in reply.blocks(stop - position):
                    self.write(block, position)
                    position += len(block)
            if position < stop:
                raise Transient(f"closed the connection {stop - position:,} bytes early")

        self.patiently(attempt, lambda: position)

    def bring_stream(self) -> None:
        """Download the file from start to end; after a broken connection, from the start again."""
        total = self.part.total

        def attempt() -> None:
            position = 0
            if total is None:  # nothing shows that the bytes so far are of the same file
                self.part.restart()
            with Reply(self.session, self.url, 0, None, self.policy.timeout) as reply:
                for block in reply.blocks(total):
                    # Existing bytes are not overwritten: they may be hashed already, and the new ones may differ.
                    for start, stop in self.part.missing(position, position + len(block)):
                        self.write(block[start - position : stop - position], start)
                    position += len(block)
            if total is not None and self.part.missing(0, total):
                raise Transient(f"closed the connection {total - position:,} bytes early")

        self.patiently(attempt, lambda: self.part.received)

    def write(self, block: bytes, position: int) -> None:
        if self.halt.is_set():
            raise _Halted
        self.part.write(block, position)

    def patiently(self, attempt: Callable[[], T], progress: Callable[[], int]) -> T:
        """Retry `attempt` after transient failures, with increasing pauses or those that the server asks for."""
        failures, best = 0, progress()
        while True:
            try:
                return attempt()
            except Transient as failure:
                failures = failures + 1 if progress() <= best else 1
                best = max(best, progress())
                if failures >= self.policy.attempts:
                    raise Refused(f"{failure}, {failures} times in a row") from failure
                pause = failure.pause
                if pause is None:
                    pause = self.policy.backoff * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
                elif pause > self.policy.longest_pause:
                    raise Refused(f"{failure}, and asks to wait {pause:.0f} s") from failure
                log.warning("%s: %s: %s; retrying in %.1f s", self.archive.name, self.url, failure, pause)
            if self.halt.wait(pause):
                raise _Halted

    def work(
        self, connections: list[Callable[[], None]], goal: int | None, digests: PrefixDigests | None
    ) -> None:
        """Run the connections in threads; meanwhile hash, flush, show progress and check the transfer rate."""
        begun, flushed, received = time.monotonic(), time.monotonic(), self.part.received
        bar = tqdm(desc=self.archive.name, total=goal, initial=received, unit="B", unit_scale=True)
        bar.mininterval = 0.5 if sys.stderr.isatty() else 30  # each update is a line in a log
        with ThreadPoolExecutor(max(len(connections), 1)) as pool, logging_redirect_tqdm(), bar:
            running = [pool.submit(connection) for connection in connections]
            try:
                while not _settled(running):
                    if digests is None or digests.advance(_HASH_TURN) < _HASH_TURN:
                        wait(running, timeout=0.1, return_when=FIRST_EXCEPTION)
                    bar.update(self.part.received - bar.n)
                    now = time.monotonic()
                    if now - flushed > _FLUSH_EVERY:
                        self.part.checkpoint()
                        flushed = now
                    if self.hurried and now - begun > self.policy.slow_after:
                        rate = (self.part.received - received) / (now - begun)
                        if rate < self.policy.slow:
                            raise _TooSlow(f"sends only {rate / 1e3:.0f} kB/s")
                        begun, received = now, self.part.received
            finally:
                self.halt.set()
                wait(running)
                self.part.checkpoint()
                bar.update(self.part.received - bar.n)
        for future in running:
            if not isinstance(future.exception(), _Halted):
                future.result()
        self.halt.clear()

    def require_space(self, size: int) -> None:
        require_space([(self.part.path.parent, size)], f"The rest of {self.archive.name} from {self.url}")


def _settled(running: list[Future[None]]) -> bool:
    """Whether all futures are done, or one has failed."""
    return all(future.done() for future in running) or any(
        future.done() and future.exception() is not None for future in running
    )
