"""The app: the page, the JSON API below /api/v1, and /metrics."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from faceproof._version import VERSION
from faceproof.detectors.card import read_card
from faceproof.detectors.store import cards, model_folder
from faceproof.errors import FaceproofError, MissingExtraError
from faceproof.extras import require
from faceproof.images import Encoded
from faceproof.report_html import STYLE
from faceproof.web.generation import Maker, Wish
from faceproof.web.guard import Guard, answer_of
from faceproof.web.jobs import Answer, Job
from faceproof.web.measures import Measures
from faceproof.web.openapi import API, document
from faceproof.web.pool import Full, Pool
from faceproof.web.problems import Problem, problem_of
from faceproof.web.public_urls import fetch_public
from faceproof.web.settings import Settings
from faceproof.web.uploads import Held, Incoming, counted, is_json, label, read_files, read_prompt, read_urls
from faceproof.web.verbs import VERBS, Verb, read_options

__all__ = ["Server"]

T = TypeVar("T")

PAGES = Path(__file__).resolve().parent.parent / "pages"
URL_SECONDS, URL_THREADS = 20.0, 4
PATIENCE = 30
"""Seconds for which a picture that was made waits for a place in the queue."""
PAGE = "/page"
"""Where the page asks; as `API`, with HTML beside each record."""


class Server:
    """The app and its workers.

    Args:
        settings: how it runs.

    Attributes:
        app: for an ASGI server.

    Raises:
        ModelError, UsageError: there is no such model.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pool = Pool(
            settings.options, workers=settings.processes, waiting=settings.waiting, seconds=settings.seconds
        )
        self.held, self.inside = Held(settings.most_held), 0
        made = settings.generation
        self.maker = None if made is None else Maker(made, settings.options.limits)
        self.measures = Measures(self.pool, self.held, self.maker)
        missing = {"video"} if not _has_video() else set()
        if self.maker is None:
            missing.add("generate")
        self.available = tuple(name for name in VERBS if name not in missing)
        self.fetchers = ThreadPoolExecutor(URL_THREADS, "faceproof-url")
        own = read_card(model_folder(settings.options.model))
        known = {card.identity: card for card in [own, *cards()]}
        self.cards = [dict(card.raw) for card in known.values()]
        self.model = own.identity
        self.app = Guard(self._routed(), settings)

    def start(self) -> None:
        """Start the workers, and wait until their models are loaded.

        Raises:
            ModelError, UsageError: the options are wrong.
        """
        self.pool.start()

    def close(self) -> None:
        """Stop the workers."""
        self.fetchers.shutdown(wait=False, cancel_futures=True)
        self.pool.close()

    def _routed(self) -> Starlette:
        routes = [*_static(), *_reading(self)]
        for name in self.available:
            routes.append(Route(f"{API}/{name}", _endpoint(self, VERBS[name], html=False), methods=["POST"]))
            routes.append(Route(f"{PAGE}/{name}", _endpoint(self, VERBS[name], html=True), methods=["POST"]))
        handlers: dict[Any, Any] = {HTTPException: _http_problem, Problem: _problem, Exception: _our_fault}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False
        return app

    def about(self) -> dict[str, Any]:
        """Return what the server does and allows."""
        settings = self.settings
        return {
            "version": VERSION, "model": self.model, "verbs": list(self.available), "urls": settings.urls,
            "most_picture": settings.most_picture, "most_video": settings.most_video,
            "most_files": settings.most_files, "token": settings.token is not None,
            "generator": None if self.maker is None else self.maker.about,
        }  # fmt: skip

    async def answer(self, request: Request, verb: Verb, *, html: bool) -> Response:
        """Answer one request for a verb, and count it."""
        begun = time.monotonic()
        incoming = Incoming(request.receive)
        request = Request(request.scope, incoming)
        try:
            found = await (self._admitted if verb.least else self._generated)(request, verb, html=html)
            response = Response(found.body, found.status, media_type=found.kind)
            outcome = found.outcome
        except Problem as problem:
            await incoming.drain(request.headers)
            response, outcome = answer_of(problem), problem.code
            if not incoming.ended:  # or the server would go on reading, and throw away what it reads
                response.headers["Connection"] = "close"
        except ClientDisconnect:
            self.measures.gone.inc()
            return Response(status_code=400)  # nobody reads it
        self.measures.requests.labels(verb.name, str(response.status_code)).inc()
        self.measures.outcomes.labels(verb.name, outcome).inc()
        self.measures.seconds.labels(verb.name).observe(time.monotonic() - begun)
        return response

    async def _admitted(self, request: Request, verb: Verb, *, html: bool) -> Answer:
        if self.inside >= self.settings.processes + self.settings.waiting:
            raise _busy(self.pool.wait_seconds())
        self.inside += 1
        try:
            async with counted(self.held) as own:
                options = read_options(verb, request.query_params.multi_items())
                if is_json(request) and verb.name != "video":
                    files = await self._fetched(request, verb, own)
                else:
                    name = str(options.get("name", ""))
                    files = await read_files(request, verb, self.settings, self.held, own, name)
                return await self._done(request, Job(verb.name, options, files, html))
        finally:
            self.inside -= 1

    async def _generated(self, request: Request, verb: Verb, *, html: bool) -> Answer:
        """Have a picture made and checked. While it is made, it takes no place from those who want theirs checked."""
        assert self.maker is not None  # or there were no such route
        async with counted(self.held) as own:
            options = read_options(verb, request.query_params.multi_items())
            prompt = await read_prompt(request, self.settings, own, self.held)
            asked = self.maker.start(Wish(prompt, options["size"], options["quality"]))
            made = await _unless_gone(request, asked)
            own[0] += len(made.data)
            self.held.now += len(made.data)  # it is here, and paid for: there must be room
            file = Encoded(made.record.path, made.data)
            checked = await self._patiently(request, Job("check", {"stability": options["stability"]}, (file,), html))
        return made.answer(checked, html=html)

    async def _patiently(self, request: Request, job: Job) -> Answer:
        """Have a job done, asking again for some time where the queue is full."""
        for _ in range(PATIENCE):
            try:
                return await self._done(request, job)
            except Problem as problem:
                said = problem
                await asyncio.sleep(1)
        return Answer(said.status, said.body(), outcome=said.code)

    async def _fetched(self, request: Request, verb: Verb, own: list[int]) -> tuple[Encoded, ...]:
        files = []
        loop = asyncio.get_running_loop()
        for url in await read_urls(request, verb, self.settings, own, self.held):
            try:
                found = await loop.run_in_executor(
                    self.fetchers,
                    lambda url=url: fetch_public(url, most=self.settings.most_picture, seconds=URL_SECONDS),  # type: ignore[misc]
                )
            except FaceproofError as err:
                raise problem_of(err) from err
            self.held.take(len(found.data))
            own[0] += len(found.data)
            files.append(Encoded(label(found.url.partition("?")[0]), found.data))
        return tuple(files)

    async def _done(self, request: Request, job: Job) -> Answer:
        """Have a job done; if whoever asked leaves before it is begun, it never is."""
        try:
            future = self.pool.submit(job)
        except Full as full:
            raise _busy(full.seconds) from None
        return await _unless_gone(request, future)


