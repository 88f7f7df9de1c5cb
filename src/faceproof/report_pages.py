"""Reports as files: pages about pictures that are checked now, and about what a scan has flagged."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import heapq
import html
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from faceproof.errors import OutputError, PictureError, UsageError
from faceproof.explanation import explain_loaded
from faceproof.hashing import hash_picture
from faceproof.images import PictureSource, printable
from faceproof.near_matches import Known, near_matches
from faceproof.pipeline import FaceChecker
from faceproof.records import STATUSES
from faceproof.report_html import WORDS, Entry, page, shrink
from faceproof.report_words import Terms
from faceproof.scan import Options
from faceproof.tables import write_atomically
from faceproof.video import is_video
from faceproof.video_check import VideoOptions, check_video
from faceproof.video_records import AnyResult, VideoResult

__all__ = ["MAPPED", "Flagged", "check_target", "check_to_page", "scan_to_page"]

MAPPED, SHOWN = 8, 20
"""Pictures of a page with maps (seconds each), and flagged pictures of a scan that are shown at all."""
Watch = Callable[[FaceChecker, str], VideoResult]
Step = Callable[[int, int], None]
Progress = Callable[[str], contextlib.AbstractContextManager[Step]]
"""A few words -> a context that gives what is called with steps done and in all: `terminal.counted`."""


def _silent(what: str) -> contextlib.AbstractContextManager[Step]:
    return contextlib.nullcontext(lambda done, total: None)


def check_target(out: str | Path) -> None:
    """Look whether a page could be written, before the work.

    Raises:
        UsageError: it is a folder, or lies in none that exists.
    """
    path = Path(out)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{printable(path)} is a folder or lies in none; give a file in a folder that exists")


def check_to_page(
    pictures: Iterable[PictureSource],
    checker: FaceChecker,
    out: str | Path,
    *,
    maps: int = MAPPED,
    known: Known | None = None,
    on_result: Callable[[AnyResult], None] = lambda result: None,
    progress: Progress = _silent,
    watch: Watch = check_video,
) -> list[AnyResult]:
    """Check pictures and videos and write one self-contained HTML page about them.

    Args:
        pictures: as for `FaceChecker.check`, or paths of videos.
        checker: to check them with.
        out: the page's file; replaced as a whole.
        maps: the first so many judged pictures get maps of the face that decides, each with its deletion test.
        known: hashes to look for near matches in, beside the pictures of the page.
        on_result: called with each result as it comes.
        progress: shows how far the maps are.
        watch: checks a video.

    Raises:
        UsageError: `maps` is below 0.
        OutputError: the page cannot be written. Results were handed to `on_result` before.
    """
    if maps < 0:
        raise UsageError(f"the number of pictures with maps cannot be {maps}; give 0 or more")
    entries: list[Entry] = []
    for picture in pictures:
        left = maps - sum(entry.explanation is not None for entry in entries)
        entries.append(_entry(picture, checker, on_result, progress if left > 0 else None, watch, _kind(known)))
    write_atomically(out, page(_with_near(entries, known), Terms.of(checker)))
    return [entry.result for entry in entries]


def _entry(
    picture: PictureSource,
    checker: FaceChecker,
    on_result: Callable[[AnyResult], None],
    progress: Progress | None,
    watch: Watch,
    kind: str,
) -> Entry:
    """Check one picture or video; with `progress`, make a picture's maps. `kind`: of its perceptual hash."""
    if isinstance(picture, (str, os.PathLike)) and is_video(picture):
        video = watch(checker, os.fspath(picture))
        on_result(video)
        return Entry(video)
    # One reading for verdict, page and maps: they cannot speak of two versions of a file.
    try:
        loaded = checker.load(picture)
    except PictureError:
        result = checker.check(picture)
        on_result(result)
        return Entry(result)
    result = checker.check_loaded(loaded)
    on_result(result)
    entry = Entry(result, shrink(loaded.pixels), hashed=hash_picture(loaded.pixels, kind, views=True))
    if result.decisive is None:
        return entry
    if progress is None:
        return replace(entry, notes=("no maps were made of this picture; the command faceproof explain makes them",))
    with progress("maps") as step:
        return replace(entry, explanation=explain_loaded(loaded, result, checker, on_step=step))


def _kind(known: Known | None) -> str:
    return "phash" if known is None else known.kind


def _with_near(entries: Sequence[Entry], known: Known | None) -> list[Entry]:
    """The entries with what looks like them, among each other and in `known`."""
    pictures = [(entry.result.path, entry.hashed) for entry in entries]
    found = near_matches(pictures, _kind(known), known)
    return [replace(entry, near=near) for entry, near in zip(entries, found, strict=True)]


