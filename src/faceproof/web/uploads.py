"""Files of a request, read into memory and never onto a disk, refused as soon as they are too large."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import anyio
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Message, Receive

from faceproof.images import Encoded, printable
from faceproof.web.problems import Problem
from faceproof.web.settings import MEBIBYTE, Settings
from faceproof.web.verbs import Verb

__all__ = ["Held", "Incoming", "counted", "is_json", "label", "read_files", "read_prompt", "read_urls"]

MOST_NAME = 200
MOST_JSON = 64 * 1024
MOST_PROMPT = 4000
DRAINED = 1 << 20
_OVERHEAD = 64 * 1024
"""Bytes of a form besides its files."""


class Held:
    """Bytes of all uploads in memory, bounded.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most, self.now = most, 0

    def take(self, size: int) -> None:
        """Count bytes that came.

        Raises:
            Problem: there is no room for them.
        """
        if self.now + size > self.most:
            raise Problem(429, "busy", "too many uploads at once; ask again in 2 s", {"Retry-After": "2"})
        self.now += size


class Incoming:
    """What comes of one request; it knows whether all of it has.

    Args:
        receive: of ASGI.

    Attributes:
        ended: whether nothing more can come.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive, self.ended = receive, False

    async def __call__(self) -> Message:
        """Return the next message."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.ended = True
        return message

    async def drain(self, headers: Headers) -> None:
        """Take what is left of a small body, so that whoever sends it reads the answer instead of a reset."""
        length = headers.get("content-length", "0")
        if self.ended or "expect" in headers or not length.isdigit() or int(length) > DRAINED:
            return
        taken = 0
        with anyio.move_on_after(1):
            while not self.ended and taken < DRAINED:
                taken += len((await self()).get("body", b""))


class _InMemory(MultiPartParser):
    """Starlette's reader of forms, kept from writing large parts to disk."""

    spool_max_size = 1 << 62


@asynccontextmanager
async def counted(held: Held) -> AsyncIterator[list[int]]:
    """Count what a request holds as long as it is worked on; the list holds the bytes so far."""
    own = [0]
    try:
        yield own
    finally:
        held.now -= own[0]


async def read_files(
    request: Request, verb: Verb, settings: Settings, held: Held, own: list[int], name: str
) -> tuple[Encoded, ...]:
    """Return the files of a request: of a form, or the body as one file.

    Args:
        request: of which nothing was read yet.
        verb: says how many there may be.
        settings: the limits.
        held: counts the bytes of all requests. own: those of this one, see `counted`.
        name: of a file that has none.

    Raises:
        Problem: too many, too few, too large, too slow, or not to be read.
    """
    each = settings.most_video if verb.name == "video" else settings.most_picture
    count = verb.most or settings.most_files
    most = min(each * count, held.most)
    form = _kind(request) == "multipart/form-data"
    stream = _bounded(request, most + (_OVERHEAD if form else 0), each, held, own)
    try:
        with anyio.fail_after(settings.body_seconds * (3 if verb.name == "video" else 1)):
            if form:
                files = await _form_files(request, stream, verb, count)
            else:
                files = (Encoded(label(name), b"".join([block async for block in stream])),)
    except TimeoutError:
        raise Problem(408, "too_slow", f"the file did not arrive within {settings.body_seconds:g} s") from None
    for file in files:
        if len(file.data) > each:
            raise too_large(each)
    if not verb.least <= len(files) <= count:
        wanted = str(count) if verb.least == count else f"{verb.least} to {count}"
        raise Problem(
            400, "bad_request", f"{verb.name} takes {wanted} file(s) in a form, this request has {len(files)}"
        )
    return files


