"""A proof that an entry is in the log: one JSON text that needs neither the database nor the rest of the log."""

from __future__ import annotations

import base64
import hmac
from typing import Literal

from pydantic import Field, ValidationError
from sqlalchemy import Connection, select

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.checkpoint import Verifier
from safetylayers.oversee.audit.entry import Leaf
from safetylayers.oversee.audit.merkle import check_inclusion, leaf_hash, prove_inclusion, tree_root
from safetylayers.oversee.audit.reading import opening
from safetylayers.oversee.audit.rows import EntryRow, hashes, page
from safetylayers.oversee.audit.sealing import Opening
from safetylayers.oversee.audit.tables import log_head
from safetylayers.oversee.audit.vault import Vault
from safetylayers.oversee.store.database import Database
from safetylayers.records import Record

PATIENCE_S = 60.0
"""How long the database waits while hashes are read."""


class Proof(Record):
    """What shows that an entry is in the log, to whoever knows the log's verifier key."""

    format: Literal["safetylayers log proof 1"] = "safetylayers log proof 1"
    leaf: str
    """The entry's exact text; its hash is SHA-256 of a zero byte and this."""
    index: int = Field(ge=0)
    path: tuple[str, ...]
    """Siblings from the leaf to the root (RFC 9162, 2.1.3), in Base64."""
    checkpoint: str
    """The signed note that holds the root."""
    verifier: str
    """The log's verifier key. Compare it with what the log's keeper has published."""
    salt: str | None = None
    """With `payload`: what the leaf's commitment commits to, in hexadecimal."""
    payload: str | None = None
    """The payload's exact text, where it is to be shown as well."""


def prove(database: Database, index: int, verifier: Verifier, *, vault: Vault | None = None) -> Proof:
    """Make the proof of an entry. It reads the hashes of all entries once.

    Args:
        database: where the log is.
        index: the entry.
        verifier: the log's public key.
        vault: where given, and the payload is still kept, the proof shows the payload as well.

    Raises:
        AuditError: there is no such entry, or the log does not verify.
        StoreError: the database does not answer.
    """
    with database.read(patience_s=PATIENCE_S) as connection:
        head = connection.execute(select(log_head.c.size, log_head.c.checkpoint)).one_or_none()
        size, note = head or (0, "")
        path = prove_inclusion(index, size, lambda start, stop: tree_root(hashes(connection, start, stop)))
        row = _row(connection, index)
    opened = opening(row, Leaf.parse(row.leaf), vault)[1]
    proof = Proof(
        leaf=row.text,
        index=index,
        path=tuple(base64.b64encode(node).decode("ascii") for node in path),
        checkpoint=note,
        verifier=str(verifier),
        salt=opened.salt.hex() if opened else None,
        payload=opened.text.decode("ascii") if opened else None,
    )
    check_proof(proof, verifier)
    return proof


def check_proof(proof: Proof | str, verifier: Verifier) -> Leaf:
    """Return the entry that a proof shows.

    Args:
        proof: the record, or its JSON.
        verifier: the log's public key, from elsewhere than the proof.

    Raises:
        AuditError: it proves nothing.
    """
    try:
        proof = Proof.model_validate_json(proof) if isinstance(proof, str) else proof
        leaf_bytes, path = proof.leaf.encode(), [base64.b64decode(node, validate=True) for node in proof.path]
        opened = _opening(proof)
    except (ValidationError, ValueError) as error:
        raise AuditError("That is not a proof.", mend="Give the JSON text that was made for the entry.") from error
    checkpoint, leaf = verifier.check(proof.checkpoint), Leaf.parse(leaf_bytes)
    if leaf.index != proof.index:
        raise _proves_nothing("its entry is of another index")
    if not check_inclusion(leaf_hash(leaf_bytes), proof.index, checkpoint.size, path, checkpoint.root):
        raise _proves_nothing("its path does not lead from the entry to the checkpoint")
    if opened and not hmac.compare_digest(opened.commitment, leaf.commitment or b""):
        raise _proves_nothing("its payload is not the one that was logged")
    return leaf


def _row(connection: Connection, index: int) -> EntryRow:
    rows = page(connection, start=index, stop=index + 1)
    if not rows:
        raise AuditError(f"Entry {index} is missing.", mend="Verify the log.")
    return rows[0]


def _opening(proof: Proof) -> Opening | None:
    if (proof.salt is None) != (proof.payload is None):
        raise ValueError("a payload needs its salt")
    if proof.salt is None or proof.payload is None:
        return None
    return Opening(bytes.fromhex(proof.salt), proof.payload.encode())


def _proves_nothing(why: str) -> AuditError:
    return AuditError(f"The proof does not hold: {why}.", mend="Do not trust it; verify the log.")
