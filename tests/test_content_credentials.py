"""C2PA: real files signed here, then tampered with; the library absent; and no network, ever."""

from __future__ import annotations

import builtins
import http.server
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from faceproof.images import RGB
from faceproof.metadata import Metadata, provenance_evidence, read_metadata
from faceproof.metadata.content_credentials import SETTINGS, read_credentials
from faceproof.metadata.evidence import WEIGHTS
from tests.signing import MIME, created, encoded, sign

c2pa = pytest.importorskip("c2pa", reason="needs the extra [provenance]")
pytest.importorskip("cryptography", reason="certificates for the tests are made with cryptography")


def read(data: bytes) -> Metadata:
    return read_metadata(data, width=128, height=96)


@pytest.fixture(scope="session", params=sorted(MIME))
def signed(request: pytest.FixtureRequest, astronaut: RGB) -> tuple[str, bytes]:
    """A file of each format whose signed claim says that it was generated."""
    data = encoded(astronaut, request.param)
    return request.param, sign(data, request.param, created("trainedAlgorithmicMedia"))[0]


@pytest.fixture(scope="session")
def jpeg(astronaut: RGB) -> bytes:
    return sign(encoded(astronaut, "JPEG"), "JPEG", created("trainedAlgorithmicMedia"))[0]


def test_signed_and_valid(signed: tuple[str, bytes]) -> None:
    found = read(signed[1]).credentials
    assert (found.status, found.problems) == ("valid", ())
    assert (found.generator, found.signer, found.signer_known) == ("faceproof test", "Test Works", False)
    assert [(d.action, d.name, d.kind) for d in found.declared] == [
        ("c2pa.created", "trainedAlgorithmicMedia", "generated")
    ]
    (piece,) = provenance_evidence(read(signed[1]))
    assert piece.weight == WEIGHTS["credentials: generated"] == 6
    assert "signer not known" in piece.sentence
    assert "made by a generative model (trainedAlgorithmicMedia)" in piece.sentence


def test_one_changed_byte_of_the_pixels(signed: tuple[str, bytes]) -> None:
    kind, data = signed
    changed = bytearray(data)
    start = {"TIFF": 1000, "PNG": data.find(b"IDAT") + 200, "AVIF": data.rfind(b"mdat") + 300, "WEBP": 1500}
    at = start.get(kind, len(data) - 200)
    changed[at] ^= 1
    found = read(bytes(changed)).credentials
    assert found.status == "invalid"
    assert any("Hash.mismatch" in problem for problem in found.problems), found.problems


def test_an_edited_assertion(signed: tuple[str, bytes]) -> None:
    """A capture made of a generated picture, with all lengths kept."""
    _, data = signed
    assert data.count(b"trainedAlgorithmicMedia") == 1
    found = read(data.replace(b"trainedAlgorithmicMedia", b"digitalCapture\0\0\0\0\0\0\0\0\0")).credentials
    assert found.status == "invalid"
    assert any("hashedURI.mismatch" in problem for problem in found.problems), found.problems


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"Test Works", b"Fine Works", "claimSignature"),  # the certificate's name
        (b"faceproof test", b"faceproof best", "claimSignature.mismatch"),  # inside the claim
    ],
)
def test_a_changed_claim_or_certificate(jpeg: bytes, old: bytes, new: bytes, problem: str) -> None:
    found = read(jpeg.replace(old, new)).credentials
    assert found.status == "invalid"
    assert any(problem in text for text in found.problems), found.problems
    (piece,) = provenance_evidence(read(jpeg.replace(old, new)))
    assert piece.weight == 0
    assert "do not hold" in piece.sentence
    assert "does not tell whether it was generated" in piece.sentence


def test_a_truncated_or_malformed_store(jpeg: bytes) -> None:
    start = jpeg.index(b"\xff\xeb")
    size = int.from_bytes(jpeg[start + 2 : start + 4], "big")
    for kept in (100, 300, 1000, size - 60):  # the segment well-formed, its boxes broken off
        cut = jpeg[:start] + b"\xff\xeb" + kept.to_bytes(2, "big") + jpeg[start + 4 : start + 2 + kept]
        found = read(cut + jpeg[start + 2 + size :]).credentials
        assert found.status == "invalid", kept
        assert found.problems
    rubbish = bytearray(jpeg)
    rubbish[start + 200 : start + 220] = b"\xff" * 20
    assert read(bytes(rubbish)).credentials.status == "invalid"
    assert read(jpeg[:1500]).credentials.status in ("invalid", "absent")


def test_a_saved_again_file_has_none(jpeg: bytes) -> None:
    from PIL import Image

    stream = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(stream, "JPEG")
    assert read(stream.getvalue()).credentials.status == "absent"


def test_other_jumbf_boxes_are_no_credentials(astronaut: RGB) -> None:
    data = encoded(astronaut, "JPEG")
    box = b"JP\0\1\0\0\0\1\0\0\0\x30jumb\0\0\0\x28jumd" + b"json" + bytes(32)
    segment = b"\xff\xeb" + (len(box) + 2).to_bytes(2, "big") + box
    assert read(data[:2] + segment + data[2:]).credentials.status == "absent"