async def read_urls(request: Request, verb: Verb, settings: Settings, own: list[int], held: Held) -> tuple[str, ...]:
    """Return the URLs in a request's JSON: {"url": "..."} or {"urls": ["...", "..."]}.

    Raises:
        Problem: it is something else, or the server fetches nothing.
    """
    if not settings.urls:
        raise Problem(403, "urls_off", "this server fetches nothing from the web; send the file itself")
    stream = _bounded(request, MOST_JSON, MOST_JSON, held, own)
    try:
        with anyio.fail_after(settings.body_seconds):
            text = b"".join([block async for block in stream])
        given: Any = json.loads(text)
    except TimeoutError:
        raise Problem(408, "too_slow", f"the request did not arrive within {settings.body_seconds:g} s") from None
    except (ValueError, RecursionError):
        raise Problem(400, "bad_json", 'the body is not JSON; send {"url": "https://..."}') from None
    urls = [given.get("url")] if isinstance(given, dict) and "url" in given else None
    if isinstance(given, dict) and "urls" in given and urls is None:
        urls = given["urls"]
    count = verb.most or settings.most_files
    if (
        not isinstance(given, dict)
        or len(given) != 1
        or not isinstance(urls, list)
        or not all(isinstance(url, str) for url in urls)
        or not verb.least <= len(urls) <= count
    ):
        raise Problem(400, "bad_json", f'send {{"url": "https://..."}}, or {{"urls": [...]}} with {verb.least} or more')
    return tuple(urls)


async def read_prompt(request: Request, settings: Settings, own: list[int], held: Held) -> str:
    """Return the prompt of a request: the field `prompt` of JSON or of a form.

    Raises:
        Problem: there is none, or one that is too long.
    """
    stream = _bounded(request, MOST_JSON, MOST_JSON, held, own)
    kind, given = _kind(request), None
    try:
        with anyio.fail_after(settings.body_seconds):
            if kind == "multipart/form-data":
                parser = _InMemory(request.headers, stream, max_files=0, max_fields=5, max_part_size=MOST_JSON)
                given = (await parser.parse()).get("prompt")
            else:
                text = b"".join([block async for block in stream])
                if kind == "application/json":
                    said = json.loads(text)
                    given = said["prompt"] if isinstance(said, dict) and set(said) == {"prompt"} else None
                elif kind == "application/x-www-form-urlencoded":
                    given = parse_qs(text.decode(), max_num_fields=5).get("prompt", [None])[0]
                else:
                    raise Problem(415, "not_a_prompt", 'send {"prompt": "..."} as application/json, or a form')
    except TimeoutError:
        raise Problem(408, "too_slow", f"the request did not arrive within {settings.body_seconds:g} s") from None
    except (MultiPartException, ValueError, LookupError, TypeError, RecursionError):
        raise Problem(400, "bad_prompt", 'the body cannot be read; send {"prompt": "..."} or a form') from None
    prompt = given.strip() if isinstance(given, str) else ""
    if not 1 <= len(prompt) <= MOST_PROMPT or any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise Problem(400, "bad_prompt", f"give one text of 1 to {MOST_PROMPT} letters in the field prompt, alone")
    return prompt


def is_json(request: Request) -> bool:
    """Return whether the body says that it is JSON."""
    return _kind(request) == "application/json"


def label(name: str) -> str:
    """Return what a file is called in records: the last part of a path, without control characters, not too long.

    A name is never used to open anything.
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    clean = "".join(letter for letter in last if letter.isprintable())[:MOST_NAME]
    return printable(clean) if clean.strip(". ") else "upload"


def too_large(most: int) -> Problem:
    """Return the answer to a file of more bytes."""
    return Problem(413, "too_large", f"a file of more than {most / MEBIBYTE:g} MiB; give a smaller one")


def _kind(request: Request) -> str:
    return str(request.headers.get("content-type", "").partition(";")[0]).strip().lower()


async def _bounded(request: Request, most: int, each: int, held: Held, own: list[int]) -> AsyncGenerator[bytes, None]:
    """Give the body block by block; what is too large is refused before it is read, or while it is."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise too_large(each)
    size = 0
    async for block in request.stream():
        size += len(block)
        if size > most:
            raise too_large(each)
        held.take(len(block))
        own[0] += len(block)
        yield block


async def _form_files(
    request: Request, stream: AsyncGenerator[bytes, None], verb: Verb, count: int
) -> tuple[Encoded, ...]:
    try:
        form = await _InMemory(request.headers, stream, max_files=count, max_fields=20, max_part_size=4096).parse()
    except (MultiPartException, ValueError, LookupError, TypeError) as err:
        message = err.message if isinstance(err, MultiPartException) else "the form cannot be read"
        raise Problem(400, "bad_form", f"{message.rstrip('.')}; {verb.name} takes at most {count} file(s)") from err
    try:
        found = [one for _, one in form.multi_items() if isinstance(one, UploadFile)]
        return tuple([Encoded(label(one.filename or ""), await one.read()) for one in found])
    finally:
        await form.close()
