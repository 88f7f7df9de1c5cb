"""Names that stand for ids: the same for the same id and secret, and not to be turned back without the secret."""

from __future__ import annotations

import hashlib
import hmac

from faceproof.errors import UsageError

__all__ = ["Pseudonyms"]

SHORTEST = 8


class Pseudonyms:
    """What stands for ids in reports.

    Args:
        salt: a secret of at least 8 characters; None leaves ids as they are. Keep it apart from the report: account
            ids can be guessed one by one by whoever has it.

    Attributes:
        active: whether ids are replaced.

    Raises:
        UsageError: the salt is too short.
    """

    def __init__(self, salt: str | None = None) -> None:
        if salt is not None and len(salt) < SHORTEST:
            raise UsageError(f"a salt has at least {SHORTEST} characters, this one {len(salt)}; take a random one")
        self._key = None if salt is None else salt.encode("utf-8", "surrogatepass")
        self.active = salt is not None

    def of(self, name: str) -> str:
        """Return the first 64 bits of HMAC-SHA256 in hexadecimal; "" for "", the id itself without a salt."""
        if self._key is None or not name:
            return name
        return hmac.new(self._key, name.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:16]
