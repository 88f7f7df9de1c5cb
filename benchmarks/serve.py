"""What `faceproof serve` takes: pictures a second, waiting times, errors and memory, with real clients on loopback.

    python benchmarks/serve.py                         # 60 s at 16 clients
    python benchmarks/serve.py --seconds 600           # with the ten minutes in which memory must stay flat

A real server process with one worker a core; clients are processes of their own, each with some connections that
are kept open, each of which sends the next picture when it has its answer (closed loop). `check` without
perturbations, as a scan does it: POST /api/v1/check, JPEG of about 350 px. Memory is the sum of PSS (USS where there is
none) of the server and its workers, every second; "flat" compares the median of the last third with that of the
middle third: the first one loads pages for the first time. The page's time is from the request to the moment it can
be used, in Chromium, where there is one. Writes serve.csv.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from common import NO_GOAL, arguments, judged, model_words, say, write_results
from pictures import picture_files

GOAL_RATE, GOAL_P95, GOAL_FLAT, GOAL_PAGE = 40.0, 0.6, 1.05, 2.0
CLIENT_PROCESSES = 2


async def _client(port: int, bodies: list[bytes], end: float, start: int, found: list[tuple[float, int]]) -> None:
    """One connection: the next request when the answer is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = start
    while time.time() < end:
        body = bodies[number % len(bodies)]
        number += 1
        begun = time.perf_counter()
        try:
            head = f"POST /api/v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            answer = await reader.readuntil(b"\r\n\r\n")
            lines = answer.decode("latin-1").lower().split("\r\n")
            status = int(lines[0].split()[1])
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
            text = await reader.readexactly(length)
            if status == 200 and b'"status":"ok"' not in text and b'"status":"no_face"' not in text:
                status = -1
        except (OSError, asyncio.IncompleteReadError):
            status = 0
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        found.append((time.perf_counter() - begun, status))
    writer.close()


def _clients(port: int, folder: str, end: float, count: int, first: int, answers: object) -> None:
    """Of a process: several clients."""
    bodies = [path.read_bytes() for path in sorted(Path(folder).glob("*.jpg"))]
    found: list[tuple[float, int]] = []

    async def together() -> None:
        await asyncio.gather(*(_client(port, bodies, end, first + 7 * k, found) for k in range(count)))

    asyncio.run(together())
    answers.put(found)  # type: ignore[attr-defined]


def memory(process: psutil.Process) -> float:
    """MiB held by a process and its children."""
    held = 0
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            info = each.memory_full_info()
            held += getattr(info, "pss", 0) or info.uss
    return held / 2**20


def load(port: int, folder: Path, clients: int, seconds: float, process: psutil.Process) -> dict[str, object]:
    """Send pictures for so long; return a row."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    end = time.time() + seconds + 2  # client processes start in this time
    share = [clients // CLIENT_PROCESSES + (k < clients % CLIENT_PROCESSES) for k in range(CLIENT_PROCESSES)]
    begun = time.time() + 2
    started = [
        context.Process(target=_clients, args=(port, str(folder), end, count, 31 * k, answers))
        for k, count in enumerate(share) if count
    ]  # fmt: skip
    for one in started:
        one.start()
    held = []
    while time.time() < end:
        time.sleep(1)
        held.append(memory(process))
    found = [each for _ in started for each in answers.get(timeout=60)]
    for one in started:
        one.join()
    third = max(1, len(held) // 3)
    flat = statistics.median(held[-third:]) / statistics.median(held[third : 2 * third] or held)
    times = sorted(seconds for seconds, status in found if status == 200)
    busy, bad = (sum(status == 429 for _, status in found), sum(status not in (200, 429) for _, status in found))
    p50, p95 = (times[int(share * (len(times) - 1))] for share in (0.5, 0.95))
    rate = len(times) / (time.time() - begun)
    return {"clients": clients, "rate": rate, "p50": p50, "p95": p95, "busy": busy, "bad": bad, "answers": len(found),
            "peak": max(held), "flat": flat}  # fmt: skip


def page_seconds(url: str) -> float | None:
    """From the request for the page until it can be used; the best of three, None without a browser."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if chromium is None:
        return None
    found = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(3):
            page = browser.new_context().new_page()
            begun = time.perf_counter()
            page.goto(url)
            page.wait_for_selector("html[data-ready=true]")
            found.append(time.perf_counter() - begun)
        browser.close()
    return min(found)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of load at 16 clients")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0, help="of the server; 0 takes one a core")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, picture_files(given.pictures, 64) as files:
        pictures = files[0].parent
        command = [sys.executable, "-m", "faceproof", "serve", "--port", "0", "--workers", str(given.workers),
                   *model_words(given.model)]  # fmt: skip
        begun = time.perf_counter()
        server = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().decode().strip()
            ready = time.perf_counter() - begun
            port = urlsplit(url).port
            assert port, "the server did not start"
            process = psutil.Process(server.pid)
            say(f"{url} after {ready:.1f} s")
            page = page_seconds(url)
            rows = [load(port, pictures, 1, min(10, given.seconds), process)]
            rows.append(load(port, pictures, given.clients, given.seconds, process))
        finally:
            os.kill(server.pid, signal.SIGTERM)
            server.wait(timeout=30)
    write_results(given.results / "serve.csv", list(_rows(rows, ready, page, given.seconds)))


def _rows(found: list[dict[str, object]], ready: float, page: float | None, seconds: float) -> list[dict[str, object]]:
    """One figure a line."""
    rows: list[dict[str, object]] = [
        {"what": "start of the server", "clients": "", "value": f"{ready:.2f}", "unit": "s", **NO_GOAL},
        {"what": "page usable", "clients": 1, "value": "" if page is None else f"{page:.2f}", "unit": "s",
         **judged(page, "<=", GOAL_PAGE)},
    ]  # fmt: skip
    for one in found:
        many = one is found[-1]

        def row(what: str, value: float, unit: str, goal: dict[str, str], one: dict[str, object] = one) -> None:
            rows.append({"what": what, "clients": one["clients"], "value": f"{value:.3f}", "unit": unit, **goal})

        rate, p95, bad, flat = (float(str(one[key])) for key in ("rate", "p95", "bad", "flat"))
        row("pictures", rate, "per second", judged(rate, ">=", GOAL_RATE) if many else NO_GOAL)
        row("answer, median", float(str(one["p50"])), "s", NO_GOAL)
        row("answer, 95th percentile", p95, "s", judged(p95, "<=", GOAL_P95) if many else NO_GOAL)
        row("errors", bad, "of " + str(one["answers"]), judged(bad, "<=", 0) if many else NO_GOAL)
        row("told to come again (429)", float(str(one["busy"])), "of " + str(one["answers"]), NO_GOAL)
        row("memory, peak", float(str(one["peak"])), "MiB", NO_GOAL)
        if many:
            row(f"memory, last third / middle third of {seconds:g} s", flat, "", judged(flat, "<=", GOAL_FLAT))
    return rows


if __name__ == "__main__":
    main()