async def _unless_gone(request: Request, future: Future[T]) -> T:
    """Wait for a future; if whoever asked leaves, it is cancelled."""
    answer = asyncio.ensure_future(asyncio.wrap_future(future))
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    except asyncio.CancelledError:
        if _was_cancelled(future):
            raise Problem(429, "busy", "the server is being stopped", {"Retry-After": "5"}) from None
        raise
    finally:
        gone.cancel()
        answer.cancel()
        future.cancel()


def _was_cancelled(future: Future[Any]) -> bool:
    return future.cancelled()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _busy(seconds: int) -> Problem:
    return Problem(429, "busy", f"too many requests at once; ask again in {seconds} s", {"Retry-After": str(seconds)})


def _has_video() -> bool:
    try:
        require("video")
    except MissingExtraError:
        return False
    return True


Endpoint = Callable[[Request], Awaitable[Response]]


def _endpoint(server: Server, verb: Verb, *, html: bool) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await server.answer(request, verb, html=html)

    return endpoint


def _reading(server: Server) -> list[Route]:
    """Routes that cost nothing."""
    described = document(server.settings, server.available)
    by_name = {card["name"]: card for card in server.cards}

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in by_name:
            raise Problem(404, "not_found", f"unknown model {name[:80]!r}; there are: {', '.join(by_name)}")
        return _json(by_name[name])

    async def metrics(_: Request) -> Response:
        return Response(server.measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def fixed(content: Any) -> Endpoint:
        async def give(_: Request) -> Response:
            return _json(content)

        return give

    return [
        Route(f"{API}/health", fixed({"status": "ok", "version": VERSION})),
        Route(f"{API}/about", fixed(server.about())),
        Route(f"{API}/openapi.json", fixed(described)),
        Route(f"{API}/models", fixed(server.cards)),
        Route(f"{API}/models/{{name}}", model),
        Route("/metrics", metrics),
    ]


def _static() -> list[Route]:
    """The page and its parts, read once; shipped models' names are in none of them."""
    parts = (
        ("/", "serve.html", "text/html; charset=utf-8"),
        ("/app.css", "serve.css", "text/css; charset=utf-8"),
        ("/app.js", "serve.js", "text/javascript; charset=utf-8"),
        ("/favicon.svg", "serve.svg", "image/svg+xml"),
    )

    def give(data: bytes, kind: str) -> Endpoint:
        async def endpoint(_: Request) -> Response:
            return Response(data, media_type=kind, headers={"Cache-Control": "no-cache"})

        return endpoint

    found = []
    for path, name, kind in parts:
        data = (PAGES / name).read_bytes()
        # Reports and this page have one look: what they share stands in one place.
        found.append(Route(path, give(STYLE.encode() + data if name.endswith(".css") else data, kind)))
    return found


def _json(content: Any) -> Response:
    return Response(json.dumps(content, ensure_ascii=False), media_type="application/json")


async def _http_problem(_: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)  # it is registered for these
    known = {
        404: ("not_found", f"there is nothing here; see {API}/openapi.json"),
        405: ("method", "use another method"),
    }
    code, message = known.get(err.status_code, ("bad_request", str(err.detail)))
    return answer_of(Problem(err.status_code, code, message, err.headers))


async def _problem(_: Request, err: Exception) -> Response:
    assert isinstance(err, Problem)  # it is registered for these
    return answer_of(err)


async def _our_fault(_: Request, _err: Exception) -> Response:
    return answer_of(Problem(500, "internal", "the server cannot do this now; its log says why"))
