"""onnxruntime for browsers: the two files the offline page needs, of one pinned version.

They are 14 MB and change with nothing of ours, so they are neither in the repository nor in the package. npm's package
`onnxruntime-web` (MIT, Microsoft) holds them; what is read is held against the hashes below, wherever it comes from.
Of its builds this is the smallest: WebAssembly with SIMD, without the graphics card. It holds threads too, but uses
none: browsers allow them only under headers that plain file servers do not send.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from faceproof.errors import ModelError, UsageError
from faceproof.images import printable

__all__ = ["LICENCE", "RUNTIME_VERSION", "SCRIPT", "WASM", "Runtime", "read_runtime"]

RUNTIME_VERSION = "1.30.0"
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
HASHES = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
MAX_BYTES = 32 * 1024 * 1024
"""Read of either file; the larger one has 14 MB."""
MAX_MEMBERS = 5000
"""Names looked at in an archive; npm's has 509."""
LICENCE = """MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
_GET = f"get it with: npm pack onnxruntime-web@{RUNTIME_VERSION}"


@dataclass(frozen=True)
class Runtime:
    """The two files, their hashes checked.

    Attributes:
        script: the JavaScript module. wasm: the WebAssembly module.
    """

    script: bytes = field(repr=False)
    wasm: bytes = field(repr=False)


def read_runtime(path: str | os.PathLike[str] | None = None) -> Runtime:
    """Read the runtime.

    Args:
        path: the archive `npm pack` makes, or the folder of the installed package; None looks for either in the
            working folder (`onnxruntime-web-1.30.0.tgz`, `node_modules/onnxruntime-web`).

    Raises:
        UsageError: there is none.
        ModelError: it is damaged, or of another version.
    """
    source = _nearby() if path is None else Path(path)
    if not source.exists():
        raise UsageError(f"no onnxruntime-web at {printable(source)}; {_GET}, and give the file with --runtime")
    try:
        found = _from_folder(source) if source.is_dir() else _from_archive(source)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as err:
        detail = " ".join(str(err).split())[:160]
        raise ModelError(f"{printable(source)} cannot be read as npm's package ({detail}); {_GET}") from err
    for name, digest in HASHES.items():
        if name not in found:
            raise ModelError(f"{printable(source)} holds no {name}: not onnxruntime-web {RUNTIME_VERSION}; {_GET}")
        if hashlib.sha256(found[name]).hexdigest() != digest:
            raise ModelError(
                f"{name} in {printable(source)} is not that of onnxruntime-web {RUNTIME_VERSION} (another version, or "
                f"damaged); {_GET}"
            )
    return Runtime(found[SCRIPT], found[WASM])


def _nearby() -> Path:
    """Where a user who followed the documentation has it."""
    places = (Path(f"onnxruntime-web-{RUNTIME_VERSION}.tgz"), Path("node_modules/onnxruntime-web"))
    for place in places:
        if place.exists():
            return place
    raise UsageError(
        f"the page needs onnxruntime-web {RUNTIME_VERSION} (MIT, 33 MB from npm, checked by hash); {_GET}, and run "
        "this again in the same folder, or give the file with --runtime"
    )


def _from_folder(folder: Path) -> dict[str, bytes]:
    found = {}
    for name in HASHES:
        path = next((p for p in (folder / "dist" / name, folder / name) if p.is_file()), None)
        if path is not None:
            with path.open("rb") as stream:
                found[name] = stream.read(MAX_BYTES + 1)
    return found


def _from_archive(path: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(path, "r:gz") as archive:
        for count, member in enumerate(archive):
            name = member.name.removeprefix("package/dist/")
            if name in HASHES and member.isfile() and (stream := archive.extractfile(member)) is not None:
                found[name] = stream.read(MAX_BYTES + 1)
            if len(found) == len(HASHES) or count >= MAX_MEMBERS:
                break
    return found
