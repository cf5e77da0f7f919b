"""A server on 127.0.0.1 that gives its files well or badly."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUFFER = 32 << 10  # bytes asked for; the system takes twice that


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

    def server_bind(self) -> None:
        """Give every connection a small buffer, so that what counts as sent has left for the client."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        super().server_bind()

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
