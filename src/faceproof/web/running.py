"""Run a server: bind, say where, serve until it is told to stop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import uvicorn

from faceproof.errors import UsageError
from faceproof.web.app import Server
from faceproof.web.settings import Settings

__all__ = ["run"]

STOP_SECONDS = 10


def run(settings: Settings, host: str, port: int, *, say: Callable[[str], None], proxy: str | None = None) -> bool:
    """Serve until a signal comes.

    Args:
        settings: how.
        host: address or name to listen on.
        port: to listen on; 0 takes a free one.
        say: called with the server's URL once it listens and its models are loaded.
        proxy: address of a reverse proxy whose X-Forwarded-* headers are believed.

    Returns:
        Whether it started.

    Raises:
        UsageError: the address cannot be had.
        ModelError: the model cannot be used.
    """
    server, listening = Server(settings), _bound(host, port)
    config = uvicorn.Config(
        server.app, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none",
        timeout_keep_alive=15, timeout_graceful_shutdown=STOP_SECONDS, proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
    )  # fmt: skip
    with listening, contextlib.closing(server):
        server.start()
        serving = _Announcing(config, lambda: say(_url(listening)))
        with contextlib.suppress(KeyboardInterrupt):  # which uvicorn passes on when it has ended in good order
            serving.run(sockets=[listening])
    return bool(serving.started)


class _Announcing(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where the protocol is named does asyncio switch Nagle's algorithm off. With it the second piece of an answer
    # waits 40 ms, until the client acknowledges the first.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except (OSError, OverflowError) as err:
        found.close()
        why = getattr(err, "strerror", None) or err
        raise UsageError(f"cannot listen on {host} port {port} ({why}); give another --host or --port") from err
    return found


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
