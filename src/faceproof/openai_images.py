"""Pictures from OpenAI's image API, or any server that speaks its protocol, through the official client.

Needs the extra `openai`. The client's own second tries are turned off: `generating.Run` keeps the pace and counts what
was asked for. Answers are read up to a limit before they are parsed. Keys come from the environment or from a file, go
to the server and nowhere else: records hold the server's address without them, and messages are cleaned of them.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import ipaddress
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from faceproof.errors import FaceproofError, PictureError, StorageError, UsageError, plain, unknown_name
from faceproof.extras import require
from faceproof.generated_records import Answer, Job, NotServedError, TryAgainError
from faceproof.generating import encoded, fitted
from faceproof.images import Limits, fetch, opened, printable
from faceproof.prices import cost_of
from faceproof.servers import redacted

__all__ = ["BASE_URL", "KEY_VARIABLE", "TASKS", "OpenAIImages", "read_key"]

RGB = npt.NDArray[np.uint8]
BASE_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
TASKS = {
    "text": "a picture from a prompt alone",
    "edit": "a photograph made again after a prompt",
    "variation": "a photograph made again without one (OpenAI has retired it; servers of your own may have it)",
}
OWN_FIELDS = frozenset({"model", "prompt", "n", "size", "quality", "image", "stream", "seed"})
"""Fields of a request that `more` must not change: two pictures a request would be paid for and one kept."""
MAX_ANSWER = 96 * 2**20
"""Bytes of one answer: a picture of 3840 x 2160 as base64 takes about 40 million."""
REFUSED = ("content_policy_violation", "moderation_blocked", "content_filter", "image_generation_user_error")
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


def read_key(path: str | os.PathLike[str] | None = None) -> str | None:
    """Return the API key: of a file, else of the environment (OPENAI_API_KEY), else None.

    Raises:
        UsageError: the file cannot be read, others may read it, or it holds no key.
    """
    if path is None:
        key = os.environ.get(KEY_VARIABLE, "").strip()
        where = f"the environment variable {KEY_VARIABLE}"
    else:
        where = f"the key file {printable(path)}"
        key = _key_in(path, where)
    if not key:
        if path is None:
            return None
        raise UsageError(f"{where} is empty; write the key into it, alone")
    if not re.fullmatch(r"[!-~]{1,1000}", key):
        raise UsageError(f"{where} holds no key: a key has no spaces, line ends or other letters than ASCII's")
    return key


def _key_in(path: str | os.PathLike[str], where: str) -> str:
    try:
        with opened(path) as (handle, _):
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            if os.name == "posix" and mode & 0o077:
                raise UsageError(
                    f"{where} can be read by others (mode {mode:03o}); take that away: chmod 600 {printable(path)}"
                )
            return os.read(handle, 4096).decode("utf-8", "replace").strip()
    except PictureError as err:
        raise UsageError(f"{where} cannot be read: {plain(err).split(';')[0]}") from err


@dataclass
class OpenAIImages:
    """A generator (`generating.Generator`) behind an image API.

    Attributes:
        model: as the server calls it.
        task: one of `TASKS`.
        size: "1024x1024" and so on, or "auto".
        quality: "low", "medium", "high", ... ; "" leaves it to the server.
        base_url: of the API, up to /v1.
        key: None for a server that wants none.
        timeout: seconds to wait for a picture.
        more: further fields of the request, JSON values.
        send_seed: send each picture's seed as the field "seed" (servers of your own; OpenAI's takes none).

    Raises:
        UsageError: when made: an unknown task, an impossible URL or size, a key that would travel unencrypted.
        MissingExtraError: the client is not installed.
    """

    model: str
    task: str = "text"
    size: str = "1024x1024"
    quality: str = ""
    base_url: str = BASE_URL
    key: str | None = field(default=None, repr=False)
    timeout: float = 180.0
    more: Mapping[str, Any] = field(default_factory=dict)
    send_seed: bool = False
    limits: Limits = field(default_factory=Limits)
    parallel: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise unknown_name("task", self.task, list(TASKS))
        if self.size != "auto" and not re.fullmatch(r"[1-9]\d{1,3}x[1-9]\d{1,3}", self.size):
            raise UsageError(f"the size {self.size!r} is not WIDTHxHEIGHT such as 1024x1024, or auto")
        if not 0 < self.timeout < 3600:
            raise UsageError(f"--timeout {self.timeout} must lie between 0 and 3600 seconds")
        if own := sorted(OWN_FIELDS & set(self.more)):
            raise UsageError(f"--set {own[0]}=...: that field has its own option, or must stay as it is")
        _check_server(self.base_url, self.key)
        if self.task == "variation" and self.is_openai:
            raise UsageError("OpenAI has retired variations; take --task edit, or a --base-url that has them")
        self._openai = require("openai")
        # A server without keys still gets a header: the client insists.
        self._client = self._openai.OpenAI(
            api_key=self.key or "none", base_url=self.base_url, max_retries=0, timeout=self.timeout, organization=None,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The model."""
        return self.model

    @property
    def server(self) -> str:
        """The API's address."""
        return redacted(self.base_url)

    @property
    def is_openai(self) -> bool:
        """Whether prices and terms are OpenAI's."""
        return urlsplit(self.base_url).hostname == urlsplit(BASE_URL).hostname

    @property
    def source(self) -> str:
        """What manifests name as source of pictures from prompts."""
        return f"api {urlsplit(self.base_url).hostname}"

    @property
    def licence(self) -> str:
        """Of the pictures."""
        return "output of OpenAI's API, its terms of use" if self.is_openai else "the server's terms"

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides a picture besides prompt, seed and photograph."""
        return {
            "task": self.task, "model": self.model, "server": self.server, "size": self.size, "quality": self.quality,
            "send_seed": self.send_seed, **self.more,
        }  # fmt: skip

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the client."""
        return {"openai": str(self._openai.__version__)}

    def fitted(self, pixels: RGB) -> RGB:
        """Cut a photograph to the size's shape, as large as goes around its middle, and scale it to the size."""
        found = re.fullmatch(r"(\d+)x(\d+)", self.size)
        width, height = (int(found[1]), int(found[2])) if found else (1024, 1024)
        return fitted(pixels, width, height)

    def make(self, job: Job, photograph: RGB | None) -> Answer:
        """Ask for one picture."""
        with self._errors() as refusal:
            raw = self._ask(job, photograph)
        if refusal:
            return Answer(None, refusal[0])
        return self._answer(raw)

    def _ask(self, job: Job, photograph: RGB | None) -> bytes:
        """Send the request; return the answer's bytes, at most `MAX_ANSWER`."""
        images = self._client.images.with_streaming_response
        extra = {**self.more, **({"seed": job.prompt.seed} if self.send_seed else {})}
        if not self.model.startswith(("gpt-image", "chatgpt-image")):
            extra.setdefault("response_format", "b64_json")  # OpenAI's own models know nothing else, and refuse it
        asked: dict[str, Any] = {"model": self.model, "n": 1, "size": self.size}
        if self.task != "variation":
            asked |= {"prompt": job.prompt.text} | ({"quality": self.quality} if self.quality else {})
        if self.task == "text":
            call = images.generate
        else:
            if photograph is None:
                raise UsageError(f"the task {self.task} needs photographs; give some")
            asked["image"] = ("photograph.png", encoded(photograph), "image/png")
            call = images.edit if self.task == "edit" else images.create_variation
        parts, size, begun = [], 0, time.monotonic()
        with call(**asked, extra_body=extra or None) as answer:
            for part in answer.iter_bytes(1 << 16):
                parts.append(part)
                size += len(part)
                if size > MAX_ANSWER:
                    raise TryAgainError(f"the answer has over {MAX_ANSWER >> 20} MiB")
                if time.monotonic() - begun > 2 * self.timeout:  # the client's limit is for each read
                    raise TryAgainError(f"the answer came too slowly ({size} bytes in {2 * self.timeout:g} s)")
        return b"".join(parts)

    def _answer(self, raw: bytes) -> Answer:
        try:
            said = json.loads(raw)
            first = said["data"][0]
            text = first.get("b64_json")
            data = base64.b64decode(text, validate=True) if isinstance(text, str) else self._fetched(first["url"])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, binascii.Error) as err:
            raise TryAgainError(
                f"the answer is not of the image API ({type(err).__name__}: {plain(err)[:100]})"
            ) from None
        facts: dict[str, Any] = {"revised_prompt": str(first.get("revised_prompt") or "")[:10_000]}
        if isinstance(usage := said.get("usage"), dict) and len(json.dumps(usage)) < 10_000:
            facts["usage"] = usage
            facts["cost"] = cost_of(self.model, usage) if self.is_openai else None
        return Answer(data, facts=facts)

    def _fetched(self, url: object) -> bytes:
        """A picture the answer only names. Nobody's answer sends us to other machines of this network."""
        url = str(url)
        own, other = urlsplit(self.base_url), urlsplit(url)
        if (other.scheme, other.netloc) != (own.scheme, own.netloc) and not _is_public(url):
            raise StorageError(
                f"the answer names its picture at {redacted(url)}, which is not fetched: neither the API's own server "
                "nor public https; ask for b64_json, or use another server"
            )
        try:
            return fetch(url, self.limits)
        except FaceproofError as err:
            raise TryAgainError(f"the picture named in the answer cannot be fetched: {err}") from None

    @contextlib.contextmanager
    def _errors(self) -> Iterator[list[str]]:
        """Turn what the client raises into ours; a refusal is put into the list given."""
        openai = self._openai
        refusal: list[str] = []
        try:
            yield refusal
        except openai.APITimeoutError:
            raise TryAgainError(f"no answer within {self.timeout:g} s") from None
        except openai.APIConnectionError as err:
            said = f"no connection to {self.server} ({self._clean(err.__cause__ or err)})"
            raise TryAgainError(said, billed=type(err.__cause__).__name__ != "ConnectError") from None
        except openai.APIStatusError as err:
            refusal += self._status(err)
        except openai.OpenAIError as err:
            raise TryAgainError(self._clean(err)) from None
        # While the body is read, errors are those of the HTTP library below the client.
        except Exception as err:
            if type(err).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2", "h11", "ssl"):
                raise
            raise TryAgainError(f"the answer broke off ({type(err).__name__})") from None

    def _status(self, err: Any) -> list[str]:
        """Return [why] for a refusal, raise for everything else."""
        body = err.body if isinstance(err.body, dict) else {}
        code, said = str(body.get("code") or body.get("type") or ""), self._clean(body.get("message") or err.message)
        text = f"the server answered {err.status_code}{f' {code}' if code else ''}: {said}"
        if code in NO_MONEY:
            raise NotServedError(f"{text}; see to the account, then run the same command again") from None
        if err.status_code in (401, 403) and code not in REFUSED:
            raise NotServedError(f"{text}; check {KEY_VARIABLE} or --key-file, and what the key may do") from None
        if err.status_code in (408, 409, 429) or err.status_code >= 500:
            gateway = err.status_code in (408, 502, 504)  # gave up on a server that may go on
            raise TryAgainError(text, _retry_after(err.response.headers), billed=gateway) from None
        if code in REFUSED or "safety system" in said.lower() or "content policy" in said.lower():
            return [text]
        if "image" in code or body.get("param") == "image":
            raise PictureError(text) from None
        raise NotServedError(f"{text}; mend the model, size or --set, and run it again") from None

    def _clean(self, text: object) -> str:
        """One short line without the key, or what looks like one."""
        line = plain(" ".join(str(text).split()))
        if self.key:
            line = line.replace(self.key, "***")
        return redacted(re.sub(r"sk-[\w*.-]{4,}", "sk-***", line))[:300]


def _check_server(url: str, key: str | None) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise UsageError(f"--base-url {redacted(url)} is not the address of an API, such as http://localhost:8080/v1")
    if parts.scheme == "http" and key and not _is_loopback(parts.hostname):
        raise UsageError(
            f"--base-url {redacted(url)} is not encrypted and the key would be read on the way; use https, "
            f"or a tunnel to localhost, or unset {KEY_VARIABLE} where the server wants none"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _is_public(url: str) -> bool:
    """Https to a name, or to an address of the open network."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.hostname == "localhost":
        return False
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(parts.hostname).is_global
    return "." in parts.hostname


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a server asks for (RFC 9110, 10.2.3: a number or a date), None where it does not say."""
    text = headers.get("retry-after-ms") or headers.get("retry-after")
    if text is None:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        seconds = float(text) / (1000 if headers.get("retry-after-ms") else 1)
        return min(max(seconds, 0.0), 1e6) if seconds == seconds else None  # noqa: PLR0124  (NaN)
    import email.utils

    parsed = email.utils.parsedate_tz(text)
    return None if parsed is None else max(0.0, email.utils.mktime_tz(parsed) - time.time())