@pytest.mark.parametrize(
    ("action", "weight", "words"),
    [
        (created("digitalCapture"), "credentials: captured", "captured by a digital camera"),
        (created("algorithmicMedia"), "credentials: other", "made by an algorithm without training data"),
        (created("compositeWithTrainedAlgorithmicMedia"), "credentials: part", "with a generative model"),
        ({**created("trainedAlgorithmicMedia"), "action": "c2pa.edited"}, "credentials: part",
         "changed with a generative model (trainedAlgorithmicMedia in c2pa.edited)"),
        ({"action": "c2pa.created", "digitalSourceType": "http://c2pa.org/digitalsourcetype/empty"},
         "credentials: other", "they do not say how it was made"),
    ],
)  # fmt: skip
def test_what_actions_declare(astronaut: RGB, action: dict[str, str], weight: str, words: str) -> None:
    actions = [action] if action["action"] == "c2pa.created" else [created("digitalCreation"), action]
    metadata = read(sign(encoded(astronaut, "JPEG"), "JPEG", *actions)[0])
    assert metadata.credentials.status == "valid", metadata.credentials
    (piece,) = provenance_evidence(metadata)
    assert piece.weight == WEIGHTS[weight]
    assert words in piece.sentence


def test_the_chain_of_parents_is_followed(astronaut: RGB, jpeg: bytes) -> None:
    """A service that converts its own generated picture declares nothing anew (so does ChatGPT's)."""
    from PIL import Image

    stream = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(stream, "JPEG", quality=60)
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["parent"]}}
    data, _ = sign(stream.getvalue(), "JPEG", opened, {"action": "c2pa.converted"}, parent=jpeg)
    found = read(data).credentials
    assert found.status == "valid", found
    assert found.ingredients == 1
    assert [piece.kind for piece in found.declared] == ["generated"]


def test_without_the_library_it_says_what_to_install(jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def blocked(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "c2pa":
            raise ImportError("No module named 'c2pa'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", blocked)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    metadata = read(jpeg)
    assert metadata.credentials.status == "not_checked"
    assert not metadata.empty
    (piece,) = provenance_evidence(metadata)
    assert piece.weight == 0
    assert 'pip install "faceproof[provenance]"' in piece.sentence
    assert "carries content credentials" in piece.sentence


def test_a_broken_library_is_no_crash(jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("libc2pa_c.so: cannot open shared object file")

    monkeypatch.setattr("faceproof.metadata.content_credentials.require", broken)
    found = read_credentials(jpeg, "JPEG")
    assert found.status == "not_checked"
    assert "libc2pa_c.so" in found.problems[0]


def test_files_without_credentials_never_load_the_library(astronaut: RGB) -> None:
    code = (
        "import json, sys; from faceproof.metadata import read_metadata\n"
        "for data in json.load(sys.stdin): read_metadata(bytes.fromhex(data), width=128, height=96)\n"
        "print('c2pa' in sys.modules, 'PIL' in sys.modules)"
    )
    files = json.dumps([encoded(astronaut, kind).hex() for kind in ("JPEG", "PNG", "WEBP", "TIFF")])
    done = subprocess.run([sys.executable, "-c", code], input=files, text=True, capture_output=True, check=True)
    assert done.stdout.split() == ["False", "False"]


class _Server(http.server.ThreadingHTTPServer):
    hits: list[str]
    answer: bytes


@pytest.fixture
def server() -> Iterator[_Server]:
    """A server on this machine that counts who asks it for something."""

    class Handler(http.server.BaseHTTPRequestHandler):
        server: _Server

        def _reply(self) -> None:
            self.server.hits.append(f"{self.command} {self.path}")
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.answer)))
            self.end_headers()
            self.wfile.write(self.server.answer)

        do_GET = do_POST = _reply  # noqa: N815  (the names http.server calls)

        def log_message(self, *_: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    server.hits, server.answer = [], b""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_remote_manifests_are_not_fetched(astronaut: RGB, server: _Server) -> None:
    address = f"http://127.0.0.1:{server.server_port}/manifest.c2pa"
    data, server.answer = sign(encoded(astronaut, "JPEG"), "JPEG", created("trainedAlgorithmicMedia"), remote=address)
    metadata = read(data)
    assert metadata.credentials.status == "absent"
    assert any(address in note and "fetches nothing" in note for note in metadata.notes)
    with (
        pytest.raises(c2pa.C2paError),
        c2pa.Reader("image/jpeg", io.BytesIO(data), context=c2pa.Context.from_dict(SETTINGS)),
    ):
        pass  # nor does the library under our settings
    assert server.hits == []
    with c2pa.Reader("image/jpeg", io.BytesIO(data), context=c2pa.Context.from_dict({"version": 1})):
        pass  # by default it does: the server would have noticed
    assert server.hits == ["GET /manifest.c2pa"]


def test_ocsp_responders_are_not_asked(astronaut: RGB, server: _Server) -> None:
    address = f"http://127.0.0.1:{server.server_port}/ocsp"
    data, _ = sign(encoded(astronaut, "JPEG"), "JPEG", created("digitalCapture"), ocsp=address)
    assert read(data).credentials.status == "valid"
    assert server.hits == []
    asking = c2pa.Context.from_dict({"version": 1, "verify": {"ocsp_fetch": True}})
    with c2pa.Reader("image/jpeg", io.BytesIO(data), context=asking):
        pass
    assert server.hits  # with the setting turned on it does ask


def test_a_store_of_odd_shape_is_no_crash() -> None:
    from faceproof.metadata.content_credentials import _credentials

    odd: list[dict[str, Any]] = [
        {}, {"manifests": []}, {"active_manifest": 3, "manifests": {"3": 1}},
        {"active_manifest": "a", "manifests": {"a": {"assertions": [1, {"label": "c2pa.actions", "data": [2]}]}}},
        {"validation_state": "Invalid", "validation_status": [None, {"code": 5}]},
    ]  # fmt: skip
    for store in odd:
        found = _credentials(store)
        assert found.status == "invalid"
        assert found.problems
    loop = {"ingredients": [{"relationship": "parentOf", "active_manifest": "a"}]}
    assert (
        _credentials({"active_manifest": "a", "manifests": {"a": loop}, "validation_state": "Valid"}).status == "valid"
    )
