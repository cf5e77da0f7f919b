"""Miniature archives of the published layouts, and a server on 127.0.0.1 that gives them well or badly."""

import hashlib
import io
import re
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from stages.archives import Archive, Member


@dataclass
class File:
    """What the server does with one path. Lists are used up, one item for each request."""

    content: bytes
    ranges: bool = True
    length: bool = True  # whether the size is stated
    rate: float | None = None  # bytes a second over all connections together
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # statuses given instead
    drops: list[int] = field(default_factory=list)  # bytes after which a body (that has more) breaks off
    most: int = 99  # bodies given at the same time; further requests get status 503
    page: bytes | None = None  # a web page with status 200, instead of the file
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """One request as the server saw it, and how many bytes of the body left."""

    path: str
    headers: dict[str, str]
    time: float
    sent: int = 0


class ArchiveServer(ThreadingHTTPServer):
    """Serves `files`, by path, and keeps every request."""

    daemon_threads = True

    def __init__(self, files: dict[str, File]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.requests, self.lock = files, [], threading.Lock()

    @property
    def sent(self) -> int:
        """Bytes of bodies given away so far."""
        with self.lock:
            return sum(request.sent for request in self.requests)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, *_: object) -> None:
        """Clients that go away are part of the tests."""


@contextmanager
def serving(**files: File) -> Iterator[ArchiveServer]:
    """A running server of `files`."""
    server = ArchiveServer(dict(files))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        request = Request(self.path, dict(self.headers), time.monotonic())
        with self.server.lock:
            self.server.requests.append(request)
            file = self.server.files.get(self.path.rsplit("/", 1)[-1])
            answer = file.answers.pop(0) if file and file.answers else None
        if file is None:
            self.reply(404, {"Content-Length": "0"})
        elif answer is not None:
            self.reply(answer[0], {"Content-Length": "0"} | answer[1])
        elif file.page is not None:
            self.reply(200, file.headers | {"Content-Length": str(len(file.page))})
            self.wfile.write(file.page)
        else:
            with self.server.lock:
                file.most -= 1
            try:
                if file.most < 0:
                    self.reply(503, {"Content-Length": "0"})
                else:
                    self.give(file, request)
            finally:
                with self.server.lock:
                    file.most += 1

    def give(self, file: File, request: Request) -> None:
        size = len(file.content)
        start, stop, status, headers = 0, size, 200, dict(file.headers)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if file.ranges and asked:
            start, stop = int(asked[1]), min(int(asked[2] or size) + 1, size)
            if start >= size:
                return self.reply(416, {"Content-Length": "0", "Content-Range": f"bytes */{size}"})
            status, headers["Content-Range"] = 206, f"bytes {start}-{stop - 1}/{size}"
        if file.length:
            headers["Content-Length"] = str(stop - start)
        else:
            headers["Connection"] = "close"
        self.reply(status, headers)
        with self.server.lock:
            dropped = bool(file.drops) and stop - start > file.drops[0]
            end = start + file.drops.pop(0) if dropped else stop
        while start < end:
            block = file.content[start : min(start + (16 << 10), end)]
            if file.rate is not None:
                with self.server.lock:
                    time.sleep(len(block) / file.rate)
            self.connection.sendall(block)
            start += len(block)
            with self.server.lock:
                request.sent += len(block)
        self.close_connection = dropped or not file.length

    def reply(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def npy_bytes(array: np.ndarray) -> bytes:
    """`array` as an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def tar_bytes(members: dict[str, bytes], folder: str, mode: str = "w") -> bytes:
    """A tar as the published ones are: a folder entry, then the members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        entry = tarfile.TarInfo(folder)
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
        for name, data in members.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def describe(content: bytes, name: str, members: list[Member], **facts: object) -> Archive:
    """The archives.yaml entry of the archive `content`; `facts` replace or add to what is true of it."""
    entry = {
        "name": name,
        "data": "cifar10",
        "part": "c",
        "layout": "npy",
        "folder": name.split(".")[0],
        "urls": ["http://127.0.0.1:9/unused"],
        "bytes": len(content),
        "md5": hashlib.md5(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "members": {m.name: m.model_dump(exclude={"name"}) for m in members},
    }
    return Archive(**(entry | facts))


def corruptions(
    images: int = 200, names: tuple[str, ...] = ("fog", "frost", "snow"), listed: bool = True, **facts: object
) -> tuple[Archive, bytes, dict[str, np.ndarray]]:
    """A miniature CIFAR-10-C.tar: its entry, its bytes, its arrays. `listed`: its members have an md5."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (5 * images, 32, 32, 3), np.uint8) for name in names}
    arrays["labels"] = rng.integers(0, 10, 5 * images).astype(np.uint8)
    files = {f"{name}.npy": npy_bytes(array) for name, array in arrays.items()}
    members = [
        Member(name=f, shape=arrays[f[:-4]].shape, md5=hashlib.md5(data).hexdigest() if listed else None)
        for f, data in files.items()
    ]
    content = tar_bytes(files | {"README.txt": b"not listed, and left alone"}, "CIFAR-10-C")
    return describe(content, "CIFAR-10-C.tar", members, **facts), content, arrays
