"""A proof stands on its own: it holds with the log's key, for its entry, and for nothing else."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from safetylayers.errors import AuditError
from safetylayers.oversee.audit import AuditLog, LogKeys, check_proof, prove
from safetylayers.oversee.audit.proof import Proof
from safetylayers.oversee.audit.tables import log_entries


@pytest.mark.parametrize("index", [0, 7, 19])
def test_a_proof_holds_without_the_database(filled: AuditLog, index: int) -> None:
    text = prove(filled.database, index, filled.verifier).model_dump_json()
    leaf = check_proof(text, filled.verifier)
    assert (leaf.index, leaf.facts) == (index, {"n": index})
    assert "What is" not in text


def test_a_proof_can_show_the_payload(filled: AuditLog, keys: LogKeys) -> None:
    proof = prove(filled.database, 7, filled.verifier, vault=keys.vault)
    assert json.loads(proof.payload or "") == {"text": "What is 7 and 7?"}
    check_proof(proof, filled.verifier)
    forged = proof.model_copy(update={"payload": proof.payload and proof.payload.replace("7", "8")})
    with pytest.raises(AuditError, match="payload is not the one"):
        check_proof(forged, filled.verifier)


def test_what_a_proof_says_cannot_be_changed(filled: AuditLog) -> None:
    proof, other = (prove(filled.database, index, filled.verifier) for index in (7, 8))
    flipped = base64.b64encode(bytes(32)).decode()
    for change in (
        {"leaf": proof.leaf.replace('"n":7', '"n":8')},
        {"index": 8},
        {"leaf": other.leaf, "index": 8},
        {"path": other.path},
        {"path": (flipped, *proof.path[1:])},
        {"path": proof.path[:-1]},
        {"checkpoint": proof.checkpoint.replace("\n20\n", "\n21\n")},
        {"payload": "{}", "salt": ""},
        {"payload": "{}"},
        {"path": ("%",)},
    ):
        with pytest.raises(AuditError):
            check_proof(proof.model_copy(update=change), filled.verifier)


def test_the_verifier_comes_from_elsewhere_than_the_proof(filled: AuditLog, tmp_path: Path) -> None:
    stranger = LogKeys.open(tmp_path / "other").verifier(filled.origin)
    proof = prove(filled.database, 3, filled.verifier).model_copy(update={"verifier": str(stranger)})
    check_proof(proof, filled.verifier)
    with pytest.raises(AuditError, match="not signed by this log's key"):
        check_proof(proof, stranger)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"leaf": 1}'])
def test_other_texts_are_no_proofs(filled: AuditLog, text: str) -> None:
    with pytest.raises(AuditError, match="not a proof"):
        check_proof(text, filled.verifier)


@pytest.mark.parametrize("index", [-1, 20])
def test_entries_that_are_not_there_cannot_be_proved(filled: AuditLog, index: int) -> None:
    with pytest.raises(AuditError, match="no entry"):
        prove(filled.database, index, filled.verifier)


def test_a_damaged_log_proves_nothing(filled: AuditLog) -> None:
    with filled.database.write() as connection:
        connection.execute(update(log_entries).where(log_entries.c.index == 3).values(leaf_hash=bytes(32)))
    with pytest.raises(AuditError, match="does not hold"):
        prove(filled.database, 9, filled.verifier)
    with filled.database.write() as connection:
        connection.execute(delete(log_entries).where(log_entries.c.index == 9))
    with pytest.raises(AuditError, match="missing"):
        prove(filled.database, 9, filled.verifier)


def test_proofs_survive_their_json(filled: AuditLog, keys: LogKeys) -> None:
    proof = prove(filled.database, 7, filled.verifier, vault=keys.vault)
    assert Proof.model_validate_json(proof.model_dump_json()) == proof
