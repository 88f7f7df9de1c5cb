"""A study on disk: one self-contained page, faces blurred, and tables."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceproof.campaigns import Campaign, Link
from faceproof.comparing import Comparison
from faceproof.errors import PictureError
from faceproof.extras import opencv
from faceproof.html_parts import bars, day, document, escaped, table
from faceproof.images import load
from faceproof.post_records import PostReport
from faceproof.posts_report import write_rows
from faceproof.prevalence import Estimate
from faceproof.pseudonyms import Pseudonyms
from faceproof.study import DAY, STATES, Study, Texts

__all__ = ["blurred", "page", "write_sample", "write_tables"]

SHOWN_CAMPAIGNS, SHOWN_PICTURES, SHOWN_LINKS = 50, 6, 5
SIDE = 128
CELLS = 5
"""Cells across a blurred face: of a face nothing is left that tells one person from another."""


def page(
    study: Study,
    names: Pseudonyms,
    *,
    problems: Mapping[str, int],
    posts: PostReport | None = None,
    show_faces: bool = False,
) -> str:
    """Return the page as HTML text.

    Args:
        study: to show.
        names: what stands for ids.
        problems: what was wrong with rows -> how often.
        posts: report of the posts, if there were any; it has a page of its own.
        show_faces: do not blur faces.
    """
    count = len(study.accounts.names)
    summary = study.seen.summary
    said = f"{count:,} accounts; pictures judged by {summary.model}"
    parts = [
        "<h2>Pictures</h2>", table(["what is known", "accounts"], list(study.states.items())),
        "<h2>Prevalence</h2>", _prevalence(study), _labelled(study),
        "<h2>Flagged accounts and others</h2>", _comparisons(study.comparisons),
        "<h2>When accounts were created</h2>", _created(study),
        "<h2>Campaigns</h2>", _campaigns(study, names, show_faces),
        "<h2>Posts</h2>", _posts(posts),
        "<h2>What did not fit</h2>", table(["what", "rows"], list(problems.items())),
        "<p>Every one of these rows is named in problems.csv.</p>",
        "<h2>What this can and cannot say</h2>", LIMITS,
    ]  # fmt: skip
    return document("faceproof study", said, "\n".join(parts))


LIMITS = """<ul><li>A flag is a score at or above the model's threshold. Some flags are wrong; the prevalence above counts that, a
single account's row does not.</li>
<li>The rates are those of the model's card, measured on other pictures. Label the sample in label_me.csv by hand and run the
study again with it: that estimate does not lean on the card.</li>
<li>A campaign is a set of accounts with more in common than chance explains. Friends, fans and schools have much in common
too: look at the accounts before you call them inauthentic.</li>
<li>Differences between flagged and other accounts are no causes, and tests on thousands of accounts find small ones: read the
effect sizes.</li></ul>"""


def _prevalence(study: Study) -> str:
    summary = study.seen.summary
    rows = []
    for case in summary.cases:
        if case.estimate is None:
            rows.append((case.split, case.why, "", ""))
            continue
        low, high = study.resampled.get(case.split, (math.nan, math.nan))
        ppv = "" if case.worth is None else _share(case.worth.ppv)
        estimate = Estimate(case.estimate.value, case.estimate.low, case.estimate.high)
        rows.append((case.split, _share(estimate), f"{_percent(low)} to {_percent(high)}", ppv))
    notes = "".join(f"<p>{escaped(note)}</p>" for note in summary.notes)
    return (
        f"<p>{summary.flagged:,} of {summary.judged:,} judged pictures are flagged (threshold for a false-alarm rate of "
        f"{summary.threshold_fpr:g}).</p>{notes}"
        + table(
            ["detection rate as on", "prevalence (Rogan-Gladen, Lang-Reiczigel)", "by bootstrap, copies together",
             "flags that are right, at the prevalence assumed"],
            rows,
        )
    )  # fmt: skip


def _labelled(study: Study) -> str:
    found = study.labelled
    if found is None:
        return '<p class="soft">No labels by hand yet: fill in label_me.csv and give it with --labels.</p>'
    rows = [(one.name, one.size, one.labelled, one.generated) for one in found.strata]
    ppv = "" if found.ppv is None else f" Flags that are right: {_share(found.ppv)}."
    missed = "" if found.found is None else f" Of the generated faces {_percent(found.found)} are flagged."
    return (
        f"<h3>By hand</h3><p>Prevalence {_share(found.prevalence)}.{ppv}{missed}</p>"
        + table(["accounts", "in all", "labelled", "of them generated"], rows)
    )  # fmt: skip


def _share(value: Estimate) -> str:
    return f"{_percent(value.value)} ({_percent(value.low)} to {_percent(value.high)})"


def _percent(value: float) -> str:
    return "none" if math.isnan(value) else f"{100 * value:.3g} %"


def _comparisons(found: Sequence[Comparison]) -> str:
    rows = [
        (
            one.name, _figure(one, one.first), _figure(one, one.other), one.first_count, one.other_count, one.kind,
            f"{one.effect:+.2f} ({one.low:+.2f} to {one.high:+.2f})" if math.isfinite(one.effect) else "none",
            "none" if math.isnan(one.p) else f"{one.p:.2g}", "none" if math.isnan(one.q) else f"{one.q:.2g}",
        )
        for one in found
    ]  # fmt: skip
    head = ["trait", "flagged", "others", "n flagged", "n others", "effect", "size (95 %)", "p", "q"]
    said = "medians or shares; p by Mann-Whitney or Fisher, q corrected by Benjamini and Hochberg"
    return table(head, rows, caption=said)


def _figure(one: Comparison, value: float) -> str:
    return _percent(value) if one.kind == "difference of shares" else "none" if math.isnan(value) else f"{value:.4g}"


def _created(study: Study) -> str:
    if not study.created:
        return '<p class="soft">no creation times</p>'
    marked = [(burst.first, burst.last + 1) for burst in study.bursts]
    start = day(study.first_day)
    rows = [
        (day(study.first_day + b.first * DAY), day(study.first_day + b.last * DAY), b.count, b.expected, b.p)
        for b in study.bursts
    ]
    return (
        bars(study.created, f"accounts created by day, from {start}; bursts are marked", marked=marked)
        + bars(study.flagged_created, f"flagged ones by day, from {start}")
        + table(["burst from", "to", "accounts", "expected", "p"], rows)
    )


def _campaigns(study: Study, names: Pseudonyms, show_faces: bool) -> str:
    shown = study.campaigns[:SHOWN_CAMPAIGNS]
    if not shown:
        return "<p>No two groups of different kinds share more accounts than chance explains.</p>"
    parts = [f"<p>{len(study.campaigns):,} found; those with most kinds of evidence come first.</p>"]
    for one in shown:
        flagged = sum(member in study.seen.faces for member in one.members)
        created = [study.accounts.created[m] for m in one.members if np.isfinite(study.accounts.created[m])]
        span = f", created {day(min(created))} to {day(max(created))}" if created else ""
        known = ", ".join(names.of(study.accounts.names[m]) for m in sorted(one.members)[:12])
        more = " ..." if len(one.members) > 12 else ""
        rows = [(_of(link.first.name), _of(link.other.name), link.shared, link.expected, f"10^{link.log10_p:.0f}")
                for link in one.links[:SHOWN_LINKS]]  # fmt: skip
        parts.append(
            f'<h3 id="campaign-{one.number}">Campaign {one.number}: {len(one.members)} accounts, {flagged} flagged'
            f"{escaped(span)}</h3><p>evidence: {escaped(', '.join(one.kinds))}</p>"
            + table(["group", "group", "accounts in both", "expected", "chance, corrected"], rows)
            + f'<p class="soft">{escaped(known)}{more}</p>{_pictures(study, one, show_faces)}'
        )
    return "\n".join(parts)


def _of(name: str) -> str:
    return name if len(name) < 120 else name[:117] + "..."


def _pictures(study: Study, campaign: Campaign, show_faces: bool) -> str:
    shown = []
    for member in sorted(m for m in campaign.members if m in study.seen.faces)[:SHOWN_PICTURES]:
        try:
            pixels = load(study.seen.path[member]).pixels
        except PictureError:
            continue  # moved since the scan; the record stands
        if not show_faces:
            pixels = blurred(pixels, study.seen.faces[member])
        said = f"score {study.seen.score[member]:.2f}"
        shown.append(f'<figure><img alt="" src="{_data_url(pixels)}"><figcaption>{said}</figcaption></figure>')
    return f'<div class="pictures">{"".join(shown)}</div>' if shown else ""


def blurred(pixels: npt.NDArray[np.uint8], boxes: Sequence[tuple[float, float, float, float]]) -> npt.NDArray[np.uint8]:
    """Return a picture whose faces are five coarse cells across.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        boxes: x0, y0, x1, y1 of the faces in pixels; 30 % more on each side is blurred too.
    """
    cv2 = opencv()
    found = pixels.copy()
    height, width = found.shape[:2]
    for x0, y0, x1, y1 in boxes:
        dx, dy = 0.3 * (x1 - x0), 0.3 * (y1 - y0)
        left, right = max(0, math.floor(x0 - dx)), min(width, math.ceil(x1 + dx))
        top, bottom = max(0, math.floor(y0 - dy)), min(height, math.ceil(y1 + dy))
        if left < right and top < bottom:
            small = cv2.resize(found[top:bottom, left:right], (CELLS, CELLS), interpolation=cv2.INTER_AREA)
            size = (right - left, bottom - top)
            found[top:bottom, left:right] = cv2.resize(small, size, interpolation=cv2.INTER_NEAREST)
    return found


def _data_url(pixels: npt.NDArray[np.uint8]) -> str:
    cv2 = opencv()
    scale = SIDE / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(small[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _posts(report: PostReport | None) -> str:
    if report is None:
        return '<p class="soft">no posts were given</p>'
    return (
        f"<p>{report.posts:,} posts of {report.accounts:,} accounts, {len(report.clusters)} clusters, "
        f"{len(report.copies)} copied texts; all about them is in posts.html.</p>"
    )


def write_tables(
    study: Study,
    clusters: Mapping[int, set[int]],
    texts: Texts | None,
    folder: Path,
    names: Pseudonyms,
    said: str,
) -> None:
    """Write accounts.csv, prevalence.csv, comparison.csv, campaigns.csv and campaign_accounts.csv.

    Raises:
        OutputError: they cannot be written.
    """
    accounts, seen = study.accounts, study.seen
    picture = {member: number for number, members in clusters.items() for member in members}
    campaign: dict[int, list[int]] = {}
    for one in study.campaigns:
        for member in one.members:
            campaign.setdefault(member, []).append(one.number)
    write_rows(
        folder / "accounts.csv", said,
        ["account", "picture", "score", "created", "picture_cluster", "posts", "copied_share", "campaigns"],
        (
            (
                names.of(name), STATES[seen.state[n]], _number(float(seen.score[n])), _when(float(accounts.created[n])),
                picture.get(n, ""), "" if texts is None else int(texts.posts[n]),
                "" if texts is None else _number(float(texts.copied[n])), " ".join(map(str, campaign.get(n, ()))),
            )
            for n, name in enumerate(accounts.names)
        ),
    )  # fmt: skip
    write_rows(folder / "prevalence.csv", said, ["method", "prevalence", "low", "high"], _estimates(study))
    write_rows(
        folder / "comparison.csv", said,
        ["trait", "flagged", "others", "n_flagged", "n_others", "effect", "size", "low", "high", "p", "q"],
        (
            (c.name, _number(c.first), _number(c.other), c.first_count, c.other_count, c.kind, _number(c.effect),
             _number(c.low), _number(c.high), _number(c.p), _number(c.q))
            for c in study.comparisons
        ),
    )  # fmt: skip
    write_rows(
        folder / "campaigns.csv", said,
        ["campaign", "accounts", "flagged", "kinds", "group", "other_group", "shared", "expected", "log10_p"],
        (_link(one, link, sum(m in seen.faces for m in one.members)) for one in study.campaigns for link in one.links),
    )  # fmt: skip
    write_rows(
        folder / "campaign_accounts.csv", said, ["campaign", "account"],
        ((one.number, names.of(accounts.names[m])) for one in study.campaigns for m in sorted(one.members)),
    )  # fmt: skip


def write_sample(study: Study, to_label: Sequence[tuple[int, str]], folder: Path, names: Pseudonyms, said: str) -> None:
    """Write label_me.csv; it names pictures by their paths, so that a person can look at them: not for publishing.

    Raises:
        OutputError: it cannot be written.
    """
    rows = ((names.of(study.accounts.names[n]), study.seen.path[n], "") for n, _ in to_label)
    write_rows(folder / "label_me.csv", said, ["account", "picture", "label"], rows)


def _link(one: Campaign, link: Link, flagged: int) -> tuple[object, ...]:
    kinds = " ".join(one.kinds)
    return (one.number, len(one.members), flagged, kinds, link.first.name, link.other.name, link.shared,
            _number(link.expected), round(link.log10_p, 1))  # fmt: skip


def _estimates(study: Study) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for case in study.seen.summary.cases:
        if case.estimate is not None:
            e = case.estimate
            rows.append((f"Rogan-Gladen, rates of {case.split}", *map(_number, (e.value, e.low, e.high))))
            if case.split in study.resampled:
                low, high = study.resampled[case.split]
                rows.append(
                    (
                        f"bootstrap of picture clusters, rates of {case.split}",
                        _number(e.value),
                        _number(low),
                        _number(high),
                    )
                )
    if study.labelled is not None:
        e2 = study.labelled.prevalence
        rows.append(("labelled by hand", *map(_number, (e2.value, e2.low, e2.high))))
    return rows


def _number(value: float) -> float | str:
    """Six digits; a number stays one, as text with a minus would be made harmless like a formula."""
    return "" if math.isnan(value) else float(f"{value:.6g}")


def _when(value: float) -> str:
    return "" if math.isnan(value) else datetime.fromtimestamp(value, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
