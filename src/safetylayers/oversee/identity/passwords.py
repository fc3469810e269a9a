"""Passwords: Argon2id (RFC 9106); which ones are refused follows NIST SP 800-63B, section 5.1.1."""

from __future__ import annotations

import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from safetylayers.errors import AccessError

SHORTEST, LONGEST = 12, 1024


class Passwords:
    """Hashes and verifies. Both take tens of milliseconds on purpose, so never do either in a write transaction."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """Use the library's recommended parameters unless told otherwise."""
        self._hasher = hasher or PasswordHasher()
        self._nobodys = self._hasher.hash("nobody has this password")

    def hash(self, password: str, *, name: str) -> str:
        """Return the hash to store.

        Raises:
            AccessError: the password is too short, too long, or says the person's name.
        """
        plain = _normal(password)
        if not SHORTEST <= len(plain) <= LONGEST:
            raise AccessError(
                f"A password has {SHORTEST} to {LONGEST} characters.", mend="Several unrelated words make a good one."
            )
        if not plain.casefold().replace(name.casefold(), "").strip():
            raise AccessError("The password is the person's name.", mend="Choose one that nobody can guess.")
        return self._hasher.hash(_bytes(plain))

    def verify(self, stored: str | None, password: str) -> bool:
        """Return whether a password is right.

        Without a stored hash, one that nobody has is verified: it takes as long, so time does not tell who exists.
        """
        try:
            right = self._hasher.verify(stored or self._nobodys, _bytes(_normal(password)[:LONGEST]))
        except (VerificationError, InvalidHashError):
            return False
        return right and stored is not None

    def renewed(self, stored: str, password: str) -> str:
        """Return a hash with today's parameters of a password that was right; the stored one where that has them."""
        return self._hasher.hash(_bytes(_normal(password))) if self._hasher.check_needs_rehash(stored) else stored


def _normal(password: str) -> str:
    """Return one form for characters that keyboards compose differently."""
    return unicodedata.normalize("NFKC", password)


def _bytes(password: str) -> bytes:
    """Return bytes of any text, half characters too, which JSON can carry."""
    return password.encode("utf-8", "surrogatepass")
