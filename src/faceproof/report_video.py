"""Videos on the page of `report_html`: their timeline and, for each person, the verdict and what led to it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from faceproof.timeline import timeline_svg
from faceproof.video_records import Track, VideoResult

__all__ = ["video_article"]

GUIDE = "The rates of errors were measured on single pictures; for videos they are a guide, not a promise."
SHOWN = 40
"""Tracks described one by one, the most suspicious first; the page's JSON has all."""


def video_article(number: int, result: VideoResult, words: Mapping[str, str], remarks: Sequence[str] = ()) -> str:
    """Return the article about one video as HTML.

    Args:
        number: its place on the page, from 1.
        result: what was found.
        words: what outcomes are called on the page.
        remarks: sentences besides the result's own notes.
    """
    outcome = result.verdict or result.status
    order = result.by_suspicion
    if result.status == "error":
        detail = f"<p>{_text(result.error)}</p>"
    elif result.status == "no_face":
        detail = "<p>No face was found in any frame that was checked, so there is no verdict.</p>"
    else:
        detail = "".join(_track(track, result) for track in order[:SHOWN])
        detail += f"<p>and {len(order) - SHOWN} more</p>" if len(order) > SHOWN else ""
    timeline = timeline_svg(result, title=False) if result.status != "error" else ""
    notes = "".join(f"<li>{_text(note)}</li>" for note in (*result.notes, *remarks))
    table = "".join(f"<tr><th scope='row'>{name}</th><td>{_text(value)}</td></tr>" for name, value in _rows(result))
    return f"""<article id="picture-{number}" data-verdict="{outcome}" data-kind="video">
<header><h2 class="path">{number}. {_text(result.path)}</h2><div class="verdict {outcome}"><p><b>{words[outcome]}</b><br>{GUIDE}</p></div></header>
<div class="wide">{timeline}</div><div class="wide">{detail}{f"<h3>Notes</h3><ul>{notes}</ul>" if notes else ""}</div>
<div class="wide"><table>{table}</table></div></article>"""


def _rows(result: VideoResult) -> list[tuple[str, str]]:
    counts = result.frames
    return [
        ("video", f"{result.seconds:.1f} s, {result.codec} in {result.container}, {result.width} x {result.height}"),
        (
            "frames",
            f"{counts.read} read, {counts.used} checked, {counts.damaged} damaged; {counts.faces} faces, "
            f"{counts.unclear} of them of unclear identity and not used",
        ),
        ("sha256", result.sha256 or "not a file"),
        ("face detector", result.face_detector),
    ]


def _track(track: Track, result: VideoResult) -> str:
    verdict = track.face.verdict
    mark = " (the one that speaks for the video)" if track is result.decisive and len(result.tracks) > 1 else ""
    rows = [
        ("probability of generated", f"{verdict.probability:.3f}"),
        ("threshold", f"{verdict.threshold:.3f}, which {100 * verdict.threshold_fpr:g} % of known photographs reach"),
        ("log-odds", f"{verdict.log_odds:+.2f}"),
        ("band without a claim", f"{verdict.band[0]:.3f} to {verdict.band[1]:.3f}"),
        (
            "seen",
            f"{track.first:.1f} to {track.last:.1f} s; fit to be judged in {track.judged} of {track.seen} sightings; "
            f"best at {track.best:.1f} s",
        ),
    ]
    table = "".join(f"<tr><th scope='row'>{name}</th><td>{_text(value)}</td></tr>" for name, value in rows)
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in verdict.reasons)
    return f"""<section class="face" data-track="{track.number}"><h3>Person {track.number}{mark}: <span class="{verdict.label}">{verdict.label}</span></h3>
<table>{table}</table><ul>{reasons}</ul></section>"""


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
