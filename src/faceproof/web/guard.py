"""What every request passes: the name it is asked under, its origin, its token; and the headers of every answer."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from faceproof.web.problems import Problem
from faceproof.web.settings import Settings

__all__ = ["Guard", "answer_of"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
OPEN = ("/", "/app.css", "/app.js", "/favicon.svg", "/api/v1/health", "/api/v1/about", "/api/v1/openapi.json")
"""What is given without a token: the empty page, and what the server is. Nothing that costs work."""


class Guard:
    """The outermost layer of the app.

    Args:
        app: inside it.
        settings: of the server.
    """

    def __init__(self, app: Any, settings: Settings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        problem = self._refused(scope)
        if problem is not None:
            await answer_of(problem)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)

    def _refused(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        if not self._known(headers.get("host", "")):
            return Problem(
                421,
                "wrong_host",
                "this server does not go by that name; start it with --allow-host NAME, or ask by address",
            )
        # A browser says when another site's page asks; no such page has a reason to.
        if scope["method"] != "GET" and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return Problem(403, "cross_site", "other sites' pages may not ask this server")
        if self._settings.token is None or scope["path"] in OPEN:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Compared in constant time, as bytes: headers may hold any of them.
        same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._settings.token.encode())
        if scheme.lower() == "bearer" and same:
            return None
        return Problem(
            401,
            "token",
            "a token is needed: send the header Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )

    def _known(self, host: str) -> bool:
        """Names could be made to point here by anyone (DNS rebinding); addresses could not."""
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name == "localhost" or "*" in self._settings.hosts or name in self._settings.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def answer_of(problem: Problem) -> Response:
    """Return the response that says what is wrong."""
    return Response(problem.body(), problem.status, problem.headers, "application/json")
