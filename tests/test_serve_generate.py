"""`generate` of `faceproof serve`: pictures from a local image server, checked; money, refusals, failures."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from .helpers import environment, run_cli
from .image_server import KEY, USAGE, ImageServer, picture_of
from .serving import API, Reply, Server, serving
from .test_serve_api import same

pytest.importorskip("openai", reason="the extra [openai] is not installed")
pytest.importorskip("starlette", reason="of the extra [serve]")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PORTRAIT = (ROOT / "examples" / "astronaut.jpg").read_bytes()
ENV = {"OPENAI_API_KEY": KEY, "no_proxy": "127.0.0.1"}


@contextlib.contextmanager
def making(folder: Path, images: ImageServer, *options: str) -> Iterator[Server]:
    """A server that makes pictures; the key is in neither its answers nor its log."""
    given = ("--workers", "1", "--generate", "--base-url", images.url, *options)
    with serving(folder, *given, env=ENV) as one:
        yield one
        assert one.left() == []
        assert KEY not in one.log.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(running_images: ImageServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with making(tmp_path_factory.mktemp("serve"), running_images, "--price", "0", "--generate-model", "mine") as one:
        yield one


def ask(server: Server, prompt: Any, query: str = "") -> Reply:
    """Ask for a picture; no answer holds the key."""
    reply = server.post(f"generate{query}", json.dumps({"prompt": prompt}).encode(), "application/json")
    assert KEY.encode() not in reply.body
    return reply


def test_a_picture_its_origin_and_its_verdict(server: Server, images: ImageServer) -> None:
    images.made = PORTRAIT
    reply = ask(server, " a portrait ", "?size=1536x1024&quality=low&stability=quick")
    assert reply.status == 200
    record = reply.json
    assert list(record) == ["schema", "picture", "provenance", "result", "unchecked"]
    kind, _, data = record["picture"].partition(";base64,")
    assert kind == "data:image/jpeg"
    assert base64.b64decode(data) == PORTRAIT
    from_ = record["provenance"]
    assert from_["schema"] == "faceproof.generated/1"
    assert {key: from_[key] for key in ("status", "task", "model", "server", "prompt", "format")} == {
        "status": "ok", "task": "text", "model": "mine", "server": images.url, "prompt": "a portrait", "format": "JPEG",
    }  # fmt: skip
    assert from_["sha256"] == hashlib.sha256(PORTRAIT).hexdigest() == record["result"]["sha256"]
    assert (from_["width"], from_["height"]) == (record["result"]["width"], record["result"]["height"])
    assert from_["usage"] == USAGE
    assert from_["cost"] is None  # nobody knows this server's prices
    checked = server.post(f"check?stability=quick&name={from_['path']}", PORTRAIT).json
    same(record["result"], checked)
    assert record["unchecked"] is None
    (asked,) = images.seen
    assert (asked.fields["size"], asked.fields["quality"]) == ("1536x1024", "low")


def test_forms_and_what_is_left_to_the_service(server: Server, images: ImageServer) -> None:
    edge = '--e\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na dog\r\n--e--\r\n'
    for body, kind in (
        (f"prompt={quote('ein Hügel & ein Baum')}", "application/x-www-form-urlencoded"),
        (edge, "multipart/form-data; boundary=e"),
    ):
        assert server.post("generate?quality=auto", body.encode(), kind).json["result"]["status"] == "no_face"
    assert [asked.fields["prompt"] for asked in images.seen] == ["ein Hügel & ein Baum", "a dog"]
    assert all("quality" not in asked.fields for asked in images.seen)


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b'{"prompt": ""}', "application/json", 400, "bad_prompt"),
        (b'{"prompt": "a", "n": 9}', "application/json", 400, "bad_prompt"),
        (b'{"prompt": 5}', "application/json", 400, "bad_prompt"),
        (b'{"prompt": "\\ud800"}', "application/json", 400, "bad_prompt"),
        (b"[" * 60_000, "application/json", 400, "bad_prompt"),
        (b"\xff", "application/json", 400, "bad_prompt"),
        (b'{"prompt": "%s"}' % (b"a" * 4001), "application/json", 400, "bad_prompt"),
        (b"a=b", "application/x-www-form-urlencoded", 400, "bad_prompt"),
        (b"no form", "multipart/form-data; boundary=e", 400, "bad_prompt"),
        (b"a portrait", "text/plain", 415, "not_a_prompt"),
        (b" " * 70_000, "application/json", 413, "too_large"),
    ],
)
def test_what_is_no_prompt(server: Server, images: ImageServer, body: bytes, kind: str, status: int, code: str) -> None:
    reply = server.post("generate", body, kind)
    assert (reply.status, reply.code) == (status, code)
    assert images.seen == []


@pytest.mark.parametrize("query", ["?size=64x64", "?quality=max", "?model=dear", "?quality=low&quality=high"])
def test_only_some_sizes_and_qualities(server: Server, images: ImageServer, query: str) -> None:
    reply = ask(server, "a portrait", query)
    assert (reply.status, reply.code) == (400, "bad_request")
    assert images.seen == []


@pytest.mark.parametrize(
    ("action", "status", "code"),
    [
        ("refuse", 422, "refused"),
        ("500", 503, "generator_down"),
        ("429 7", 503, "generator_down"),
        ("garbage", 503, "generator_down"),
        ("cut", 503, "generator_down"),
        ("401", 502, "generator_refused"),
        ("429 insufficient_quota", 502, "generator_refused"),
        ("link http://127.0.0.1:9/x", 502, "generator_refused"),
        ("truncated", 502, "generator_failed"),
    ],
)
def test_what_the_service_may_do(server: Server, images: ImageServer, action: str, status: int, code: str) -> None:
    images.rule = lambda asked: action
    reply = ask(server, "a portrait")
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["Retry-After"] == ("7" if action == "429 7" else None)
    assert len(images.seen) == 1
    images.rule = lambda asked: None
    assert ask(server, "a portrait").status == 200


def test_checking_goes_on_and_few_are_made_at_once(server: Server, images: ImageServer) -> None:
    images.rule = lambda asked: "hang"  # 5 s
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(ask(server, "slow"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 4
    while len(images.seen) < 4 and time.monotonic() < end:
        time.sleep(0.02)
    begun = time.monotonic()
    assert server.post("check", PORTRAIT).status == 200
    assert time.monotonic() - begun < 4
    full = ask(server, "one more")
    assert (full.status, full.code, full.headers["Retry-After"]) == (429, "busy", "10")
    for thread in threads:
        thread.join()
    assert [reply.status for reply in replies] == [200] * 4


def test_the_budget(images: ImageServer, tmp_path: Path) -> None:
    with making(tmp_path, images, "--price", "0.4", "--budget", "1") as one:
        images.rule = lambda asked: "refuse" if asked.fields["prompt"] == "no" else None
        down = {"down": "500", "key": "401", "gateway": "504"}
        for prompt, status in (("no", 422), ("yes", 200), ("no", 422), ("yes", 200), ("yes", 403)):
            reply = ask(one, prompt)
            assert reply.status == status
        assert reply.code == "budget_spent"
        assert len(images.seen) == 4
        assert b"faceproof_spent_dollars 0.8" in one.get("/metrics").body
    images.rule = lambda asked: down.get(asked.fields["prompt"])
    with making(tmp_path / "two", images, "--price", "0.4", "--budget", "0.5") as one:
        assert [ask(one, "down").status for _ in range(3)] == [503, 503, 503]  # which cost nothing
        assert [ask(one, "key").status for _ in range(2)] == [502, 502]  # nor did these
        assert ask(one, "gateway").status == 503  # this may have
        assert ask(one, "yes").code == "budget_spent"


def test_not_offered_without_the_switch(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "1", env=ENV) as one:
        assert ask(one, "a portrait").status == 404
        about = one.get(f"{API}/about").json
        assert "generate" not in about["verbs"]
        assert about["generator"] is None
        assert f"{API}/generate" not in one.get(f"{API}/openapi.json").json["paths"]


@pytest.mark.parametrize(
    ("options", "env", "message"),
    [
        (["--generate"], {"OPENAI_API_KEY": ""}, "--generate needs a key"),
        (["--generate", "--base-url", "http://127.0.0.1:9/v1"], ENV, "give --price DOLLARS"),
        (["--generate", "--generate-model", "unheard-of"], ENV, "no price of unheard-of"),
        (["--generate", "--budget", "-1"], ENV, "--budget -1.0 is no sum"),
        (["--generate", "--host", "0.0.0.0"], ENV, "give a token"),
        (["--base-url", "http://127.0.0.1:9/v1"], ENV, "add --generate"),
        (["--generate", "--key-file", "gone.txt"], ENV, "cannot be read"),
    ],
)  # fmt: skip
def test_wrong_use(options: list[str], env: dict[str, str], message: str) -> None:
    done = run_cli("serve", "--port", "0", "--workers", "1", *options, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr


def test_cost_by_the_tokens_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OpenAI's own prices; nothing is asked of anyone: `make` is ours here."""
    from faceproof.generated_records import Answer
    from faceproof.images import Limits
    from faceproof.openai_images import OpenAIImages
    from faceproof.web.generation import Maker, Wish
    from faceproof.web.settings import Generation

    maker = Maker(Generation(key=KEY, budget=0.06), Limits())
    answer = Answer(picture_of("a", "64x64"), facts={"usage": USAGE, "cost": 0.031})
    monkeypatch.setattr(OpenAIImages, "make", lambda self, job, photograph: answer)
    made = maker.start(Wish("a", "1024x1024", "medium")).result()
    assert made.record.cost == 0.031
    assert maker.spent == pytest.approx(0.031)
    assert (maker.asked, made.record.server) == (0, "https://api.openai.com/v1")
    with pytest.raises(Exception, match="money for pictures is spent"):
        maker.start(Wish("a", "1024x1024", "medium"))  # about 0.054 more
    assert maker.start(Wish("a", "1024x1024", "low")).result().data == answer.data
    assert KEY not in repr(maker) + repr(made) + repr(Generation(key=KEY))