class Flagged:
    """Counts of a scan's records and the most suspicious ones; memory does not grow with the scan.

    Args:
        shown: how many flagged pictures are kept.
    """

    def __init__(self, shown: int = SHOWN) -> None:
        self.counts, self.models, self._shown = Counter[str](), Counter[str](), shown
        self._heap: list[tuple[float, int, Mapping[str, Any]]] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Take a record, as `ImageResult.to_dict` gives it."""
        self.counts[record["status"]] += 1
        self.models[record["model"]] += 1
        if record["verdict"]:
            self.counts[record["verdict"]] += 1
        if record["verdict"] == "generated":
            # Of equal log-odds the earlier record counts as larger; records themselves cannot be compared.
            heapq.heappush(self._heap, (record["log_odds"], -self.counts["generated"], record))
            if len(self._heap) > self._shown:
                heapq.heappop(self._heap)

    @property
    def total(self) -> int:
        """Records taken."""
        return sum(self.counts[status] for status in STATUSES)

    @property
    def top(self) -> list[Mapping[str, Any]]:
        """The flagged records kept, the most suspicious first."""
        return [record for _, _, record in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


def scan_to_page(
    flagged: Flagged,
    options: Options,
    results: str | Path,
    out: str | Path,
    *,
    maps: int = MAPPED,
    known: Known | None = None,
    progress: Progress = _silent,
) -> None:
    """Write one page about a scan: its counts, and its most suspicious pictures checked again in full.

    Args:
        flagged: has taken every record.
        options: of the scan; the pictures shown are checked again with the full stability certificate.
        results: the scan's file, which the page names with its hash.
        out: the page's file; replaced as a whole.
        maps: the first so many pictures get maps.
        known: hashes to look for near matches in, beside the pictures of the page.
        progress: shows how far it is.

    Raises:
        UsageError: `maps` is below 0.
        OutputError: the page cannot be written, or the results cannot be read.
    """
    if maps < 0:
        raise UsageError(f"the number of pictures with maps cannot be {maps}; give 0 or more")
    checker = replace(options, stability="full").checker()
    entries: list[Entry] = []
    top = flagged.top
    with progress("flagged pictures") as step:
        for done, record in enumerate(top):
            step(done, len(top))
            entries.append(_again(record, checker, options.video, _kind(known), with_maps=done < maps))
        step(len(top), len(top))
    facts = {
        "results": printable(Path(results).name),
        "results_sha256": _sha256(results),
        "records": flagged.total,
        "counts": {outcome: flagged.counts[outcome] for outcome in WORDS},
        "models": dict(flagged.models),
        "shown": len(entries),
    }
    about = _counts(facts, checker.rule.fpr)
    write_atomically(out, page(_with_near(entries, known), Terms.of(checker), about=about, facts=facts))


def _again(
    record: Mapping[str, Any], checker: FaceChecker, video: VideoOptions, kind: str, *, with_maps: bool
) -> Entry:
    """Check a flagged picture once more, and say where that differs from the scan."""
    watch = functools.partial(check_video, options=video)
    entry = _entry(record["path"], checker, lambda result: None, _silent if with_maps else None, watch, kind)
    result, notes = entry.result, [f"in the scan: {record['verdict']}, probability {record['probability']:.3f}"]
    if result.status == "error":
        notes.append(
            "the picture cannot be read any more as it was in the scan; what the scan found stands in its file"
        )
    elif record["sha256"] and result.sha256 != record["sha256"]:
        notes.append(f"THE FILE HAS CHANGED since the scan, which read the sha256 {record['sha256']}")
    if (record["model"], record["version"]) != (result.model, result.version):
        notes.append(f"the scan was made by {record['model']} in faceproof {record['version']}")
    return replace(entry, notes=(*notes, *entry.notes))


def _counts(facts: Mapping[str, Any], fpr: float) -> str:
    """The scan's counts as HTML, with what its flags mean."""
    total, counts = facts["records"], facts["counts"]
    rows = "".join(
        f'<tr data-outcome="{outcome}"><th scope="row" class="{outcome}">{WORDS[outcome]}</th><td>{number}</td>'
        f'<td class="{outcome}"><svg viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label="{number}">'
        f'<rect width="{100 * number / max(total, 1):.3f}" height="4" fill="currentColor"/></svg></td></tr>'
        for outcome, number in counts.items()
    )
    judged = sum(counts[label] for label in ("photograph", "generated", "inconclusive"))
    other = (
        "" if len(facts["models"]) < 2 else f" They were made by several models: {html.escape(str(facts['models']))}."
    )
    return f"""<h2>The scan</h2>
<p>{total} records in <span class="path">{html.escape(facts["results"])}</span>, sha256 <code>{facts["results_sha256"]}</code>.{other}</p>
<table class="counts">{rows}</table>
<p>If all {judged} pictures with a face were photographs, up to about {fpr * judged:.1f} of them would be called generated by mistake
({100 * fpr:g} %). Where few pictures are generated, many of the {counts["generated"]} flags may be mistakes; <code>faceproof scan --prevalence SHARE</code> says how many.</p>
<h2>The {facts["shown"]} most suspicious pictures</h2>
<p>Checked again, with a stability certificate. Where a perturbation turns the answer, it is inconclusive here, and was not in the scan.</p>
"""


def _sha256(path: str | Path) -> str:
    try:
        with open(path, "rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as err:
        raise OutputError(f"cannot read the results {printable(path)} ({err.strerror or err}); check the file") from err
    return digest.hexdigest()
