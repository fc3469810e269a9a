"""The log's two secrets, in a folder: the key that signs checkpoints, and the key of the vault."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.checkpoint import Verifier
from safetylayers.oversee.audit.vault import KEY_BYTES, Vault

SIGNING = "signing.key"
VAULT = "vault.key"


@dataclass(frozen=True, slots=True, repr=False)
class LogKeys:
    """What a log signs and encrypts with. All replicas share it."""

    signing: Ed25519PrivateKey
    vault: Vault

    @classmethod
    def open(cls, folder: Path) -> LogKeys:
        """Read the keys, or make them where there are none yet.

        Several replicas may do so at once: the first one's keys are everybody's.

        Raises:
            AuditError: a key cannot be read or made, has the wrong size, or may be read by others.
        """
        with _told(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_if(folder, 0o022, "may be changed by other users", "chmod 700")
            # The vault's key comes first: once there is a signing key, a missing vault key is a loss and not a start.
            if not (folder / SIGNING).exists():
                _make(folder / VAULT)
                _make(folder / SIGNING)
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> LogKeys:
        """Read keys that are there already.

        Raises:
            AuditError: a key is missing, cannot be read, has the wrong size, or may be read by others.
        """
        with _told(folder):
            _refuse_if(folder, 0o022, "may be changed by other users", "chmod 700")
            return cls(Ed25519PrivateKey.from_private_bytes(_read(folder / SIGNING)), Vault(_read(folder / VAULT)))

    def verifier(self, origin: str) -> Verifier:
        """Return what outside tools check the log of this name with."""
        return Verifier(origin, self.signing.public_key().public_bytes_raw())


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn what the system refuses into what users can mend."""
    try:
        yield
    except OSError as error:
        raise AuditError(
            f"{error.filename or folder}: the log's key cannot be read or made ({error.strerror}).",
            mend="Restore it from its backup, or give the gateway's user the right to read it.",
        ) from error


def _make(path: Path) -> None:
    """Write a new key, whole or not at all; one that is there already stays."""
    scratch = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)
        _flush(path.parent)
    except FileExistsError:
        pass
    finally:
        scratch.unlink(missing_ok=True)


def _flush(folder: Path) -> None:
    """Have the folder's new names survive a loss of power: nothing that is logged can do without its keys."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> bytes:
    _refuse_if(path, 0o077, "may be read by other users", "chmod 600")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise AuditError(f"{path}: holds {len(key)} bytes and not {KEY_BYTES}.", mend="Restore it from its backup.")
    return key


def _refuse_if(path: Path, bits: int, what: str, mend: str) -> None:
    if path.stat().st_mode & bits:
        raise AuditError(f"{path}: {what}.", mend=f"{mend} {path}")
