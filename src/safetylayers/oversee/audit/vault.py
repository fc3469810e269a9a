"""A vault seals texts at rest: AES-256-GCM (NIST SP 800-38D) under keys derived from one.

HKDF-Expand (RFC 5869) gives each text its own key and nonce from a random salt. With one key and random nonces, 2**32
texts would be the most that may be sealed (SP 800-38D, 8.3), which a busy log reaches.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from safetylayers.errors import AuditError

KEY_BYTES = 32
_SALT_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16


class Vault:
    """Seals and opens texts."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """Take a key of 32 random bytes. Raises AuditError where it is of another size."""
        if len(key) != KEY_BYTES:
            raise AuditError(f"A vault's key has {len(key)} bytes.", mend=f"Use one of {KEY_BYTES} random bytes.")
        self._key = key

    def seal(self, text: bytes, *, context: bytes) -> bytes:
        """Return the text encrypted; it opens again only in the same context."""
        salt = secrets.token_bytes(_SALT_BYTES)
        cipher, nonce = self._cipher(salt)
        return salt + cipher.encrypt(nonce, text, context)

    def open(self, sealed: bytes, *, context: bytes) -> bytes:
        """Return what was sealed.

        Raises:
            AuditError: it was changed, or belongs to another key or context.
        """
        if len(sealed) < _SALT_BYTES + _TAG_BYTES:
            raise _not_openable()
        cipher, nonce = self._cipher(sealed[:_SALT_BYTES])
        try:
            return cipher.decrypt(nonce, sealed[_SALT_BYTES:], context)
        except InvalidTag as error:
            raise _not_openable() from error

    def _cipher(self, salt: bytes) -> tuple[AESGCM, bytes]:
        derived = HKDFExpand(SHA256(), KEY_BYTES + _NONCE_BYTES, b"safetylayers vault 1" + salt).derive(self._key)
        return AESGCM(derived[:KEY_BYTES]), derived[KEY_BYTES:]


def new_key() -> bytes:
    """Return a key for a vault."""
    return secrets.token_bytes(KEY_BYTES)


def _not_openable() -> AuditError:
    return AuditError(
        "A sealed text does not open: it was changed, or sealed with another key.",
        mend="Use the key folder that this database was written with.",
    )
