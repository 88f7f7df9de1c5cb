"""The timeline of a video as SVG: for each person the probability in every frame that was checked.

One row per track on a fixed scale from 0 (photograph) to 1 (generated), with the band without a claim and the
threshold. Frames whose face fails quality are hollow. Plain SVG, to stand alone or inside a page.
"""

from __future__ import annotations

import html

from faceproof.video_records import Sighting, Track, VideoResult

__all__ = ["timeline_svg"]

COLOURS = {"photograph": "#146c43", "generated": "#b02a37", "inconclusive": "#8a5a00"}
WIDTH, LEFT, RIGHT = 960, 150, 20
ROW, GAP, TOP, BOTTOM = 90, 26, 44, 34
MOST_ROWS = 40
MOST_DOTS = 600


def timeline_svg(result: VideoResult, *, title: bool = True) -> str:
    """Return an SVG element as text.

    Args:
        result: of a video; without tracks the plot says so.
        title: put the file's name above.
    """
    tracks = result.tracks[:MOST_ROWS]
    end = max([result.seconds, *(track.last for track in tracks), 0.001])
    height = TOP + max(1, len(tracks)) * (ROW + GAP) + BOTTOM
    parts = [_text(LEFT, 20, f"{result.path}: {result.verdict or 'no face found'}", size=14)] if title else []
    for place, track in enumerate(tracks):
        parts.append(_row(track, result, TOP + place * (ROW + GAP), end))
    if not tracks:
        parts.append(_text(LEFT, TOP + ROW / 2, "no face was found in the frames that were checked"))
    more = len(result.tracks) - len(tracks)
    if more > 0:
        parts.append(_text(LEFT, height - 4, f"and {more} more tracks, which the JSON record holds"))
    parts.append(_axis(end, height - BOTTOM + 6))
    label = html.escape(f"probability of generated over {end:.1f} seconds, {len(result.tracks)} tracks", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="timeline" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{label}" font-family="system-ui,sans-serif" fill="currentColor">{"".join(parts)}</svg>'
    )


def _row(track: Track, result: VideoResult, top: float, end: float) -> str:
    verdict = track.face.verdict
    colour = COLOURS[verdict.label]
    low, high = (top + ROW * (1 - value) for value in reversed(result.band))
    limit = top + ROW * (1 - result.threshold)
    wide = WIDTH - LEFT - RIGHT
    parts = [
        f'<g data-track="{track.number}" data-verdict="{verdict.label}">',
        f'<rect x="{LEFT}" y="{top}" width="{wide}" height="{ROW}" fill="currentColor" opacity=".06"/>',
        f'<rect x="{LEFT}" y="{low:.1f}" width="{wide}" height="{max(high - low, 1):.1f}" fill="currentColor" '
        'opacity=".12"/>',
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{limit:.1f}" y2="{limit:.1f}" stroke="currentColor" '
        'stroke-dasharray="4 3" opacity=".6"/>',
        _text(8, top + 18, f"person {track.number}", size=13),
        f'<text x="8" y="{top + 36}" font-size="12" fill="{colour}" font-weight="700">{verdict.label}</text>',
        _text(8, top + 53, f"{verdict.probability:.3f}", size=12),
        _text(8, top + 70, f"{track.judged} of {track.seen} judged", size=11),
        _text(LEFT - 6, top + 9, "1", size=10, anchor="end"),
        _text(LEFT - 6, top + ROW, "0", size=10, anchor="end"),
    ]
    shown = track.sightings[:: max(1, -(-len(track.sightings) // MOST_DOTS))]
    points = [(LEFT + wide * s.seconds / end, top + ROW * (1 - s.probability), s) for s in shown]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, s in points if s.weight)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" opacity=".5"/>')
    parts += [_dot(x, y, sighting) for x, y, sighting in points]
    return "".join([*parts, "</g>"])


def _dot(x: float, y: float, sighting: Sighting) -> str:
    colour = COLOURS[sighting.label]
    fill = colour if sighting.weight else "none"
    radius = 1.5 + 2.5 * sighting.weight
    why = f", {', '.join(sighting.quality)}" if sighting.quality else ""
    words = html.escape(f"{sighting.seconds:.2f} s: {sighting.probability:.3f} {sighting.label}{why}")
    return (
        f'<circle data-frame="{sighting.index}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}" '
        f'stroke="{colour}"><title>{words}</title></circle>'
    )


def _axis(end: float, y: float) -> str:
    """Ticks at round seconds, about eight of them."""
    step = next(
        s
        for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 6 * 3600, 86400)
        if end / s <= 10 or s == 86400
    )
    wide = WIDTH - LEFT - RIGHT
    marks = []
    for k in range(min(int(end / step), 100) + 1):
        x = LEFT + wide * k * step / end
        marks.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 6}" y2="{y - 2}" stroke="currentColor" opacity=".6"/>')
        marks.append(_text(x, y + 10, _clock(k * step), size=10, anchor="middle"))
    return "".join(marks)


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{html.escape(text)}</text>'
