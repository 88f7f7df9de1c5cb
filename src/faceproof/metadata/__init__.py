"""What a picture's file says about where the picture comes from, and what that is worth as evidence.

    bytes -> containers -> EXIF tags, XMP, texts, content credentials -> Metadata -> Evidence

Every step takes hostile bytes: nothing raises, time and memory are bounded, no network is used, and what
cannot be read becomes a note.
"""

from faceproof.metadata.content_credentials import Credentials
from faceproof.metadata.evidence import provenance_evidence
from faceproof.metadata.reading import Metadata, read_metadata

__all__ = ["Credentials", "Metadata", "provenance_evidence", "read_metadata"]
