"""`faceproof models push|pull`: folders, a bucket, and a stand-in for the Hugging Face hub (not the hub itself)."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from faceproof import ModelError, StorageError, UsageError, model_exchange
from faceproof.detectors.card import read_card
from faceproof.detectors.folders import write_card
from faceproof.detectors.readme import readme
from faceproof.detectors.store import DEFAULT_MODEL, shipped_models
from faceproof.model_exchange import pull, push
from tests.helpers import run_cli
from tests.hub_server import TOKEN, Hub, Repository, running_hub
from tests.object_store import Proxy, environment_of, get, put, running_store

SHIPPED = shipped_models()[DEFAULT_MODEL]
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "astronaut.jpg"
NAMES = {"card.json", "fusion.json", "groups.txt", "mixture.safetensors", "model.onnx"}


@pytest.fixture(scope="module")
def started() -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub", reason="the extra [hub] is not installed")
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(started: Hub) -> Hub:
    started.repositories.clear()
    started.blobs.clear()
    started.seen.clear()
    started.rule = lambda method, path: None
    return started


def _environment(hub: Hub, home: Path, token: str = TOKEN) -> dict[str, str]:
    """A user's, with the hub's address; Xet is another protocol, which the stand-in does not speak."""
    return {
        "HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "no_proxy": "127.0.0.1", "COLUMNS": "200",
    }  # fmt: skip


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_to_the_hub_and_back_and_it_checks(hub: Hub, tmp_path: Path) -> None:
    env = _environment(hub, tmp_path / "home")
    done = run_cli("models", "push", DEFAULT_MODEL, "hf://me/faces", env=env)
    assert done.returncode == 0, done.stderr
    repository = hub.repositories["me/faces"]
    assert repository.private
    commit, files = repository.commits[-1]
    assert commit[:12] in done.stdout
    assert set(files) == NAMES | {"README.md", "SHA256SUMS"}
    assert {name: files[name] for name in NAMES} == _bytes(SHIPPED)
    out = tmp_path / "mine"
    done = run_cli("models", "pull", "hf://me/faces", "--out", out, env=env)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert {name: data for name, data in _bytes(out).items() if name != "README.md"} == _bytes(SHIPPED)
    checked = [
        run_cli("check", "--json", "--stability", "off", "--model", model, EXAMPLE) for model in (out, DEFAULT_MODEL)
    ]
    first, second = (json.loads(each.stdout) for each in checked)
    assert first == second
    assert first["status"] == "ok"
    # Again: a revision of its own; the old one can still be fetched.
    assert run_cli("models", "push", out, "hf://me/faces", env=env).returncode == 0
    done = run_cli("models", "pull", f"hf://me/faces@{commit}", "--out", tmp_path / "old", env=env)
    assert done.returncode == 0, done.stderr
    assert not [line for line in hub.seen if line.startswith("GET") and ".bin" in line]


def test_the_hub_says_no(hub: Hub, tmp_path: Path) -> None:
    env = _environment(hub, tmp_path / "home")
    hub.repositories["me/closed"] = Repository(True)
    hub.repositories["me/closed"].add(_bytes(SHIPPED))
    out = tmp_path / "out"
    for source, more, message in (
        ("hf://me/absent", {}, "there is no hf://me/absent"),
        ("hf://me/closed", {"HF_TOKEN": "hf_wrongtoken"}, "permission denied|there is no"),
        ("hf://me/closed@nothere", {}, "there is no"),
    ):
        done = run_cli("models", "pull", source, "--out", out, env=env | more)
        assert done.returncode == 1
        assert re.search(message, done.stderr)
        assert "hf_" not in done.stderr
        assert not out.exists()
    done = run_cli("models", "push", DEFAULT_MODEL, "hf://me/x", env=env | {"HF_TOKEN": "hf_wrongtoken"})
    assert done.returncode == 1
    assert "permission denied" in done.stderr
    hub.rule = lambda method, path: "503" if "/resolve/" in path else None
    done = run_cli("models", "pull", "hf://me/closed", "--out", out, env=env)
    assert (done.returncode, out.exists()) == (1, False)
    assert "the hub answered 503" in done.stderr
    hub.rule = lambda method, path: None
    gone = _environment(hub, tmp_path / "home") | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = run_cli("models", "pull", "hf://me/closed", "--out", out, env=gone)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.fixture
def api(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """This process's client, made to ask the stand-in."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "__init__", _pointed(huggingface_hub.HfApi.__init__, hub.url))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def _pointed(original: Any, url: str) -> Any:
    def made(self: Any, *args: Any, **more: Any) -> None:
        original(self, *args, **{**more, "endpoint": url})

    return made


