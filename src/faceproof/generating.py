"""Faces made by generators: one run over jobs, into a store, at a bounded rate, gone on with after any stop.

    with open_store("faces") as store:
        prompts = PORTRAITS.draw(20, seed=0)
        run = Run(generator, jobs_of(prompts, None, generator.settings), store, Pace(rate=5))
        for record in run:
            print(record.path, record.prompt)

A generator (`openai_images.OpenAIImages`, `diffusers_images.Pipeline`, `reconstruction.Autoencoder`) makes one picture
a call; everything else (pace, second tries, checking what came, writing, provenance) is here.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from faceproof.errors import PictureError, StorageError, UsageError
from faceproof.extras import opencv
from faceproof.generated_records import Answer, Generated, Job, TryAgainError, split_of
from faceproof.generated_store import SUFFIX, Store
from faceproof.images import Limits, Picture, load, printable

__all__ = ["Generator", "Pace", "Run", "encoded", "fitted"]

RGB = npt.NDArray[np.uint8]
FAILURES_IN_A_ROW = 5
"""Pictures that fail one after the other before a run gives up: the server is down, or the settings are wrong."""
DAMAGED = 2
"""Damaged pictures taken for one job before it fails: servers bill them."""
LONGEST_WAIT = 600.0
"""Seconds; a server that asks for more ends the run."""


class Generator(Protocol):
    """Makes pictures.

    Attributes:
        name: as manifests have it under `generator`.
        task: as records have it.
        model, server: who it is; server "" for this machine.
        source: what manifests name as source where there is no photograph.
        licence: of the pictures.
        settings: what decides a picture besides prompt, seed and photograph; JSON values.
        versions: of the libraries at work.
        parallel: whether several threads may call `make` at the same time.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def task(self) -> str: ...  # noqa: D102
    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def server(self) -> str: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def licence(self) -> str: ...  # noqa: D102
    @property
    def settings(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def versions(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def parallel(self) -> bool: ...  # noqa: D102

    def fitted(self, pixels: RGB) -> RGB:
        """Return a photograph as it takes it: (H, W, 3) uint8 RGB."""
        ...

    def make(self, job: Job, photograph: RGB | None) -> Answer:
        """Make one picture.

        Args:
            job: what is asked for.
            photograph: as `fitted` gave it.

        Raises:
            TryAgainError: it cannot answer now.
            PictureError: this photograph cannot be used.
            StorageError: it will answer nothing more: key refused, no money left.
        """
        ...


@dataclass(frozen=True)
class Pace:
    """How fast, and how patiently.

    Attributes:
        rate: requests begun a minute; 0 for no limit.
        parallel: requests under way at the same time.
        attempts: how often a picture is asked for when the server fails.
        first_wait: seconds before the second attempt, doubled each time; a server's own wish counts more.
        val_share: share of groups whose split is "val".
    """

    rate: float = 0.0
    parallel: int = 1
    attempts: int = 6
    first_wait: float = 1.0
    val_share: float = 0.15

    def __post_init__(self) -> None:
        if not self.rate >= 0 or self.parallel < 1 or self.attempts < 1 or not self.first_wait >= 0:
            raise UsageError(f"a pace needs rate and waits of 0 or more, and at least one thread and attempt: {self}")
        if not 0 <= self.val_share <= 1:
            raise UsageError(f"the share of val must lie between 0 and 1, not {self.val_share}")


class _Clock:
    """Keeps requests apart; all threads ask it."""

    def __init__(self, rate: float, stop: threading.Event) -> None:
        self._gap = 60 / rate if rate else 0.0
        self._next = 0.0
        self._lock = threading.Lock()
        self._stop = stop

    def wait(self) -> bool:
        """Wait for the next turn; return False when the run is to stop."""
        while not self._stop.is_set():
            with self._lock:
                now = time.monotonic()
                left = self._next - now
                if left <= 0:
                    self._next = now + self._gap
                    return True
            self._stop.wait(min(left, 0.5))  # a server may ask for more time meanwhile
        return False

    def hold(self, seconds: float) -> None:
        """Begin nothing for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


@dataclass
class Run:
    """Jobs on their way into a store. Iterating makes the pictures and yields a record for each, as they come.

    Ending the iteration early (break, Ctrl-C) begins nothing more, waits for the pictures under way, since they are
    paid for, and writes the manifest.

    Attributes:
        generator, jobs, store, pace: what makes, what is made, where it goes, how fast.
        limits: what one picture may cost.
        waiting: called with seconds and the reason when a server asks to wait; from any thread.

    Raises:
        StorageError: when iterated: the server will answer nothing more, or several pictures failed in a row.
    """

    generator: Generator
    jobs: Sequence[Job]
    store: Store
    pace: Pace = field(default_factory=Pace)
    limits: Limits = field(default_factory=Limits)
    waiting: Callable[[float, str], None] = field(default=lambda seconds, why: None)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._clock = _Clock(self.pace.rate, self._stop)
        self._lock = threading.Lock()
        self._begun: set[str] = set()

    @property
    def todo(self) -> list[Job]:
        """Jobs that are not done, those found finished after a kill included."""
        return [job for job in self.jobs if not self.store.is_done(job.id)]

    @property
    def unpaid(self) -> int:
        """How many pictures have still to be made."""
        return sum(self.store.lost(job.id) is None for job in self.todo)

    def __iter__(self) -> Iterator[Generated]:
        todo = iter(self.todo)
        threads = self.pace.parallel if self.generator.parallel else 1
        row = 0
        running: set[Future[Generated | None]] = set()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="faceproof-generate")
        try:
            while True:
                while len(running) < threads and (job := next(todo, None)) is not None:
                    running.add(pool.submit(self._one, job))
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    record = future.result()
                    if record is None:
                        continue
                    if record.status != "failed":
                        row = 0
                    elif record.attempts:  # and not a photograph that cannot be read
                        row += 1
                    yield record
                    if row >= FAILURES_IN_A_ROW:
                        raise StorageError(
                            f"{row} pictures failed one after the other, the last one with: {record.error}; "
                            "mend that and run the same command again to go on"
                        )
        finally:
            self._stop.set()
            pool.shutdown(wait=True)
            self.store.finish()

    def _one(self, job: Job) -> Generated | None:
        """Make, check, write and record one picture; None where the run is to stop before it was asked for."""
        begun = time.monotonic()
        try:
            picture, facts = self._photograph(job)
            name = self.store.lost(job.id)
            if name is not None:
                return self._recorded(job, facts, Answer(self.store.read(name)), 0, 0, begun, recovered=True)
            asked = self._asked(job, None if picture is None else picture.pixels)
        except PictureError as err:
            return self._noted(self._record(job, {}, begun, status="failed", error=str(err)))
        if asked is None:
            return None
        answer, attempts, answers = asked
        if isinstance(answer, str):
            return self._noted(
                self._record(job, facts, begun, status="failed", error=answer, attempts=attempts, answers=answers)
            )
        return self._recorded(job, facts, answer, attempts, answers, begun)

    def _photograph(self, job: Job) -> tuple[Picture | None, dict[str, Any]]:
        """Load a job's photograph as the generator takes it, write it, and say what records hold of it."""
        source = job.photograph
        if source is None:
            group = job.id
            return None, {
                "group": group,
                "split": split_of(group, self.pace.val_share),
                "source": self.generator.source,
            }
        whole = load(source.path, limits=self.limits)
        pixels = self.generator.fitted(whole.pixels)
        data = encoded(pixels)
        digest = hashlib.sha256(data).hexdigest()
        name = f"photographs/{digest[:20]}.png"
        with self._lock:  # copies of one photograph may be under way in several threads
            mine = name not in self._begun and not self.store.holds(name)
            self._begun.add(name)
        if mine:
            self.store.write(name, data)
        group = source.group or f"photo-{str(whole.sha256)[:16]}"
        return Picture(pixels, whole.name, whole.sha256), {
            "group": group, "split": source.split or split_of(group, self.pace.val_share), "source": source.source,
            "photograph": name, "photograph_sha256": digest, "photograph_licence": source.licence,
            "source_path": printable(source.path), "source_sha256": whole.sha256 or "",
        }  # fmt: skip

    def _asked(self, job: Job, photograph: RGB | None) -> tuple[Answer | str, int, int] | None:
        """Ask until there is an answer: (answer or why there is none, attempts, pictures that came)."""
        answers, why = 0, ""
        for attempt in range(1, self.pace.attempts + 1):
            if not self._clock.wait():
                return None if not why else (f"stopped while the server failed: {why}", attempt - 1, answers)
            try:
                answer = self.generator.make(job, photograph)
            except TryAgainError as err:
                why = str(err)
                pause = self.pace.first_wait * 2 ** (attempt - 1) if err.wait is None else err.wait
                if pause > LONGEST_WAIT:
                    raise StorageError(f"{why}: the server asks to wait {pause:.0f} s; run the command then") from None
                if attempt < self.pace.attempts:
                    self._clock.hold(pause)
                    self.waiting(pause, why)
                continue
            if answer.data is None:
                return answer, attempt, answers
            answers += 1
            try:
                load(answer.data, limits=self.limits)
            except PictureError as err:
                why = f"what came is no whole picture: {err}"
                if answers >= DAMAGED:
                    return why, attempt, answers
                continue
            return answer, attempt, answers
        return why, self.pace.attempts, answers

    def _recorded(
        self, job: Job, facts: Mapping[str, Any], answer: Answer, attempts: int, answers: int, begun: float,
        *, recovered: bool = False,
    ) -> Generated:  # fmt: skip
        """Write an answer's picture and record."""
        more = {"attempts": attempts, "answers": answers, **answer.facts}
        if answer.data is None:
            return self._noted(self._record(job, {**facts, **more}, begun, status="refused", error=answer.refusal))
        picture = load(answer.data, limits=self.limits)
        data = answer.data
        if picture.format not in SUFFIX:
            data, picture = encoded(picture.pixels), Picture(picture.pixels, picture.name, None, "PNG")
        name = f"generated/{job.id}{SUFFIX[picture.format]}"
        if not recovered:
            self.store.write(name, data)
        more |= {
            "path": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "format": picture.format,
            "width": picture.width, "height": picture.height, "recovered": recovered,
        }  # fmt: skip
        return self._noted(self._record(job, {**facts, **more}, begun, status="ok"))

    def _record(self, job: Job, facts: Mapping[str, Any], begun: float, **more: Any) -> Generated:
        generator, source = self.generator, job.photograph
        now = datetime.datetime.now(datetime.timezone.utc)
        traits = {**(source.traits if source is not None else {}), **job.prompt.traits}
        return Generated(**{
            "id": job.id, "task": generator.task, "generator": generator.name, "model": generator.model,
            "server": generator.server, "prompt": job.prompt.text, "seed": job.prompt.seed, "traits": traits,
            "parameters": dict(generator.settings), "versions": dict(generator.versions), "licence": generator.licence,
            "created": now.isoformat(timespec="seconds"), "seconds": round(time.monotonic() - begun, 3),
            "source_path": "" if source is None else printable(source.path), **facts, **more,
        })  # fmt: skip

    def _noted(self, record: Generated) -> Generated:
        self.store.add(record)
        return record


def encoded(pixels: RGB) -> bytes:
    """Return a PNG of (H, W, 3) uint8 RGB pixels."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def fitted(pixels: RGB, width: int, height: int) -> RGB:
    """Return the largest part around the middle that has a shape, scaled to it: (height, width, 3) uint8."""
    cv2 = opencv()
    rows, columns = pixels.shape[:2]
    scale = min(rows / height, columns / width)
    cut_rows, cut_columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (rows - cut_rows) // 2, (columns - cut_columns) // 2
    part = pixels[top : top + cut_rows, left : left + cut_columns]
    if part.shape[:2] == (height, width):
        return np.ascontiguousarray(part)
    kernel = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (width, height), interpolation=kernel), dtype=np.uint8)
