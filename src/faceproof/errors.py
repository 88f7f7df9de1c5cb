"""Every error faceproof raises on purpose.

    FaceproofError
    ├── UsageError              a wrong argument, option or combination (exit code 2)
    ├── PictureError            one picture cannot be used; a scan records it and goes on
    │   ├── UnreadableError     missing, not permitted, not a regular file, a link loop
    │   ├── NotAPictureError    the bytes are not a picture in a format we read
    │   ├── DamagedError        a picture that begins well and breaks off, or is inconsistent
    │   ├── TooLargeError       more pixels or bytes than the limits allow
    │   └── VideoError          a video or camera without pictures to check: no stream, no codec, absent, busy
    ├── ModelError              a model folder that must not be used (hash, card, shapes)
    ├── StorageError            a bucket or server fails as a whole (absent, denied, no answer)
    ├── OutputError             results cannot be written (disk full, locked, another schema)
    └── MissingExtraError       an optional dependency is absent; the message has the install line

Messages say what was wrong, what was given and what to do, in one line.
"""

from __future__ import annotations

__all__ = [
    "DamagedError",
    "FaceproofError",
    "MissingExtraError",
    "ModelError",
    "NotAPictureError",
    "OutputError",
    "PictureError",
    "StorageError",
    "TooLargeError",
    "UnreadableError",
    "UsageError",
    "VideoError",
    "plain",
    "unknown_name",
]


class FaceproofError(Exception):
    """Base of all errors below: catch this one to catch them all."""


class UsageError(FaceproofError):
    """The caller asked for something that cannot be: a wrong option, type or combination."""


class PictureError(FaceproofError):
    """One picture cannot be used. Others are not affected."""


class UnreadableError(PictureError):
    """The file cannot be opened: missing, forbidden, a folder, a pipe, a link loop."""


class NotAPictureError(PictureError):
    """The bytes are not a picture in any format we read."""


class DamagedError(PictureError):
    """The file begins like a picture but its data are truncated or inconsistent."""


class TooLargeError(PictureError):
    """More pixels or bytes than the limits allow; nothing was decoded."""


class VideoError(PictureError):
    """A video or camera that gives no pictures: no video stream, no frame, no decoder, absent, busy, lost."""


class ModelError(FaceproofError):
    """A model folder that must not be used: no card, wrong hash, wrong shapes."""


class StorageError(FaceproofError):
    """A bucket or server fails as a whole: not there, not allowed, no answer. What was done is safe."""


class OutputError(FaceproofError):
    """Results cannot be written where they should go."""


class MissingExtraError(FaceproofError):
    """An optional dependency is not installed. The message names the install line."""


def plain(text: object) -> str:
    """Return text on one line without control characters: a file's name must not drive a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(text))


def unknown_name(kind: str, given: str, known: list[str]) -> UsageError:
    """Build the error for a name that is not among `known`, with the nearest one if any is near."""
    import difflib

    near = difflib.get_close_matches(given, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {kind} {given!r}{hint} Known: {', '.join(known)}.")
