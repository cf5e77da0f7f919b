"""One request for some bytes of a URL, and which of its failures are transient.

`requests` handles http(s): MLflow already depends on it, it honours proxies and .netrc, and it provides the body's
bytes as they were sent. pooch and fsspec resume neither an interrupted file nor a dropped byte range, so `download`
implements that itself. file: URLs are read from the disk behind the same interface.
"""

import os
import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3

_BLOCK = 64 << 10
_TRANSIENT_STATUS = {408, 425, 429}  # and every 5xx


class Transient(Exception):
    """A failure that may be temporary; `pause` is the number of seconds the server asked to wait, or None."""

    def __init__(self, reason: str, pause: float | None = None):
        super().__init__(reason)
        self.pause = pause


class Refused(Exception):
    """This URL does not provide the file; another one may."""


def open_session() -> requests.Session:
    """Open a session with its own User-Agent: Zenodo asks for one, and has throttled clients named after a library."""
    session = requests.Session()
    session.headers.update({"User-Agent": "pushpull-fetch/1.0", "Accept-Encoding": "identity"})
    return session


class Reply:
    """The response to a request for the bytes [start, stop) of `url`, or for the whole file without `stop`.

    Attributes: `total`, the size of the whole file, or None if not stated; `ranged`, whether the body is the requested
    range (otherwise it is the whole file). Use it as a context manager, and only once. The constructor and `blocks`
    raise Transient or Refused.
    """

    def __init__(self, session: requests.Session, url: str, start: int, stop: int | None, timeout: float):
        if urlsplit(url).scheme == "file":
            self._open_file(url, start)
        else:
            self._request(session, url, start, stop, timeout)

    def __enter__(self) -> "Reply":
        return self

    def __exit__(self, *_: object) -> None:
        self._body.close()

    def blocks(self, limit: int | None) -> Iterator[bytes]:
        """Yield the body in blocks of up to 64 KiB, at most `limit` bytes in total."""
        while limit is None or limit > 0:
            size = _BLOCK if limit is None else min(_BLOCK, limit)
            try:
                # Not decoded: some servers declare a .gz file as gzip-encoded, but the checksums are of the .gz file.
                block = self._body.read(size, **self._read_options)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise Transient(_reason(error)) from error
            if not block:
                return
            if limit is not None:
                limit -= len(block)
            yield block

    def _open_file(self, url: str, start: int) -> None:
        path = Path(url2pathname(urlsplit(url).path))
        try:
            self._body = path.open("rb")
        except OSError as error:
            raise Refused(error.strerror or str(error)) from error
        self._body.seek(start)
        self._read_options = {}
        self.total, self.ranged = os.fstat(self._body.fileno()).st_size, True

    def _request(
        self, session: requests.Session, url: str, start: int, stop: int | None, timeout: float
    ) -> None:
        headers = {} if stop is None else {"Range": f"bytes={start}-{stop - 1}"}
        try:
            response = session.get(url, headers=headers, stream=True, timeout=timeout)
        except requests.RequestException as error:
            if isinstance(error, ValueError):  # not a URL, or an unknown scheme
                raise Refused(str(error)) from error
            raise Transient(_reason(error)) from error
        self._body, self._read_options = response.raw, {"decode_content": False}
        status, fields = response.status_code, response.headers
        if status in _TRANSIENT_STATUS or status >= 500:
            response.close()
            raise Transient(f"HTTP {status} {response.reason}", _retry_after(fields.get("Retry-After")))
        if status not in (200, 206):
            response.close()
            raise Refused(f"HTTP {status} {response.reason}")
        self.ranged = status == 206
        if self.ranged:
            given = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", fields.get("Content-Range", ""))
            if given is None or int(given[1]) != start:
                response.close()
                raise Refused(f"answers a range with {fields.get('Content-Range', 'no Content-Range')!r}")
            self.total = int(given[2])
        else:
            length = fields.get("Content-Length", "")
            self.total = int(length) if length.isdecimal() else None


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait according to a Retry-After header, which contains either seconds or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _reason(error: BaseException) -> str:
    """Message of the innermost cause, which is the informative one ("Connection refused")."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__
