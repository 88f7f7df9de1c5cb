"""What metadata are worth: weights assigned by us, not learned, and a sentence for each finding.

They cannot be learned here: the training crops carry no metadata. Absence gives no evidence at all.
"""

from __future__ import annotations

from faceproof.metadata.camera import Camera
from faceproof.metadata.content_credentials import Credentials, Declared
from faceproof.metadata.generators import GeneratorTag
from faceproof.metadata.reading import Metadata
from faceproof.metadata.source_types import SOURCE_TYPES, Kind
from faceproof.records import Evidence

__all__ = ["WEIGHTS", "provenance_evidence"]

WEIGHTS = {
    # Natural log-odds: 5 is 148 to 1, -0.7 is 1 to 2.
    "credentials: generated": 6.0,  # signed and fitting the picture; who would sign falsely that it is not real?
    "credentials: part": 2.0,  # something was generated; whether the face, it does not say
    "credentials: captured": -1.0,  # weak, because anyone can sign: no signer is known here
    "credentials: other": 0.0,  # editing says nothing about the origin
    "credentials: invalid": 0.0,  # tampering or a harmless re-save: not generation
    "credentials: not_checked": 0.0,  # nothing is known
    "generator tag": 5.0,  # unsigned, but few add it to a photograph
    "IPTC: generated": 5.0,  # as above
    "IPTC: part": 2.0,  # as for credentials
    "IPTC: captured": -0.3,  # one unsigned word, easily added
    "IPTC: other": 0.0,  # as for credentials
    "camera: consistent": -0.7,  # weak: anyone can write or copy EXIF
    "camera: edited": -0.3,  # weaker: the picture is not as the camera left it
    "camera: incomplete": 0.0,  # too little that could be inconsistent
    "camera: contradictory": 0.0,  # forged, edited or a bad clock: none of these is generation
}
"""Finding -> natural log-odds, above 0 for generated."""

_ORDER: tuple[Kind, ...] = ("generated", "part", "captured", "other")
_SHOWN = 3


def provenance_evidence(metadata: Metadata) -> tuple[Evidence, ...]:
    """Return what metadata say about the origin, at most one piece for each kind of metadata.

    Credentials, generator tags and IPTC source types that speak for generated usually come from one program, so
    only the first of them weighs; the others say so and weigh 0. Nothing found gives nothing.
    """
    pieces = (
        _credentials(metadata.credentials),
        _tags(metadata.generator_tags),
        _iptc(metadata.source_types),
        _camera(metadata.camera),
    )
    return tuple(_once([piece for piece in pieces if piece is not None]))


def _once(pieces: list[Evidence]) -> list[Evidence]:
    """Let the heaviest piece for generated weigh, the others repeat it."""
    speaking = [piece for piece in pieces if piece.weight > 0]
    if not speaking:
        return pieces
    heaviest = max(speaking, key=lambda piece: piece.weight)
    remark = f" (not counted again: the {heaviest.name} weighed already)"
    return [
        Evidence(piece.name, 0.0, piece.sentence + remark) if piece.weight > 0 and piece is not heaviest else piece
        for piece in pieces
    ]


def _credentials(found: Credentials) -> Evidence | None:
    name = "content credentials"
    reasons = "; ".join(found.problems)
    if found.status == "absent":
        return None
    if found.status == "not_checked":
        sentence = f"the file carries content credentials (C2PA) that were not checked: {reasons}"
        return Evidence(name, WEIGHTS["credentials: not_checked"], sentence)
    if found.status == "invalid":
        claim = f"; they claim that it was {_words(found.declared)}" if found.declared else ""
        sentence = (
            f"the content credentials (C2PA) do not hold ({reasons}){claim}: the file was changed after signing or "
            "the signature is wrong, which does not tell whether it was generated"
        )
        return Evidence(name, WEIGHTS["credentials: invalid"], sentence)
    strongest = _strongest(found.declared)
    kind = "other" if strongest is None else strongest.kind
    says = "they do not say how it was made" if strongest is None else f"they say that it was {_words((strongest,))}"
    made = f", made by {found.generator}" if found.generator else ""
    when = f" on {found.time}" if found.time else ""
    signer = f'"{found.signer}"{" (signer not known: no list of trusted signers is used)" * (not found.signer_known)}'
    sentence = f"valid content credentials (C2PA){made}, signed by {signer}{when}: {says}"
    return Evidence(name, WEIGHTS[f"credentials: {kind}"], sentence)


def _strongest(declared: tuple[Declared, ...]) -> Declared | None:
    return min(declared, key=lambda piece: _ORDER.index(piece.kind), default=None)


def _words(declared: tuple[Declared, ...]) -> str:
    piece = _strongest(declared)
    assert piece is not None  # callers have some
    if piece.kind == "part" and SOURCE_TYPES[piece.name][0] == "generated":
        return f"changed with a generative model ({piece.name} in {piece.action})"
    return f"{SOURCE_TYPES[piece.name][1]} ({piece.name})"


def _tags(tags: tuple[GeneratorTag, ...]) -> Evidence | None:
    if not tags:
        return None
    shown = "; ".join(f'{tag.where} reads "{tag.quote}", which {tag.tool} writes' for tag in tags[:_SHOWN])
    more = f" and {len(tags) - _SHOWN} more" if len(tags) > _SHOWN else ""
    return Evidence("generator tag", WEIGHTS["generator tag"], f"{shown}{more}; unsigned, so it could have been added")


def _iptc(names: tuple[str, ...]) -> Evidence | None:
    if not names:
        return None
    name = min(names, key=lambda name: _ORDER.index(SOURCE_TYPES[name][0]))
    kind, words = SOURCE_TYPES[name]
    sentence = (
        f"the IPTC source type in its XMP says that it was {words} ({name}); unsigned, so it could have been added"
    )
    return Evidence("IPTC source type", WEIGHTS[f"IPTC: {kind}"], sentence)


def _camera(camera: Camera | None) -> Evidence | None:
    if camera is None:
        return None
    device = " ".join(part for part in (camera.make, camera.model) if part) or "a camera without a name"
    edits = f"; {'; '.join(camera.edits)} (edited, which is not generated)" if camera.edits else ""
    if camera.contradictions:
        wrong = "; ".join(camera.contradictions)
        sentence = f"the camera data (EXIF, {device}) contradict themselves: {wrong}{edits}"
        return Evidence("camera EXIF", WEIGHTS["camera: contradictory"], sentence)
    if not camera.complete:
        sentence = f"the camera data (EXIF, {device}) are incomplete and weigh nothing{edits}"
        return Evidence("camera EXIF", WEIGHTS["camera: incomplete"], sentence)
    state = "edited" if camera.edits else "consistent"
    sentence = (
        f"complete camera data (EXIF) that agree with each other: {device}, {_settings(camera)}, taken "
        f"{(camera.taken or '').replace('T', ' ')}{edits}; weak, because anyone can write them"
    )
    return Evidence("camera EXIF", WEIGHTS[f"camera: {state}"], sentence)


def _settings(camera: Camera) -> str:
    exposure, aperture, iso, length = camera.exposure_seconds, camera.f_number, camera.iso, camera.focal_length_mm
    parts = (
        None if exposure is None else f"{exposure:.3g} s" if exposure >= 0.3 else f"1/{1 / exposure:.0f} s",
        None if aperture is None else f"f/{aperture:.2g}",
        None if iso is None else f"ISO {iso:.0f}",
        None if length is None else f"{length:.3g} mm",
    )
    return ", ".join(part for part in parts if part is not None)
