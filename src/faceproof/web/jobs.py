"""What a worker process does: a verb, its options and files in; the bytes of an answer out.

Nothing here knows of HTTP beyond the number of a status, and nothing is kept: files are bytes in memory. A video,
which the decoder wants as a file, is one without a name (Linux), or in a folder that is emptied.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from faceproof.clusters import cluster
from faceproof.duplicates import HashOptions, hash_items
from faceproof.errors import FaceproofError, VideoError
from faceproof.explain.stability import chains_of
from faceproof.explanation import explain_loaded
from faceproof.explanation_files import pictures_of
from faceproof.explanation_html import map_section
from faceproof.extras import opencv
from faceproof.hash_files import Duplicates
from faceproof.hashing import KINDS, RADII, VIEWS, from_hex
from faceproof.images import Encoded, Picture
from faceproof.inputs import Item
from faceproof.pipeline import FaceChecker
from faceproof.report_html import Entry, article, page, shrink
from faceproof.report_words import Terms
from faceproof.scan import Options
from faceproof.side_by_side import compare_loaded
from faceproof.video import Sampling
from faceproof.video_check import VideoOptions, check_video
from faceproof.web.problems import Problem, problem_of

__all__ = ["Answer", "Job", "Worker"]

DUPLICATES_SCHEMA = "faceproof.duplicates/1"


@dataclass(frozen=True)
class Job:
    """What is asked of a worker.

    Attributes:
        verb: a key of `VERBS`.
        options: of the verb, checked already.
        files: name and bytes of each.
        html: whether the page asks, which shows HTML beside the record.
    """

    verb: str
    options: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Encoded, ...] = ()
    html: bool = False


@dataclass(frozen=True)
class Answer:
    """What a worker says.

    Attributes:
        status: of HTTP.
        body: of the answer.
        kind: its media type.
        outcome: one word for the counters: a verdict, a status, or an error's code.
    """

    status: int
    body: bytes = field(repr=False)
    kind: str = "application/json"
    outcome: str = "ok"


class Worker:
    """Does jobs, one after the other, with models loaded once.

    Args:
        options: of the checkers.

    Raises:
        ModelError, UsageError: as for `FaceChecker`.
    """

    def __init__(self, options: Options) -> None:
        # This process is ours alone, so Pillow's own limit may follow ours.
        Image.MAX_IMAGE_PIXELS = options.limits.max_pixels
        self._checker = replace(options, stability="off").checker()

    def do(self, job: Job) -> Answer:
        """Do a job; whatever goes wrong becomes an answer."""
        try:
            return VERBS[job.verb](self, job)
        except Problem as problem:
            said = problem
        except FaceproofError as err:
            said = problem_of(err)
            if said.status >= 500:
                traceback.print_exc(file=sys.stderr)
        except MemoryError:
            said = Problem(413, "too_large", "there is not enough memory for this file; give a smaller one")
        except Exception:  # a mistake of ours must not end the worker; the log has it
            traceback.print_exc(file=sys.stderr)
            said = Problem(500, "internal", "the server cannot do this now; its log says why")
        return Answer(said.status, said.body(), outcome=said.code)

    def checker(self, options: Mapping[str, Any]) -> FaceChecker:
        """Return a checker as a request wants it; all share their networks."""
        twin = copy.copy(self._checker)
        twin.stability = options.get("stability", "off")
        twin.chains = chains_of(twin.stability)
        twin.metadata = options.get("metadata", twin.metadata)
        return twin


def _check(worker: Worker, job: Job) -> Answer:
    checker = worker.checker(job.options)
    loaded = checker.load(job.files[0])
    result = checker.check_loaded(loaded)
    record = result.to_dict()
    outcome = result.verdict or result.status
    if not job.html:
        return _json(record, outcome)
    return _json(
        {"record": record, "html": article(1, Entry(result, shrink(loaded.pixels)), Terms.of(checker))}, outcome
    )


def _compare(worker: Worker, job: Job) -> Answer:
    checker = worker.checker(job.options)
    pictures = [_loaded(checker, file, number) for number, file in enumerate(job.files, 1)]
    found = compare_loaded(pictures[0], pictures[1], checker)
    record = found.to_dict()
    if not job.html:
        return _json(record, found.likeness)
    terms = Terms.of(checker)
    shown = "".join(
        article(number, Entry(result, shrink(picture.pixels)), terms)
        for number, (result, picture) in enumerate(zip((found.first, found.second), pictures, strict=True), 1)
    )
    return _json({"record": record, "html": shown}, found.likeness)


def _loaded(checker: FaceChecker, file: Encoded, number: int) -> Picture:
    """Read one of several pictures; an error says which."""
    try:
        return checker.load(file)
    except FaceproofError as err:
        problem = problem_of(err)
        raise Problem(problem.status, problem.code, f"picture {number}: {problem.message}") from err


def _explain(worker: Worker, job: Job) -> Answer:
    checker = worker.checker({})
    loaded = checker.load(job.files[0])
    found = explain_loaded(loaded, checker.check_loaded(loaded), checker, face=job.options.get("face"))
    record = found.to_dict()
    if job.html:
        return _json({"record": record, "html": map_section(found)}, record["face"]["verdict"])
    if job.options.get("pictures"):
        record["pictures"] = {name: _png(pixels) for name, pixels in pictures_of(found).items()}
    return _json(record, record["face"]["verdict"])


def _report(worker: Worker, job: Job) -> Answer:
    checker = worker.checker({"stability": "full"})
    loaded = checker.load(job.files[0])
    result = checker.check_loaded(loaded)
    maps = None
    if result.decisive is not None and job.options.get("maps", True):
        maps = explain_loaded(loaded, result, checker)
    text = page([Entry(result, shrink(loaded.pixels), maps)], Terms.of(checker))
    return Answer(200, text.encode("utf-8", "replace"), "text/html; charset=utf-8", result.verdict or result.status)


def _video(worker: Worker, job: Job) -> Answer:
    checker, file = worker.checker({}), job.files[0]
    options = VideoOptions(Sampling(job.options.get("fps", 2.0)), 1280)
    with _as_file(file.data) as path:
        result = check_video(checker, path, options)
    result = replace(result, path=file.name)
    if result.status == "error":
        raise VideoError((result.error or "").replace(path, file.name))
    record = result.to_dict()
    outcome = result.verdict or result.status
    if not job.html:
        return _json(record, outcome)
    return _json({"record": record, "html": article(1, Entry(result), Terms.of(checker))}, outcome)


def _duplicates(worker: Worker, job: Job) -> Answer:
    options = HashOptions(job.options["kind"], job.options["rotations"], worker.checker({}).limits)
    method = job.options["method"]
    radius = job.options.get("radius")
    radius = RADII[options.kind] if radius is None else radius
    records = list(hash_items([Item(file.name, data=file.data) for file in job.files], options, workers=1))
    usable = [place for place, record in enumerate(records) if record.status == "ok"]
    views = len(VIEWS) if options.rotations else 1
    texts = [text for place in usable for text in records[place].hashes]
    hashes = from_hex(texts, options.kind).reshape(len(usable), views, KINDS[options.kind])
    found = cluster(hashes, radius=radius, method=method)
    groups = []
    for number, size in enumerate(found.sizes.tolist(), 1):
        own = sorted(np.flatnonzero(found.labels == number).tolist(), key=lambda k: (found.distances[k], k))
        members = [
            {
                "index": usable[k], "path": records[usable[k]].path, "distance": int(found.distances[k]),
                "view": VIEWS[int(found.views[k])],
            }
            for k in own
        ]  # fmt: skip
        groups.append({"number": number, "size": size, "members": members})
    counts = Duplicates(
        len(records), sum(r.status == "flat" for r in records), sum(r.status == "error" for r in records),
        len(groups), sum(int(size) for size in found.sizes), options.kind, radius, method, options.rotations,
    )  # fmt: skip
    record = {
        "schema": DUPLICATES_SCHEMA, **counts.to_dict(), "groups": groups,
        "records": [one.to_dict() for one in records],
    }  # fmt: skip
    return _json({"record": record, "html": ""} if job.html else record, "found" if groups else "none")


VERBS: Mapping[str, Callable[[Worker, Job], Answer]] = {
    "check": _check,
    "compare": _compare,
    "duplicates": _duplicates,
    "explain": _explain,
    "report": _report,
    "video": _video,
}


def _json(record: Mapping[str, Any], outcome: str) -> Answer:
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Answer(200, text.encode("utf-8", "backslashreplace"), outcome=outcome)


def _png(pixels: Any) -> str:
    cv2 = opencv()
    _, data = cv2.imencode(".png", pixels[:, :, ::-1])
    return base64.b64encode(data.tobytes()).decode()


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """Give bytes a path: of a file in memory that has no name and ends with this process, however it ends."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        with open(os.memfd_create("faceproof", os.MFD_CLOEXEC), "wb") as stream:
            stream.write(data)
            stream.flush()
            yield f"/proc/self/fd/{stream.fileno()}"
        return
    with tempfile.TemporaryDirectory(prefix="faceproof-serve-") as folder:
        path = os.path.join(folder, "video")
        with open(path, "xb") as stream:
            stream.write(data)
        yield path
