"""C2PA content credentials: signed and valid, signed but invalid, present but not checked, or absent.

Checked by c2pa-python (extra "provenance"), the Content Authenticity Initiative's own library: licence MIT or
Apache-2.0, version 0.38 in November 2026 and released often. Wheels for Linux with glibc 2.28 (x86-64, ARM) and
macOS (both), 15 to 16 MB to fetch and 53 MB installed on Linux, and for Windows (x86-64, 88 MB; 0.38.1 had none
yet); none for musl. It is loaded only for files that have a box for credentials (`containers`), and is told to
fetch nothing: no remote manifests, no OCSP, no hosts allowed.

Valid means: the signature fits the claim and the claim fits the picture. Who signed is another question: no list
of trusted signers is used, so a signer is a name and no more. Anyone can make a certificate with any name.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from faceproof.errors import MissingExtraError
from faceproof.extras import require
from faceproof.metadata.generators import quoted
from faceproof.metadata.source_types import SOURCE_TYPES, Kind, source_type

__all__ = ["ABSENT", "Credentials", "Declared", "read_credentials"]

Status = Literal["absent", "not_checked", "invalid", "valid"]

SETTINGS = {
    "version": 1,
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_reading": True},
    "core": {"allowed_network_hosts": [], "decode_identity_assertions": False},
}
"""Settings of c2pa-rs: read what is in the file, verify it, speak to nobody."""

MAX_PROBLEMS = 5
MAX_ACTIONS = 100
MAX_MANIFESTS = 32
_MIME = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff", "AVIF": "image/avif",
    "HEIF": "image/heif",
}  # fmt: skip
_WHOLE = ("c2pa.created", "c2pa.converted", "c2pa.opened")
"""Actions whose source type speaks of the whole picture; others put something into it."""


@dataclass(frozen=True)
class Declared:
    """A source type that an action declares.

    Attributes:
        action: "c2pa.created", "c2pa.edited", ...
        name: of the source type, one of `SOURCE_TYPES`.
        kind: as in `SOURCE_TYPES`; a generative model in any but a creating action makes it "part".
    """

    action: str
    name: str
    kind: Kind


@dataclass(frozen=True)
class Credentials:
    """What a file's content credentials say. Texts are printable and bounded.

    Attributes:
        status: "absent"; "not_checked" (present, see `problems`); "invalid" (see `problems`: nothing else here can
            be relied on); "valid".
        generator: name of the program that made the claim.
        declared: source types of the actions of the active manifest and of those it was made from.
        ingredients: pictures it was made from.
        signer: organisation or name in the certificate.
        signer_known: always False while no list of trusted signers is used.
        time: of signing as a time-stamping authority states it, ISO 8601; None without.
        problems: why it is invalid or was not checked.
    """

    status: Status
    generator: str = ""
    declared: tuple[Declared, ...] = ()
    ingredients: int = 0
    signer: str = ""
    signer_known: bool = False
    time: str | None = None
    problems: tuple[str, ...] = ()


ABSENT = Credentials("absent")


def read_credentials(data: bytes, kind: str) -> Credentials:
    """Read and verify the credentials of a file that has a box for them.

    Args:
        data: the file.
        kind: its format, as in `containers.Blocks.format`.
    """
    try:
        library = require("provenance", "c2pa")
    except MissingExtraError as err:
        return Credentials("not_checked", problems=(str(err),))
    except (OSError, RuntimeError, AttributeError) as err:  # its binary part is missing or of another version
        return Credentials("not_checked", problems=(f"c2pa-python cannot be loaded: {quoted(str(err))}",))
    try:
        context = library.Context.from_dict(SETTINGS)
        with library.Reader(_MIME[kind], io.BytesIO(data), context=context) as reader:
            store = json.loads(reader.json())
    except (library.C2paError, ValueError, RecursionError) as err:
        return Credentials("invalid", problems=(f"they cannot be read: {quoted(str(err))}",))
    return _credentials(_mapping(store))


def _credentials(store: dict[str, Any]) -> Credentials:
    manifests = _mapping(store.get("manifests"))
    active = _mapping(manifests.get(_name(store.get("active_manifest"))))
    signature = _mapping(active.get("signature_info"))
    state = store.get("validation_state")
    problems = tuple(_problems(store))[:MAX_PROBLEMS]
    if state not in ("Valid", "Trusted") and not problems:
        problems = ("they do not hold, without a reason given",)
    return Credentials(
        "valid" if state in ("Valid", "Trusted") else "invalid",
        generator=_generator(active),
        declared=tuple(_declared(manifests, active))[:MAX_ACTIONS],
        ingredients=len(_items(active.get("ingredients"))),
        signer=quoted(_name(signature.get("issuer")) or _name(signature.get("common_name"))),
        signer_known=state == "Trusted",
        time=quoted(_name(signature.get("time"))) or None,
        problems=problems,
    )


def _problems(store: dict[str, Any]) -> Iterator[str]:
    """Failures but the one that says no trust list knows the signer: we use none."""
    for status in _items(store.get("validation_status")):
        code = _name(_mapping(status).get("code"))
        if code and code != "signingCredential.untrusted":
            yield quoted(f"{code}: {_name(_mapping(status).get('explanation'))}")


def _generator(manifest: dict[str, Any]) -> str:
    for info in _items(manifest.get("claim_generator_info")):
        if name := _name(_mapping(info).get("name")):
            return quoted(name)
    return quoted(_name(manifest.get("claim_generator")))


def _declared(manifests: dict[str, Any], active: dict[str, Any]) -> Iterator[Declared]:
    """Source types along the chain of parents: converting a generated picture declares nothing anew."""
    todo, seen = [active], 0
    while todo and seen < MAX_MANIFESTS:
        manifest, seen = todo.pop(0), seen + 1
        for assertion in _items(manifest.get("assertions")):
            if _name(_mapping(assertion).get("label")).startswith("c2pa.actions"):
                yield from _sources(_mapping(_mapping(assertion).get("data")))
        for ingredient in map(_mapping, _items(manifest.get("ingredients"))):
            parent = _mapping(manifests.get(_name(ingredient.get("active_manifest"))))
            if parent and ingredient.get("relationship") == "parentOf":
                todo.append(parent)


def _sources(data: dict[str, Any]) -> Iterator[Declared]:
    for action in map(_mapping, _items(data.get("actions"))[:MAX_ACTIONS]):
        label = _name(action.get("action"))
        name = source_type(_name(action.get("digitalSourceType")))
        if name is not None:
            kind = SOURCE_TYPES[name][0]
            yield Declared(quoted(label), name, "part" if kind == "generated" and label not in _WHOLE else kind)


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _name(value: object) -> str:
    return value if isinstance(value, str) else ""
