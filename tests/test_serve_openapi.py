"""The OpenAPI document: it says what the server does, and schemathesis finds no request that breaks the server."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .helpers import environment
from .serving import API, Server, serving

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PORTRAIT = (EXAMPLES / "astronaut.jpg").read_bytes()
"""A picture whose face is large enough to be explained."""
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "unsupported_method", "ignored_auth",
)  # fmt: skip
"""Not `negative_data_rejection`: any bytes may be a file, and of a form only the files are read."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("serve"), "--workers", "2", "--urls") as one:
        yield one
        assert one.left() == []
        assert "Traceback" not in one.log.read_text(encoding="utf-8")


def test_the_document_names_every_verb_and_option() -> None:
    pytest.importorskip("starlette", reason="of the extra [serve]")
    from faceproof.web.openapi import document
    from faceproof.web.settings import Settings
    from faceproof.web.verbs import VERBS

    found = document(Settings(token="x" * 16), tuple(VERBS))
    for name, verb in VERBS.items():
        operation = found["paths"][f"{API}/{name}"]["post"]
        assert [p["name"] for p in operation["parameters"]] == [o.name for o in verb.options]
        assert {"200", "400", "401", "413", "415", "422", "429"} <= set(operation["responses"])
        kinds = operation["requestBody"]["content"]
        assert "multipart/form-data" in kinds
        assert ("application/json" in kinds) == (name == "generate")  # URLs are off
    assert found["security"] == [{"token": []}]
    _references(found, found["components"]["schemas"])


def _references(part: Any, known: dict[str, Any]) -> None:
    if isinstance(part, dict):
        if "$ref" in part:
            assert part["$ref"].rpartition("/")[2] in known
        for value in part.values():
            _references(value, known)
    elif isinstance(part, list):
        for value in part:
            _references(value, known)


@pytest.mark.slow
def test_answers_are_what_the_document_says(server: Server, face_jpeg: bytes) -> None:
    """By jsonschema's validator, which comes with schemathesis."""
    jsonschema = pytest.importorskip("jsonschema_rs", reason="comes with schemathesis")
    described = server.get(f"{API}/openapi.json").json

    def valid(name: str, record: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
        jsonschema.Draft202012Validator(schema).validate(record)

    drawing = (EXAMPLES / "drawing.png").read_bytes()
    for picture in (face_jpeg, drawing):
        valid("ImageResult", server.post("check?stability=quick", picture).json)
    valid("Comparison", server.form("compare", [("a.jpg", face_jpeg), ("b.png", drawing)]).json)
    valid("Duplicates", server.form("duplicates", [("a.jpg", face_jpeg), ("b.jpg", face_jpeg), ("c", b"")]).json)
    valid("Explanation", server.post("explain", PORTRAIT).json)
    valid("Health", server.get(f"{API}/health").json)
    valid("About", server.get(f"{API}/about").json)
    for card in server.get(f"{API}/models").json:
        valid("Card", card)
    valid("Error", server.post("check", b"").json)
    with pytest.raises(jsonschema.ValidationError):
        valid("ImageResult", server.post("check", face_jpeg).json | {"more": 1})


@pytest.mark.slow
def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed: it is in the extra [test]")
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}{API}/openapi.json", "--no-color",
        "--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--generation-deterministic",
        "--checks", ",".join(CHECKS), "--request-timeout", "60",
    ]  # fmt: skip
    plain = {key: value for key, value in os.environ.items() if key == "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(plain), capture_output=True, text=True, timeout=560, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
