"""Pictures made on request by an image API: a few at a time, each in a thread of its own, up to a sum of money.

Nothing here waits for a worker process, and no worker waits for the network. Money that may have been spent counts: a
price is set aside before a picture is asked for, and given back only where the API said no before it made anything.
"""

from __future__ import annotations

import base64
import copy
import datetime
import hashlib
import json
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from faceproof.errors import StorageError, UsageError, plain
from faceproof.generated_records import Generated, NotServedError, TryAgainError, jobs_of
from faceproof.generated_records import Job as Picture
from faceproof.images import Limits
from faceproof.openai_images import KEY_VARIABLE, OpenAIImages
from faceproof.prices import estimate
from faceproof.prompts import Prompt
from faceproof.web.jobs import Answer
from faceproof.web.problems import Problem
from faceproof.web.settings import Generation
from faceproof.web.verbs import QUALITIES, SIZES

__all__ = ["GENERATION_SCHEMA", "Made", "Maker", "Wish"]

GENERATION_SCHEMA = "faceproof.generation/1"
BUSY_SECONDS = 10
_HEADS = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF"}
_BROKEN = ("not_a_picture", "damaged", "unreadable", "too_large")


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        text: the prompt.
        size: one of `verbs.SIZES`. quality: one of `verbs.QUALITIES`.
    """

    text: str
    size: str
    quality: str


@dataclass(frozen=True)
class Made:
    """A picture that came.

    Attributes:
        data: its file.
        record: where it comes from; width and height are not known yet.
    """

    data: bytes = field(repr=False)
    record: Generated

    def answer(self, checked: Answer, *, html: bool) -> Answer:
        """Return picture, provenance and verdict; a picture that cannot be checked is paid for and given all the same.

        Args:
            checked: what a worker said about the picture.
            html: whether that holds HTML beside the record.

        Raises:
            Problem: it is no whole picture.
        """
        said = json.loads(checked.body)
        result, shown, why, record = None, "", None, self.record
        if checked.status == 200:
            result, shown = (said["record"], said["html"]) if html else (said, "")
            record = replace(record, width=result["width"], height=result["height"])
        elif said["error"]["code"] in _BROKEN:
            raise _nonsense()
        else:
            why = said["error"]["message"]
        kind = f"image/{record.format.lower()}"
        found = {
            "schema": GENERATION_SCHEMA, "picture": f"data:{kind};base64,{base64.b64encode(self.data).decode()}",
            "provenance": record.to_dict(), "result": result, "unchecked": why,
        }  # fmt: skip
        text = json.dumps({"record": found, "html": shown} if html else found, ensure_ascii=False)
        outcome = checked.outcome if why is None else "unchecked"
        return Answer(200, text.encode("utf-8", "backslashreplace"), outcome=outcome)


class Maker:
    """Asks an image API.

    Args:
        settings: which, and for how much.
        limits: of the pictures that come.

    Attributes:
        spent: US dollars, by the tokens the API counted where it says so, else by the price.
        asked: pictures being made.

    Raises:
        UsageError: no key, an impossible address, or a price nobody knows.
        MissingExtraError: the client is not installed.
    """

    def __init__(self, settings: Generation, limits: Limits) -> None:
        self._settings, self._lock = settings, threading.Lock()
        self._api = OpenAIImages(
            settings.model, base_url=settings.base_url, key=settings.key, timeout=settings.timeout, limits=limits
        )
        if self._api.is_openai and settings.key is None:
            raise UsageError(f"--generate needs a key: set {KEY_VARIABLE}, or give --key-file FILE (mode 600)")
        self._prices = {(size, quality): self._price(size, quality) for size in SIZES for quality in QUALITIES}
        self.spent, self.asked = 0.0, 0

    @property
    def about(self) -> dict[str, str]:
        """Who makes pictures: people should know where their prompts go."""
        return {"model": self._api.model, "server": self._api.server}

    def start(self, wish: Wish) -> Future[Made]:
        """Ask for a picture. The future's exceptions are problems.

        Raises:
            Problem: too many are being made, or there is no money left.
        """
        price = self._prices[wish.size, wish.quality]
        with self._lock:
            if self.asked >= self._settings.parallel:
                wait = {"Retry-After": str(BUSY_SECONDS)}
                raise Problem(429, "busy", f"too many pictures are being made; ask again in {BUSY_SECONDS} s", wait)
            if self.spent + price > self._settings.budget + 1e-9:
                raise Problem(403, "budget_spent", "this server's money for pictures is spent; tell whoever runs it")
            self.asked += 1
            self.spent += price
        future: Future[Made] = Future()
        future.set_running_or_notify_cancel()  # what is asked for cannot be taken back
        # A daemon: a server that is being stopped does not wait minutes for a picture.
        threading.Thread(target=self._run, args=(future, wish, price), daemon=True, name="faceproof-generate").start()
        return future

    def _run(self, future: Future[Made], wish: Wish, price: float) -> None:
        try:
            made = self._made(wish, price)
        except BaseException as err:
            self._count(asked=-1)
            future.set_exception(err)
        else:
            self._count(asked=-1)
            future.set_result(made)

    def _count(self, *, asked: int = 0, dollars: float = 0.0) -> None:
        with self._lock:
            self.asked += asked
            self.spent += dollars

    def _made(self, wish: Wish, price: float) -> Made:
        api = copy.copy(self._api)  # which shares the connections
        api.size, api.quality = wish.size, "" if wish.quality == "auto" else wish.quality
        job = jobs_of([Prompt(wish.text, {}, 0)], None, api.settings)[0]
        begun = time.monotonic()
        try:
            answer = api.make(job, None)
        except TryAgainError as err:
            if not err.billed:
                self._count(dollars=-price)
            wait = {} if err.wait is None else {"Retry-After": str(max(1, min(600, round(err.wait))))}
            _log(err)
            raise Problem(
                503, "generator_down", "the image service does not answer now; ask again later", wait
            ) from err
        except StorageError as err:
            if isinstance(err, NotServedError):
                self._count(dollars=-price)
            _log(err)
            raise Problem(
                502, "generator_refused", "the image service refuses this server; whoever runs it finds why in its log"
            ) from err
        if answer.data is None:
            self._count(dollars=-price)
            raise Problem(422, "refused", f"the image service will not make this: {answer.refusal}")
        cost = answer.facts.get("cost")
        if cost is not None:
            self._count(dollars=cost - price)
        return Made(answer.data, _record(api, job, answer.data, answer.facts, time.monotonic() - begun))

    def _price(self, size: str, quality: str) -> float:
        settings = self._settings
        found = estimate(
            1, model=settings.model, size=size, quality=quality, sends_picture=False, price=settings.price,
            known=self._api.is_openai,
        )  # fmt: skip
        if found.each is None:
            raise UsageError(f"{found.basis} DOLLARS (what a picture costs at most; 0 where it costs nothing)")
        return found.each


def _record(api: OpenAIImages, job: Picture, data: bytes, facts: Any, seconds: float) -> Generated:
    kind = next((kind for kind, head in _HEADS.items() if data.startswith(head)), None)
    if kind is None:
        raise _nonsense()
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Generated(
        job.id, "ok", api.task, api.name, api.model, job.prompt.text, job.prompt.seed, now,
        path=f"{job.id}.{'jpg' if kind == 'JPEG' else kind.lower()}", source=api.source, licence=api.licence,
        server=api.server, parameters=dict(api.settings), versions=dict(api.versions), seconds=round(seconds, 3),
        attempts=1, answers=1, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), format=kind, **facts,
    )  # fmt: skip


def _nonsense() -> Problem:
    return Problem(502, "generator_failed", "what the image service sent is no whole picture; ask again")


def _log(err: Exception) -> None:
    """What the API says may tell of the account: that is for the log, not for whoever asked. Keys are cleaned off."""
    sys.stderr.write(f"faceproof: generate: {plain(err)}\n")
