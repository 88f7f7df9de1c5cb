"""Errors as the API gives them: a status below 500 for what the caller can mend, and one shape for all."""

from __future__ import annotations

import json
from collections.abc import Mapping

from faceproof.errors import (
    DamagedError,
    FaceproofError,
    MissingExtraError,
    NotAPictureError,
    PictureError,
    StorageError,
    TooLargeError,
    UnreadableError,
    UsageError,
    VideoError,
)

__all__ = ["Problem", "problem_of"]

_KINDS: tuple[tuple[type[FaceproofError], int, str], ...] = (
    (NotAPictureError, 415, "not_a_picture"),
    (TooLargeError, 413, "too_large"),
    (DamagedError, 422, "damaged"),
    (VideoError, 422, "not_a_video"),
    (UnreadableError, 422, "unreadable"),
    (PictureError, 422, "nothing_to_judge"),
    (StorageError, 422, "unreadable"),
    (MissingExtraError, 404, "not_installed"),
    (UsageError, 400, "bad_request"),
)
"""The first that fits counts: subclasses stand before their bases."""


class Problem(Exception):  # noqa: N818  (what an answer says, not a failure of ours)
    """An answer that is an error.

    Args:
        status: of HTTP.
        code: for programs: lower case, stable.
        message: for people: what was wrong and what to do.
        headers: to send with it.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})

    def body(self) -> bytes:
        """Return the JSON: {"error": {"code", "message", "status"}}."""
        error = {"code": self.code, "message": self.message, "status": self.status}
        return json.dumps({"error": error}, ensure_ascii=False).encode("utf-8", "backslashreplace")


def problem_of(err: FaceproofError) -> Problem:
    """Return what the API answers for one of the library's errors."""
    for kind, status, code in _KINDS:
        if isinstance(err, kind):
            return Problem(status, code, str(err))
    return Problem(500, "internal", "the server cannot do this now; its log says why")
