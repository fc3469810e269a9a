"""Checkpoints: what a log commits itself to, as outside tools read it.

The forms are C2SP's: tlog-checkpoint for the text, signed-note for the signature around it (Ed25519, RFC 8032), and the
note's verifier key as one line of text.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby, pairwise

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.merkle import HASH_BYTES

_ED25519 = b"\x01"
_KEY_ID_BYTES = 4
_SIGNATURE = "— "
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """So many entries, under this root."""

    origin: str
    """The log's name: an address without its scheme, such as example.org/log."""
    size: int
    root: bytes

    def text(self) -> str:
        """Return what is signed."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"

    def signed(self, key: Ed25519PrivateKey) -> str:
        """Return the checkpoint as a signed note; the key's name is the origin."""
        text = self.text()
        verifier = Verifier(self.origin, key.public_key().public_bytes_raw())
        return f"{text}\n{_SIGNATURE}{self.origin} {_base64(verifier.key_id + key.sign(text.encode()))}\n"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A log's public key, under its name."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        """Raise AuditError unless the name may stand in a note."""
        if not self.name or "+" in self.name or any(c.isspace() or not c.isprintable() for c in self.name):
            raise AuditError(
                f"{self.name!r}: a log cannot be called so.",
                mend="Use an address without spaces and plus signs, such as example.org/log.",
            )

    @property
    def key_id(self) -> bytes:
        """Which key of this name it is."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        """Return the verifier key in one line, as it is given to auditors."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(_ED25519 + self.public_key)}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Read a verifier key. Raises AuditError."""
        name, key_id, key = [*text.strip().split("+", 2), "", ""][:3]
        encoded = _from_base64(key)
        if encoded[:1] != _ED25519 or len(encoded) != 33:
            raise AuditError("That is not an Ed25519 verifier key.", mend="Write NAME+ID+KEY, as the log shows it.")
        verifier = cls(name, encoded[1:])
        if verifier.key_id.hex() != key_id:
            raise AuditError("The verifier key's id is not that of its key.", mend="Copy the whole line again.")
        return verifier

    def check(self, note: str) -> Checkpoint:
        """Return a signed note's checkpoint.

        Raises:
            AuditError: it is no checkpoint, of another log, or not signed by this key.
        """
        text, signatures = _parts(note)
        checkpoint = parse_checkpoint(note)
        mine = [signed for name, signed in signatures if name == self.name and signed[:_KEY_ID_BYTES] == self.key_id]
        if checkpoint.origin != self.name or not mine:
            raise AuditError("A checkpoint is not signed by this log's key.", mend="Use the verifier key of this log.")
        public_key = Ed25519PublicKey.from_public_bytes(self.public_key)
        for signed in mine:
            try:
                public_key.verify(signed[_KEY_ID_BYTES:], text.encode())
            except InvalidSignature as error:
                raise AuditError("A checkpoint's signature is wrong.", mend="Do not trust it.") from error
        return checkpoint


def parse_checkpoint(note: str) -> Checkpoint:
    """Read a note without looking at its signatures. Raises AuditError."""
    lines = _parts(note)[0].split("\n")[:-1]
    if len(lines) < 3 or not all(lines) or not _SIZE.fullmatch(lines[1]):
        raise _malformed()
    root = _from_base64(lines[2])
    if len(root) != HASH_BYTES:
        raise _malformed()
    return Checkpoint(lines[0], int(lines[1]), root)


def split_notes(lines: Iterable[str]) -> Iterator[str]:
    """Find the notes among a file's lines, one after another, empty lines between them.

    A piece that lacks its signature, as a crash may leave one, vouches for nothing and is left out.
    """
    blocks = ("".join(block).removesuffix("\n") for empty, block in groupby(lines, "\n".__eq__) if not empty)
    for body, signatures in pairwise(blocks):
        if signatures.startswith(_SIGNATURE) and not body.startswith(_SIGNATURE):
            yield f"{body}\n\n{signatures}\n"


def _parts(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """The signed text, and the names and contents of its signatures."""
    text, found, rest = note.rpartition("\n\n")
    if not found or not rest.endswith("\n"):
        raise _malformed()
    signatures = []
    for line in rest[:-1].split("\n"):
        name, space, content = line.removeprefix(_SIGNATURE).partition(" ")
        if not line.startswith(_SIGNATURE) or not space:
            raise _malformed()
        signatures.append((name, _from_base64(content)))
    return text + "\n", signatures


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed() from error


def _malformed() -> AuditError:
    return AuditError("That is not a signed checkpoint.", mend="Give the note as the log wrote it, whole.")
