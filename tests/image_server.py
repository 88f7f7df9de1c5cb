"""A real HTTP server on the loopback that speaks OpenAI's image protocol: a stand-in, no generator.

It checks what clients send as the real one does (key, JSON or multipart, one picture), counts what it would bill, and
fails as `rule` says.
"""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import http.server
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from tests.helpers import answering

KEY = "sk-faceprooftest0123456789abcdefghijklmnop"
USAGE = {
    "input_tokens": 100, "output_tokens": 1000, "total_tokens": 1100,
    "input_tokens_details": {"text_tokens": 100, "image_tokens": 0},
}  # fmt: skip


@dataclass
class Asked:
    """One request: path, fields, the picture sent (or None), how many of this prompt came before."""

    path: str
    fields: dict[str, Any]
    picture: bytes | None
    number: int
    at: float
    key: str


@dataclass
class ImageServer:
    """What runs.

    Attributes:
        rule: gives None (answer well), "slow" (after 1 s), "hang" (5 s), "cut" (half the body), "truncated" (half a
            picture, as whole JSON), "garbage" (no JSON), "url" (a link instead of bytes), "link URL" (that link),
            "webp", "huge" (an endless body), "refuse", or a status as "500", "401", "429 2" (Retry-After),
            "429 insufficient_quota".
        made: a picture to give instead of noise.
        seen: all requests. billed: prompts of pictures made and sent.
    """

    port: int = 0
    rule: Callable[[Asked], str | None] = lambda asked: None
    made: bytes | None = None
    seen: list[Asked] = field(default_factory=list)
    billed: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def picture_of(prompt: str, size: str, kind: str = "PNG") -> bytes:
    """A picture that depends on the prompt: smooth noise, so that it is not small."""
    width, height = (64, 64) if size == "auto" else map(int, size.split("x"))
    rng = np.random.default_rng(np.frombuffer(prompt.encode().ljust(8, b"."), np.uint8).astype(np.int64))
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    stream = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(stream, kind)
    return stream.getvalue()


def _handler(server: ImageServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._send(200, picture_of("link", "64x64"), kind="image/png")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kind = self.headers["Content-Type"]
            picture = None
            if kind.startswith("application/json"):
                fields = json.loads(body)
            else:
                head = f"Content-Type: {kind}\r\n\r\n".encode()
                message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
                fields = {}
                for part in message.iter_parts():
                    name = part.get_param("name", header="content-disposition")
                    data = part.get_payload(decode=True)
                    if name in ("image", "image[]"):
                        picture = data
                    else:
                        fields[name] = data.decode()
            prompt = fields.get("prompt", "")
            number = sum(each.fields.get("prompt", "") == prompt for each in server.seen)
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            asked = Asked(self.path, fields, picture, number, time.monotonic(), key)
            server.seen.append(asked)
            action = server.rule(asked) or ""
            self.billed = server.billed  # of this test: a later one begins a list of its own
            if key != KEY:
                self._refuse(401, "invalid_api_key", f"Incorrect API key provided: {key}.")
            elif not self.path.startswith("/v1/images/") or str(fields.get("n")) != "1":
                self._refuse(404, "not_found", "no such thing")
            elif action.startswith("hang") or action == "slow":
                time.sleep(5 if action == "hang" else 1)
                self._picture(asked, "")
            elif action == "refuse":
                said = "Your request was rejected by the safety system."
                self._refuse(400, "moderation_blocked", said)
            elif action[:1].isdigit():
                status, _, more = action.partition(" ")
                wait = {"Retry-After": more} if more.replace(".", "").isdigit() else {}
                self._refuse(int(status), more if not wait else "rate_limit_exceeded", f"no, {KEY}", **wait)
            else:
                self._picture(asked, action)

        do_PUT = do_POST  # noqa: N815

        def _picture(self, asked: Asked, action: str) -> None:
            prompt, size = asked.fields.get("prompt", ""), str(asked.fields.get("size", "auto"))
            data = asked.picture or server.made or picture_of(prompt, size, "WEBP" if action == "webp" else "PNG")
            self.billed.append(prompt)
            if action == "truncated":
                data = data[: len(data) // 2]
            entry: dict[str, Any] = {"b64_json": base64.b64encode(data).decode()}
            if action == "url" or action.startswith("link"):
                entry = {"url": action[5:] or f"{server.url}/files/picture.png"}
            said = json.dumps({"created": 1_790_000_000, "data": [entry], "usage": USAGE}).encode()
            if action == "garbage":
                said = b"<html>gateway</html>"
            if action == "huge":
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(2**40))
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(b" " * (1 << 20))
                self.close_connection = True
                return
            self._send(200, said, cut=action == "cut")

        def _refuse(self, status: int, code: str, said: str, **headers: str) -> None:
            body = json.dumps({"error": {"message": said, "type": "error", "param": None, "code": code}}).encode()
            self._send(status, body, **headers)

        def _send(
            self, status: int, body: bytes, *, kind: str = "application/json", cut: bool = False, **more: str
        ) -> None:
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in more.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
                self.wfile.flush()
                if cut:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)

    return Handler


@contextlib.contextmanager
def running_image_server() -> Iterator[ImageServer]:
    """Start it as a thread; it ends with the block."""
    server = ImageServer()
    with answering(_handler(server)) as server.port:
        yield server
