"""The OpenAPI document, written from the table of verbs and the shapes of the records."""

from __future__ import annotations

from typing import Any

from faceproof._version import VERSION
from faceproof.generated_records import SCHEMA as GENERATED_SCHEMA
from faceproof.records import LABELS, SCHEMA, STATUSES
from faceproof.side_by_side import COMPARISON_SCHEMA
from faceproof.video_records import VIDEO_SCHEMA
from faceproof.web.generation import GENERATION_SCHEMA
from faceproof.web.settings import Settings
from faceproof.web.uploads import MOST_PROMPT
from faceproof.web.verbs import VERBS, Verb

__all__ = ["API", "document", "schemas"]

API = "/api/v1"
Schema = dict[str, Any]

NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXT: Schema = {"type": "string"}
YES: Schema = {"type": "boolean"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(of: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": of, **more}


def _object(**fields: Schema) -> Schema:
    """An object of exactly these fields."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


LABEL: Schema = {"type": "string", "enum": list(LABELS)}
MAYBE_LABEL: Schema = {"enum": [*LABELS, None]}
STATUS: Schema = {"type": "string", "enum": list(STATUSES)}


def schemas() -> dict[str, Schema]:
    """Return the schemas of all records, by name."""
    result = {
        "path": TEXT, "sha256": _maybe(TEXT), "status": STATUS, "error": _maybe(TEXT), "width": COUNT, "height": COUNT,
        "faces": _list(_ref("Face")), "score": _maybe(NUMBER), "log_odds": _maybe(NUMBER), "probability": _maybe(SHARE),
        "verdict": MAYBE_LABEL, "alarm": _maybe(YES), "threshold": SHARE, "threshold_fpr": SHARE,
        "band": _list(SHARE, minItems=2, maxItems=2), "alpha": _maybe(SHARE), "notes": _list(TEXT), "model": TEXT,
        "face_detector": TEXT, "version": TEXT,
    }  # fmt: skip
    box = _list(NUMBER, minItems=4, maxItems=4)
    return {
        "Error": _object(error=_object(code=TEXT, message=TEXT, status={"type": "integer"})),
        "Evidence": _object(name=TEXT, weight=NUMBER, sentence=TEXT),
        "Quality": _object(code=TEXT, sentence=TEXT, value=NUMBER, limit=NUMBER),
        "Stability": _object(
            lowest=SHARE, median=SHARE, highest=SHARE, flips=_list(TEXT),
            after=_list(_object(perturbation=TEXT, probability=SHARE)),
        ),
        "Face": _object(
            box=box, landmarks=_list(_list(NUMBER, minItems=2, maxItems=2), minItems=5, maxItems=5), confidence=SHARE,
            quality=_list(_ref("Quality")), score=NUMBER, log_odds=NUMBER, probability=SHARE, verdict=LABEL, alarm=YES,
            stability=_maybe(_ref("Stability")), evidence=_list(_ref("Evidence")), reasons=_list(TEXT),
        ),
        "ImageResult": _object(**result, schema={"const": SCHEMA}),
        "VideoResult": _object(**result, schema={"const": VIDEO_SCHEMA}, video={"type": "object"}),
        "Comparison": _object(
            schema={"const": COMPARISON_SCHEMA}, likeness={"enum": ["same file", "copies", "different", "unknown"]},
            sentence=TEXT, bits={"type": "integer", "minimum": 0, "maximum": 64}, view=TEXT, flat=YES,
            shift=_maybe(NUMBER), first=_ref("ImageResult"), second=_ref("ImageResult"),
        ),
        "Duplicates": _object(
            schema=TEXT, pictures=COUNT, flat=COUNT, errors=COUNT, clusters=COUNT, clustered=COUNT, kind=TEXT,
            radius=COUNT, method=TEXT, rotations=YES,
            groups=_list(_object(
                number=COUNT, size=COUNT, members=_list(_object(index=COUNT, path=TEXT, distance=COUNT, view=TEXT)),
            )),
            records=_list(_object(
                path=TEXT, kind=TEXT, hashes=_list(TEXT), quality=_maybe(SHARE), flat=YES, error=_maybe(TEXT),
                schema=TEXT,
            )),
        ),
        "Explanation": {"type": "object", "required": ["schema", "path", "face_number", "explained", "face", "maps",
                                                      "spectrum"]},
        "Card": {"type": "object", "required": ["name", "version", "operating_points", "metrics", "limits", "licence"]},
        "Health": _object(status={"const": "ok"}, version=TEXT),
        "About": _object(
            version=TEXT, model=TEXT, verbs=_list(TEXT), urls=YES, most_picture=COUNT, most_video=COUNT,
            most_files=COUNT, token=YES, generator=_maybe(_object(model=TEXT, server=TEXT)),
        ),
        "Generated": {
            "type": "object", "required": ["schema", "status", "model", "server", "prompt", "parameters", "created",
                                           "sha256", "licence", "usage", "cost"],
            "properties": {"schema": {"const": GENERATED_SCHEMA}},
        },
        "Generation": _object(
            schema={"const": GENERATION_SCHEMA}, picture={"type": "string", "pattern": "^data:image/"},
            provenance=_ref("Generated"), result=_maybe(_ref("ImageResult")), unchecked=_maybe(TEXT),
        ),
    }  # fmt: skip


def document(settings: Settings, available: tuple[str, ...]) -> Schema:
    """Return the document.

    Args:
        settings: of the server.
        available: the verbs it has.
    """
    paths: dict[str, Schema] = {f"{API}/{name}": {"post": _operation(VERBS[name], settings)} for name in available}
    paths |= {
        f"{API}/health": {"get": _read("health", "Whether the server works.", _ref("Health"), guarded=False)},
        f"{API}/about": {"get": _read("about", "What this server does and allows.", _ref("About"), guarded=False)},
        f"{API}/models": {"get": _read("models", "The cards of all models.", _list(_ref("Card")))},
        f"{API}/models/{{name}}": {"get": _card()},
    }
    found: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "faceproof", "version": VERSION,
            "description": "Is this face a photograph, or was it generated? Files are not kept after the answer.",
        },
        "paths": paths,
        "components": {"schemas": schemas()},
    }  # fmt: skip
    if settings.token is not None:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


_SAID = {
    400: "The request is wrong.", 401: "The token is missing or wrong.", 403: "Refused.", 404: "There is none.",
    405: "Another method is wanted.", 408: "The file did not arrive in time.", 413: "Too large.", 415: "Not a picture.",
    421: "The server does not go by this name.", 422: "The file cannot be used.",
    429: "Busy: ask again after Retry-After.", 502: "The image service failed.",
    503: "The image service does not answer now.",
}  # fmt: skip


def _errors(*codes: int) -> dict[str, Schema]:
    return {
        str(code): {"description": _SAID[code], "content": {"application/json": {"schema": _ref("Error")}}}
        for code in (401, 403, 405, 421, *codes)
    }


def _operation(verb: Verb, settings: Settings) -> Schema:
    kind = "application/json" if verb.answer else "text/html"
    good: Schema = {
        "description": "What was found.",
        "content": {kind: {"schema": _ref(verb.answer) if verb.answer else TEXT}},
    }
    theirs = () if verb.least else (502, 503)
    return {
        "operationId": verb.name,
        "summary": verb.about,
        "parameters": [
            {
                "name": option.name, "in": "query", "description": option.about, "required": False,
                "schema": dict(option.schema) | ({} if option.default is None else {"default": option.default}),
            }
            for option in verb.options
        ],
        "requestBody": {"required": True, "content": _files(verb, settings) if verb.least else _prompt()},
        "responses": {"200": good, **_errors(400, 408, 413, 415, 422, 429, *theirs)},
    }  # fmt: skip


def _prompt() -> Schema:
    schema = _object(prompt={"type": "string", "minLength": 1, "maxLength": MOST_PROMPT})
    kinds = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
    return {kind: {"schema": schema} for kind in kinds}


def _files(verb: Verb, settings: Settings) -> Schema:
    binary: Schema = {"type": "string", "format": "binary"}
    many = verb.most != 1
    most = verb.most or settings.most_files
    files = _list(binary, minItems=verb.least, maxItems=most) if many else binary
    content: dict[str, Schema] = {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"file": files}, "required": ["file"]},
        }
    }
    if not many:
        content["application/octet-stream"] = {"schema": binary}
    if settings.urls and verb.name != "video":
        key, value = ("urls", _list(TEXT, minItems=verb.least, maxItems=most)) if many else ("url", TEXT)
        content["application/json"] = {"schema": _object(**{key: value})}
    return content


def _read(name: str, about: str, schema: Schema, *, guarded: bool = True) -> Schema:
    found: Schema = {
        "operationId": name, "summary": about,
        "responses": {"200": {"description": about, "content": {"application/json": {"schema": schema}}}, **_errors()},
    }  # fmt: skip
    if not guarded:
        found["security"] = []
    return found


def _card() -> Schema:
    found = _read("model", "The card of one model.", _ref("Card"))
    found["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": TEXT}]
    found["responses"] |= _errors(404)
    return found