def test_the_command_in_the_docs(server: Server, images: ImageServer) -> None:
    if shutil.which("curl") is None or not (ROOT / "docs" / "serve.md").is_file():
        pytest.skip("there is no curl, or no docs/: it is not part of the source distribution")
    shown = re.search(
        r"<!-- command: generate -->\n```sh\n(.*?)```", (ROOT / "docs" / "serve.md").read_text(encoding="utf-8"), re.S
    )
    assert shown
    line = shown[1].replace("http://127.0.0.1:8000", server.url)
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["provenance"]["prompt"] == "a portrait of an elderly fisherman"
    assert images.seen[0].fields["quality"] == "low"


def test_the_document_and_its_answers(server: Server, images: ImageServer) -> None:
    jsonschema = pytest.importorskip("jsonschema_rs", reason="comes with schemathesis")
    described = server.get(f"{API}/openapi.json").json

    def valid(name: str, record: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
        jsonschema.Draft202012Validator(schema).validate(record)

    images.made = PORTRAIT
    valid("Generation", ask(server, "a portrait").json)
    about = server.get(f"{API}/about").json
    valid("About", about)
    assert about["generator"] == {"model": "mine", "server": images.url}
    answers = described["paths"][f"{API}/generate"]["post"]["responses"]
    assert {"200", "403", "422", "429", "502", "503"} <= set(answers)


def test_schemathesis_finds_nothing(server: Server, images: ImageServer, tmp_path: Path) -> None:
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed: it is in the extra [test]")
    images.made = picture_of("small", "64x64")
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}{API}/openapi.json", "--no-color",
        "--include-path", f"{API}/generate", "--phases", "examples,coverage,fuzzing", "--max-examples", "10",
        "--generation-deterministic", "--request-timeout", "60",
        "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
