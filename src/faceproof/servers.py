"""Files on web servers: http:// and https://, nothing else, with the standard library alone."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from faceproof.errors import PictureError, StorageError, UnreadableError

__all__ = ["ATTEMPTS", "SERVERS", "HttpFile", "asked", "redacted", "waits"]

SERVERS = ("http://", "https://")
ATTEMPTS, FIRST_WAIT = 4, 0.2
"""How often a piece of a file is asked for, and seconds before the second time; each wait is 4 times the last."""
_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s]*@")
_SECRET = re.compile(
    r"(?i)([?&;](?:x-amz-[^=&;#]*|x-goog-[^=&;#]*|"
    r"[^=&;#]*(?:token|secret|passw|pwd|signature|credential|api[-_]?key|access[-_]?key|accessid|session[-_]?id)[^=&;#]*|"
    r"auth|authorization|sig|expires|policy|key-pair-id|key(?==AIza)))=(?:(?!::)[^&;#])*"  # :: ends a shard's name
)
_NEAR = 1 << 20
"""Bytes that are sooner read than asked for."""


def redacted(url: str) -> str:
    """Return a URL without what opens doors: user and password, signatures, tokens, keys become ***.

    Two URLs of one object that were signed at different times become the same.
    """
    return _SECRET.sub(r"\1=***", _LOGIN.sub(r"\1***@", url))


def waits() -> Iterator[float]:
    """Seconds to wait between one attempt and the next."""
    for number in range(ATTEMPTS - 1):
        yield FIRST_WAIT * 4**number


def asked(url: str, timeout: float, **headers: str) -> Any:
    """Ask a server for a URL; return its answer, to be read and closed.

    Raises:
        UnreadableError: there is a user or password in the URL, or it is none.
        OSError, http.client.HTTPException: of urllib, for all that goes wrong on the way.
    """
    if _LOGIN.match(url):
        raise UnreadableError("cannot be fetched (a user or password in the URL); give a URL without")
    # An opener with these handlers alone: no file:, ftp: or data: URLs, not even after a redirect.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "faceproof", **headers})  # noqa: S310  (see above)
        return opener.open(request, timeout=timeout)
    except (http.client.InvalidURL, ValueError) as err:  # its message may hold the query, and so a signature
        raise UnreadableError("cannot be fetched (not a possible URL); check the URL") from err


class HttpFile(io.RawIOBase):
    """A file on a server to read bit by bit; what breaks off is asked for again from there on.

    Args:
        url: of the file.
        timeout: seconds to wait for the server, per read.

    Raises:
        UnreadableError: it is not there or may not be read; when opened. It cannot be read from the middle; in `seek`.
        StorageError: it does not come, not even after several tries; when opened or read.
    """

    def __init__(self, url: str, timeout: float = 20.0) -> None:
        super().__init__()
        self._url, self._timeout = url, timeout
        self._answer: Any = None
        self._at, self._size, self._ranges = 0, -1, False
        self._version: str | None = None
        self._connect(0)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether the server can begin in the middle."""
        return self._ranges

    def tell(self) -> int:
        """Bytes from the beginning."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if whence == io.SEEK_END and self._size < 0:
            raise UnreadableError("this server does not say how large the file is; download it first")
        if not self._at <= place <= self._at + _NEAR:
            if not self._ranges:
                raise UnreadableError("this server gives files from their beginning only; download it first")
            self._let_go()
            self._at = place
        while self._at < place and self.read(min(place - self._at, _NEAR)):
            pass
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as bytes come at once."""
        pauses = waits()
        while True:
            try:
                if self._size >= 0 and self._at >= self._size:
                    return 0
                if self._answer is None:
                    self._connect(self._at)
                data = self._answer.read(len(buffer))
                if not data and self._at < self._size:
                    raise http.client.IncompleteRead(b"")
            except (OSError, http.client.HTTPException) as err:
                self._let_go()
                pause = next(pauses, None)
                if pause is None:
                    raise self._fails(type(err).__name__) from None
                time.sleep(pause)
                continue
            buffer[: len(data)] = data
            self._at += len(data)
            return len(data)

    def close(self) -> None:
        """Let go of it."""
        self._let_go()
        super().close()

    def _let_go(self) -> None:
        if self._answer is not None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._answer.close()
        self._answer = None

    def _connect(self, place: int) -> None:
        pauses = waits()
        while True:
            try:
                answer = asked(self._url, self._timeout, Range=f"bytes={place}-")
                break
            except urllib.error.HTTPError as err:
                said, whole = err.code, err.code >= 500 or err.code == 429
                err.close()
                if said == 416:  # no bytes from there on: the file is empty, or ends here
                    self._size = place
                    return
                if not whole:
                    raise _refused(said) from None
                why = str(said)
            except (OSError, http.client.HTTPException) as err:
                why = type(getattr(err, "reason", err)).__name__
            pause = next(pauses, None)
            if pause is None:
                raise self._fails(why)
            time.sleep(pause)
        self._take(answer, place)

    def _take(self, answer: Any, place: int) -> None:
        """See what the answer is of: the file from `place` on, or the whole of it."""
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if self._version not in (None, version):
            answer.close()
            raise StorageError(f"{redacted(self._url)}: the file was changed while it was read; run the command again")
        self._answer, self._version, self._ranges = answer, version, answer.status == 206
        length = answer.headers.get("Content-Length", "")
        start = place if self._ranges else 0
        self._size = start + int(length) if length.isdigit() else -1
        while start < place:  # from the beginning once more, up to where it broke off
            skipped = len(answer.read(min(place - start, _NEAR)))
            if not skipped:
                raise http.client.IncompleteRead(b"")
            start += skipped

    def _fails(self, why: str) -> StorageError:
        shown = redacted(self._url)
        return StorageError(f"{shown}: the server fails or does not answer ({why}); run the command again to go on")


def _refused(code: int) -> PictureError:
    if code in (401, 403):
        return UnreadableError("permission denied; check who may read it")
    if code in (404, 410):
        return UnreadableError("no such object; check the URL")
    return UnreadableError(f"the server answered {code}; check the URL")
