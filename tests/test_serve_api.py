"""The API of `faceproof serve`: the library's records through a real server, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from faceproof import FaceChecker
from faceproof.explanation import explain
from faceproof.images import RGB, Encoded
from faceproof.side_by_side import compare

from .helpers import run_cli
from .serving import API, Server, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def portrait() -> bytes:
    """A picture whose face is large enough to be explained."""
    return (Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg").read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("serve"), "--workers", "2", "--max-picture", "4", "--max-video", "8") as one:
        yield one
        assert one.left() == []
        assert one.log.read_text(encoding="utf-8") == ""


def same(first: Any, second: Any) -> None:
    """Equal, up to what another run of the network rounds differently."""
    assert type(first) is type(second) or {type(first), type(second)} == {int, float}
    if isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            same(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            same(one, other)
    elif isinstance(first, float):
        assert first == pytest.approx(second, rel=1e-4, abs=1e-4)
    else:
        assert first == second


@pytest.mark.parametrize("stability", ["off", "quick"])
def test_check_gives_the_librarys_record(server: Server, face_jpeg: bytes, stability: str) -> None:
    expected = FaceChecker(stability=stability).check(Encoded("a b.jpg", face_jpeg)).to_dict()
    raw = server.post(f"check?stability={stability}&name=a%20b.jpg", face_jpeg)
    assert raw.status == 200
    same(raw.json, expected)
    same(server.form(f"check?stability={stability}", [("a b.jpg", face_jpeg)]).json, expected)


def test_check_without_metadata(server: Server, face_jpeg: bytes) -> None:
    expected = FaceChecker(metadata=False).check(Encoded("upload", face_jpeg)).to_dict()
    same(server.post("check?metadata=false", face_jpeg).json, expected)


def test_curls_own_type_is_taken_as_a_file(server: Server, face_jpeg: bytes) -> None:
    """`curl --data-binary` says that it sends a form."""
    assert server.post("check", face_jpeg, "application/x-www-form-urlencoded").json["status"] == "ok"


def test_compare_gives_the_librarys_record(server: Server, face_jpeg: bytes, checker: FaceChecker) -> None:
    mirrored = _png(np.asarray(Image.open(io.BytesIO(face_jpeg)))[:, ::-1])
    files = [("one.jpg", face_jpeg), ("two.png", mirrored)]
    reply = server.form("compare", files)
    assert reply.status == 200
    same(reply.json, compare(*(Encoded(*file) for file in files), checker).to_dict())
    assert reply.json["likeness"] == "copies"
    assert reply.json["view"] == "mirrored"
    assert server.form("compare", [files[0], files[0]]).json["likeness"] == "same file"


def test_explain_gives_the_librarys_record(server: Server, portrait: bytes, checker: FaceChecker) -> None:
    reply = server.post("explain?pictures=true&name=a.jpg", portrait)
    assert reply.status == 200
    record = reply.json
    pictures = record.pop("pictures")
    same(record, explain(Encoded("a.jpg", portrait), checker).to_dict())
    assert list(pictures) == [*(one["name"] for one in record["maps"]), "spectrum"]
    assert all(Image.open(io.BytesIO(base64.b64decode(text))).width > 300 for text in pictures.values())
    assert server.post("explain?face=7", portrait).code == "bad_request"


def test_report_is_a_page(server: Server, face_jpeg: bytes) -> None:
    reply = server.post("report?maps=false&name=a.jpg", face_jpeg)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"faceproof report" in reply.body
    assert b"a.jpg" in reply.body


def test_duplicates(server: Server, face_jpeg: bytes) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(face_jpeg)))
    noise = np.random.default_rng(1).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    files = [("a.jpg", face_jpeg), ("noise.png", _png(noise)), ("b.png", _png(pixels)), ("bad.jpg", b"no picture"),
             ("flat.png", _png(np.zeros((50, 50, 3), np.uint8)))]  # fmt: skip
    record = server.form("duplicates", files).json
    assert {k: record[k] for k in ("pictures", "flat", "errors", "clusters", "clustered", "radius")} == {
        "pictures": 5, "flat": 1, "errors": 1, "clusters": 1, "clustered": 2, "radius": 3,
    }  # fmt: skip
    assert [(m["index"], m["path"]) for m in record["groups"][0]["members"]] == [(0, "a.jpg"), (2, "b.png")]
    assert "not a picture" in record["records"][3]["error"]
    turned = [("a.jpg", face_jpeg), ("turned.png", _png(np.rot90(pixels)))]
    assert server.form("duplicates", turned).json["clusters"] == 0
    assert server.form("duplicates?rotations=true", turned).json["clusters"] == 1


def test_video(server: Server, tmp_path: Path, astronaut: RGB, checker: FaceChecker) -> None:
    pytest.importorskip("av", reason="of the extra [video]")
    from faceproof.video import Sampling
    from faceproof.video_check import VideoOptions, check_video

    clip = make_clip(tmp_path / "clip.mp4", astronaut)
    reply = server.post("video?fps=2&name=clip.mp4", clip)
    assert reply.status == 200, reply.body
    expected = check_video(checker, tmp_path / "clip.mp4", VideoOptions(Sampling(2.0), 1280)).to_dict()
    same(reply.json | {"path": ""}, expected | {"path": ""})
    assert reply.json["path"] == "clip.mp4"
    bad = server.post("video?name=x.mp4", b"\0\0\0\x18ftypmp42" + bytes(2000))
    assert bad.status in (415, 422)
    assert "/proc" not in bad.body.decode()
    assert bad.code


def make_clip(path: Path, picture: RGB) -> bytes:
    """A clip of two seconds with one face; its bytes."""
    from .clips import write_clip

    write_clip(path, [picture[:384, 64:448]] * 12, rate=6)
    return path.read_bytes()


def test_models(server: Server) -> None:
    from faceproof.detectors.store import DEFAULT_MODEL, shipped_models

    shown = server.get(f"{API}/models").json
    assert {card["name"] for card in shown} >= set(shipped_models())
    card = json.loads((shipped_models()[DEFAULT_MODEL] / "card.json").read_text(encoding="utf-8"))
    assert server.get(f"{API}/models/{DEFAULT_MODEL}").json == card
    missing = server.get(f"{API}/models/nothing")
    assert (missing.status, missing.code) == (404, "not_found")


def test_health_and_about(server: Server) -> None:
    assert server.get(f"{API}/health").json["status"] == "ok"
    about = server.get(f"{API}/about").json
    assert about["most_picture"] == 4 << 20
    assert not about["urls"]
    assert {"check", "compare", "explain", "duplicates"} <= set(about["verbs"])


def test_metrics_count(server: Server, face_jpeg: bytes) -> None:
    parser = pytest.importorskip("prometheus_client.parser")

    def samples() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        text = server.get("/metrics").body.decode()
        found = parser.text_string_to_metric_families(text)
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in found for s in family.samples}

    good = ("faceproof_requests_total", (("status", "200"), ("verb", "check")))
    bad = ("faceproof_outcomes_total", (("outcome", "not_a_picture"), ("verb", "check")))
    timed = ("faceproof_seconds_count", (("verb", "check"),))
    before = samples()
    server.post("check", face_jpeg)
    server.post("check", b"x")
    after = samples()
    for key, more in ((good, 1), (bad, 1), (timed, 2)):
        assert after[key] == before.get(key, 0) + more
    assert after["faceproof_running", ()] == after["faceproof_queued", ()] == after["faceproof_held_bytes", ()] == 0
    assert 1e7 < after["faceproof_resident_bytes", ()] < 1e9


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("check?stability=much", 400, "bad_request"),
        ("check?metadata=1", 400, "bad_request"),
        ("check?colour=red", 400, "bad_request"),
        ("check?name=a&name=b", 400, "bad_request"),
        ("check?name=" + "x" * 301, 400, "bad_request"),
        ("explain?face=0", 400, "bad_request"),
        ("explain?face=%D9%A1", 400, "bad_request"),
        ("explain?face=1e3", 400, "bad_request"),
        ("video?fps=nan", 400, "bad_request"),
        ("video?fps=0", 400, "bad_request"),
        ("duplicates?radius=32", 400, "bad_request"),
        ("nothing", 404, "not_found"),
        ("check/", 404, "not_found"),
    ],
)
def test_wrong_requests(server: Server, face_jpeg: bytes, path: str, status: int, code: str) -> None:
    reply = server.post(path, face_jpeg)
    assert (reply.status, reply.code) == (status, code)


def test_methods(server: Server) -> None:
    for method, path in (("GET", "check"), ("PUT", "check"), ("DELETE", "models"), ("POST", "health")):
        reply = server.ask(method, f"{API}/{path}")
        assert (reply.status, reply.code) == (405, "method")


def test_security_headers(server: Server, face_jpeg: bytes) -> None:
    for reply in (server.get("/"), server.get(f"{API}/models"), server.post("check", face_jpeg), server.get("/none")):
        policy = reply.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Cache-Control"] in ("no-store", "no-cache")
        assert reply.headers["Access-Control-Allow-Origin"] is None
        assert reply.headers["Server"] is None


def test_other_sites_may_not_ask(server: Server, face_jpeg: bytes) -> None:
    preflight = server.ask("OPTIONS", f"{API}/check", headers={"Origin": "https://evil.example"})
    assert preflight.headers["Access-Control-Allow-Origin"] is None
    reply = server.post("check", face_jpeg, **{"Sec-Fetch-Site": "cross-site"})
    assert (reply.status, reply.code) == (403, "cross_site")
    assert server.post("check", face_jpeg, **{"Sec-Fetch-Site": "same-origin"}).status == 200


@pytest.mark.parametrize(
    ("host", "known"),
    [("localhost:1", True), ("127.0.0.1", True), ("[::1]:80", True), ("evil.example", False), ("", False),
     ("localhost.evil.example", False)],
)  # fmt: skip
def test_names_that_could_be_made_to_point_here_are_refused(server: Server, host: str, known: bool) -> None:
    reply = server.get(f"{API}/health", Host=host)
    assert reply.status == (200 if known else 421)
    if not known:
        assert reply.code == "wrong_host"


def test_token(tmp_path: Path, face_jpeg: bytes) -> None:
    token = "correct-horse-battery-staple"
    file = tmp_path / "token"
    file.write_text(token + "\n", encoding="utf-8")
    with serving(
        tmp_path / "s", "--workers", "1", "--token-file", str(file), "--allow-host", "Pictures.example"
    ) as one:
        for given in (None, "", "Bearer", f"Bearer {token}x", f"Basic {token}", "Bearer \xff", token):
            headers = {} if given is None else {"Authorization": given}
            for reply in (one.post("check", face_jpeg, **headers), one.get("/metrics", **headers)):
                assert (reply.status, reply.code) == (401, "token")
                assert reply.headers["WWW-Authenticate"] == "Bearer"
        good = {"Authorization": f"Bearer {token}"}
        assert one.post("check", face_jpeg, **good).status == 200
        assert one.get("/metrics", **good).status == 200
        assert one.get(f"{API}/health", Host="pictures.example").status == 200
        assert one.get(f"{API}/about").json["token"] is True
        assert token not in one.log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "env", "message"),
    [
        (["--model", "nothing"], {}, "unknown model 'nothing'"),
        (["--fpr", "5", "--workers", "1"], {}, "5"),
        ([], {"FACEPROOF_TOKEN": "short"}, "at least 16"),
        (["--host", "203.0.113.1"], {}, "cannot listen on 203.0.113.1"),
        (["--token-file", "gone.txt"], {}, "no such file"),
    ],
)
def test_wrong_use_is_said_in_one_line(options: list[str], env: dict[str, str], message: str) -> None:
    done = run_cli("serve", "--port", "0", *options, env=env)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("faceproof: ")
    assert message in last
    assert "Traceback" not in done.stderr


def test_answers_are_not_held_back() -> None:
    """Nagle's algorithm is off for who connects: the second piece of an answer would wait 40 ms."""
    from faceproof.web.running import _bound

    async def nodelay() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def met(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with _bound("127.0.0.1", 0) as listening:
            async with await asyncio.start_server(met, sock=listening):
                _, writer = await asyncio.open_connection(*listening.getsockname()[:2])
                try:
                    return await found
                finally:
                    writer.close()

    assert asyncio.run(nodelay()) == 1


def _png(pixels: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG")
    return stream.getvalue()
