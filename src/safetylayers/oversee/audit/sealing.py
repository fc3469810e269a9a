"""Payloads: committed to in the leaf, encrypted under a key of their own, which alone has to go to erase them."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.entry import JSON, Draft, Entry, canonical
from safetylayers.oversee.audit.vault import Vault, new_key

SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Locked:
    """A payload at rest."""

    subject: str
    ciphertext: bytes
    wrapped: bytes
    """The payload's key, sealed by the vault."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An entry that is ready for its turn."""

    kind: str
    draft: Draft
    locked: Locked | None


@dataclass(frozen=True, slots=True)
class Opening:
    """What a commitment commits to."""

    salt: bytes
    text: bytes
    """The payload as canonical JSON."""

    @property
    def commitment(self) -> bytes:
        """SHA-256 of both. Without the salt, short payloads could be guessed."""
        return sha256(self.salt + self.text).digest()

    @property
    def payload(self) -> Mapping[str, JSON]:
        """The payload."""
        found: Mapping[str, JSON] = json.loads(self.text)
        return found


def seal(entry: Entry, vault: Vault) -> Sealed:
    """Check, commit and encrypt. An empty payload is none. Raises AuditError."""
    entry.check()
    if not entry.payload:
        return Sealed(entry.kind, Draft.of(entry, None), None)
    opening = Opening(secrets.token_bytes(SALT_BYTES), canonical(entry.payload))
    commitment, key = opening.commitment, new_key()
    locked = Locked(
        subject=entry.subject,
        ciphertext=Vault(key).seal(opening.salt + opening.text, context=commitment),
        wrapped=vault.seal(key, context=_key_context(commitment, entry.subject)),
    )
    return Sealed(entry.kind, Draft.of(entry, commitment), locked)


def unseal(commitment: bytes, locked: Locked, vault: Vault) -> Opening:
    """Decrypt a payload.

    Raises:
        AuditError: it is not what was committed to, or its key belongs to another subject or vault.
    """
    key = vault.open(locked.wrapped, context=_key_context(commitment, locked.subject))
    text = Vault(key).open(locked.ciphertext, context=commitment)
    opening = Opening(text[:SALT_BYTES], text[SALT_BYTES:])
    if not hmac.compare_digest(opening.commitment, commitment):
        raise AuditError("A payload is not what its entry commits to.", mend="Do not trust it.")
    return opening


def _key_context(commitment: bytes, subject: str) -> bytes:
    return commitment + subject.encode()
