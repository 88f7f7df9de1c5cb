"""What a server allows: sizes, times, how many at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from faceproof.errors import UsageError
from faceproof.images import Limits, opened
from faceproof.openai_images import BASE_URL
from faceproof.scan import Options
from faceproof.workers import default_workers

__all__ = ["TOKEN_VARIABLE", "Generation", "Settings", "read_token"]

MEBIBYTE = 1 << 20
TOKEN_VARIABLE = "FACEPROOF_TOKEN"  # noqa: S105  (the name of a variable)
SECONDS: Mapping[str, float] = MappingProxyType(
    {"check": 30, "compare": 60, "duplicates": 120, "explain": 180, "report": 180, "video": 300}
)
"""Seconds a worker may take for each verb before it is stopped."""


@dataclass(frozen=True)
class Generation:
    """Pictures made on request, for money.

    Attributes:
        model: as the image API calls it.
        base_url: of the API, up to /v1.
        key: None for an API that wants none.
        budget: US dollars for the life of the server.
        price: US dollars a picture; None takes those of `prices`.
        parallel: pictures being made at once; more are refused with 429.
        timeout: seconds to wait for one.
    """

    model: str = "gpt-image-2.6-flare"
    base_url: str = BASE_URL
    key: str | None = field(default=None, repr=False)
    budget: float = 5.0
    price: float | None = None
    parallel: int = 4
    timeout: float = 180.0

    def __post_init__(self) -> None:
        if not 0 <= self.budget < 1e6:
            raise UsageError(f"--budget {self.budget} is no sum; give US dollars, such as 5")
        if self.parallel < 1:
            raise UsageError(f"at least one picture must be made at a time, not {self.parallel}")


@dataclass(frozen=True)
class Settings:
    """How a server runs.

    Attributes:
        options: model, rates and gates of the checkers; its limits bound pictures, in pixels and bytes.
        workers: processes that check; 0 takes one per core.
        waiting: requests that may wait for a worker; more are refused with 429.
        most_video: bytes of a video.
        most_files: pictures of one request for duplicates.
        most_held: bytes of all uploads held at once; more are refused with 429.
        body_seconds: in which a request's body must have arrived.
        seconds: a verb -> seconds a worker may take.
        urls: whether pictures may be fetched from public web addresses.
        hosts: names besides localhost under which the server may be asked; "*" takes all.
        token: what requests must carry; None asks for nothing.
        generation: who makes pictures from prompts; None makes none.
    """

    options: Options = field(default_factory=lambda: Options(limits=Limits(50_000_000, 20 * MEBIBYTE)))
    workers: int = 0
    waiting: int = 32
    most_video: int = 100 * MEBIBYTE
    most_files: int = 60
    most_held: int = 256 * MEBIBYTE
    body_seconds: float = 30.0
    seconds: Mapping[str, float] = field(default_factory=lambda: SECONDS)
    urls: bool = False
    hosts: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    generation: Generation | None = None

    def __post_init__(self) -> None:
        if self.workers < 0 or self.waiting < 1 or self.most_files < 2 or self.body_seconds <= 0:
            raise UsageError(f"workers, waiting, files and seconds must be positive: {self}")
        if min(self.most_video, self.most_held) < self.most_picture:
            raise UsageError("the limits of videos and of all uploads must not be below that of one picture")
        if self.token is not None and (
            len(self.token) < 16 or not self.token.isascii() or not self.token.isprintable()
        ):
            raise UsageError(
                "a token needs at least 16 printable ASCII characters; make one with: openssl rand -hex 24"
            )

    @property
    def most_picture(self) -> int:
        """Bytes of a picture."""
        return self.options.limits.max_bytes

    @property
    def processes(self) -> int:
        """How many workers there are."""
        return self.workers or default_workers()


def read_token(path: str | os.PathLike[str] | None) -> str | None:
    """Return the token in a file's first line; for None, that of the environment; None where there is none.

    Raises:
        UsageError: there is a file, and no token in it.
        UnreadableError: it cannot be read.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    with opened(path):
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    if not text.strip():
        raise UsageError(f"{os.fspath(path)} holds no token; write one into its first line")
    return text.strip().splitlines()[0].strip()