def test_what_the_card_does_not_name_is_not_fetched(api: Hub, tmp_path: Path) -> None:
    hostile = {"pytorch_model.bin": b"\x80\x04", "sub/model.onnx": b"x", "../../etc/cron.d/x": b"x", "evil.py": b"x"}
    api.repositories["me/m"] = Repository(False)
    api.repositories["me/m"].add({**_bytes(SHIPPED), **hostile})
    found = pull("hf://me/m", tmp_path / "out")
    assert set(found.files) == NAMES
    assert not found.summed
    assert {path.name for path in (tmp_path / "out").iterdir()} == NAMES
    asked = [line.rsplit("/", 1)[1] for line in api.seen if "/resolve/" in line]
    assert set(asked) == NAMES


def test_endless_files_are_cut_off(api: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api.repositories["me/m"] = Repository(False)
    api.repositories["me/m"].add(_bytes(SHIPPED))
    monkeypatch.setattr(model_exchange, "MAX_WEIGHTS", 20 * 2**20)
    for name in ("card.json", "model.onnx"):
        api.rule = lambda method, path, name=name: "endless" if path.endswith(name) else None
        with pytest.raises(ModelError, match="has over"):
            pull("hf://me/m", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _changed(files: Mapping[str, bytes], **changes: Any) -> dict[str, bytes]:
    raw = json.loads(files["card.json"])
    for key, value in changes.items():
        raw[key] = {**raw[key], **value} if isinstance(value, dict) else value
    return {**files, "card.json": json.dumps(raw).encode()}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: {**f, "model.onnx": f["model.onnx"][:-1] + b"x"}, "does not match"),
        (lambda f: {**f, "mixture.safetensors": f["mixture.safetensors"][:-1] + b"x"}, "does not match"),
        (lambda f: {**f, "groups.txt": f["groups.txt"] + b"x\n"}, "does not match"),
        (lambda f: {name: data for name, data in f.items() if name != "model.onnx"}, "not in its folder"),
        (lambda f: {name: data for name, data in f.items() if name != "card.json"}, "holds no card.json"),
        (lambda f: {**f, "card.json": b"{"}, "no card"),
        (lambda f: {**f, "card.json": b"[" * 100_000}, "no card"),
        (lambda f: {**f, "card.json": b"[1]"}, "no card"),
        (lambda f: _changed(f, file="../../x.onnx"), "not the plain name"),
        (lambda f: _changed(f, file="/etc/passwd"), "not the plain name"),
        (lambda f: _changed(f, file="weights.pkl"), "not the plain name"),
        (lambda f: _changed(f, file=".onnx"), "not the plain name"),
        (lambda f: _changed(f, mixture={"file": "a/b.safetensors"}), "not the plain name"),
        (lambda f: _changed(f, training={"groups": {"file": "x\ny.txt", "sha256": ""}}), "not the plain name"),
        (lambda f: _changed(f, file=7), "not the plain name"),
        (lambda f: _changed(f, training=[]), "which files belong"),
        (lambda f: {**f, "SHA256SUMS": b"0" * 64 + b"  card.json\n"}, "does not match SHA256SUMS"),
        (lambda f: {**f, "SHA256SUMS": b""}, "does not match SHA256SUMS"),
        (lambda f: {**f, "fusion.json": b"{}"}, "not a usable fusion"),
    ],
)
def test_spoilt_models_do_not_arrive(tmp_path: Path, spoil: Any, message: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, data in spoil(_bytes(SHIPPED)).items():
        (source / name).write_bytes(data)
    with pytest.raises(ModelError, match=message):
        pull(str(source), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    if (source / "card.json").exists() and "SHA256SUMS" not in message:
        with pytest.raises(ModelError):
            push(source, str(tmp_path / "sent"))


def test_folders_and_overwriting(tmp_path: Path) -> None:
    sent = push(DEFAULT_MODEL, str(tmp_path / "shelf"))
    assert set(sent.files) == NAMES | {"README.md", "SHA256SUMS"}
    for line in (tmp_path / "shelf" / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((tmp_path / "shelf" / name).read_bytes()).hexdigest() == digest
    with pytest.raises(UsageError, match="--overwrite"):
        push(DEFAULT_MODEL, str(tmp_path / "shelf"))
    push(DEFAULT_MODEL, str(tmp_path / "shelf"), overwrite=True)
    found = pull(str(tmp_path / "shelf"), tmp_path / "mine")
    assert found.summed
    assert found.card.identity == read_card(SHIPPED).identity
    with pytest.raises(UsageError, match="--overwrite"):
        pull(str(tmp_path / "shelf"), tmp_path / "mine")
    pull(str(tmp_path / "shelf"), tmp_path / "mine", overwrite=True)
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        pull(str(tmp_path / "shelf"), tmp_path / "mine", overwrite=True)
    # A link in a folder is read like a file; a folder or a pipe is not.
    (tmp_path / "shelf" / "model.onnx").unlink()
    (tmp_path / "shelf" / "model.onnx").mkdir()
    with pytest.raises(ModelError):
        pull(str(tmp_path / "shelf"), tmp_path / "other")


@pytest.mark.parametrize(
    "where",
    ["hf://me", "hf://me/..", "hf://me/x/y", "hf://../x", "hf://me/x@", "https://huggingface.co/me/x", "s3://b"],
)
def test_places_that_are_none(tmp_path: Path, where: str) -> None:
    pytest.importorskip("huggingface_hub", reason="the extra [hub] is not installed")
    with pytest.raises((UsageError, StorageError)):
        pull(where, tmp_path / "out")
    with pytest.raises(UsageError):
        push(DEFAULT_MODEL, where)


@pytest.mark.slow
def test_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs", reason="the extra [remote] is not installed")
    pytest.importorskip("moto", reason="the S3 server for tests is not installed")
    with running_store() as proxy:
        _bucket(proxy, tmp_path, monkeypatch)


def _bucket(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of(proxy).items():
        monkeypatch.setenv(name, value)
    put(proxy, "shelf", {})
    push(DEFAULT_MODEL, "s3://shelf/models/one")
    assert get(proxy, "shelf", "models/one/model.onnx") == (SHIPPED / "model.onnx").read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        push(DEFAULT_MODEL, "s3://shelf/models/one")
    push(DEFAULT_MODEL, "s3://shelf/models/one", overwrite=True)
    assert pull("s3://shelf/models/one", tmp_path / "mine").summed
    assert run_cli("models", tmp_path / "mine").returncode == 0
    put(proxy, "other", {"one/card.json": b"{}"})
    with pytest.raises(ModelError, match="which files belong"):
        pull("s3://other/one", tmp_path / "none")
    with pytest.raises(StorageError, match="there is no s3://absent"):
        pull("s3://absent/one", tmp_path / "none")


# The README


def test_the_readme_says_what_the_card_says() -> None:
    card = read_card(SHIPPED)
    text = readme(card, {"model.onnx": (9, "ab")})
    raw: Any = card.raw
    plain = text.replace("\\", "")
    assert all(" ".join(line.split()) in plain for line in raw["limits"])
    assert raw["licence"] in plain
    assert f"{raw['metrics']['unseen']['auc']:.3f}" in text
    for row in raw["training"]["data"]:
        assert row["source"] in plain
        assert row["licence"] in plain
    for point in card.points:
        assert f"{point.threshold:.3f}" in text
    assert "`model.onnx` | 9 | `ab`" in text


def test_a_hostile_card_cannot_write_markup(tmp_path: Path) -> None:
    import yaml

    folder = Path(shutil.copytree(SHIPPED, tmp_path / "m"))
    raw = json.loads((folder / "card.json").read_text())
    evil = "x\n---\nlicense: mit\n\n# Official <script>alert(1)</script> [click](javascript:alert(1)) | `a`"
    raw |= {"name": "a; rm -rf ~", "description": evil, "licence": evil, "limits": [evil]}
    raw["training"]["data"][0]["source"] = evil
    write_card(folder, raw)
    text = readme(read_card(folder), {})
    _, head, body = text.split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["license"] == "other"
    assert set(facts) == {"library_name", "pipeline_tag", "license", "license_name", "tags"}
    assert "<script>" not in body
    assert not re.search(r"(?<!\\)\]\(", body)
    assert not [line for line in body.splitlines() if line.startswith("# Official")]
    assert "rm -rf" not in body.split("```sh")[1].split("```")[0]
    rows = [line for line in body.splitlines() if line.startswith("| x")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


def test_the_list_and_the_card_are_where_they_were() -> None:
    assert DEFAULT_MODEL in run_cli("models").stdout
    assert (
        run_cli("models", DEFAULT_MODEL, "--json").stdout == run_cli("models", "show", DEFAULT_MODEL, "--json").stdout
    )
    text = run_cli("models", "--help").stdout
    assert "push" in text
    assert "pull" in text
    assert run_cli("models", "nothing").returncode == 2
