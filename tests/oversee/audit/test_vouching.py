"""Cut, rewritten and forked logs contradict checkpoints, which tell how far a log is sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from oversee.audit.tampering import cut, put_head_back, rewrite, sign_all_again, tree_of
from safetylayers.errors import AuditError
from safetylayers.oversee.audit import AuditLog, Entry, LogKeys, Verification, read_witness, verify
from safetylayers.oversee.audit.checkpoint import Checkpoint
from safetylayers.oversee.audit.tables import checkpoints, log_head


@pytest.mark.parametrize("size", [0, 8, 18])
def test_a_cut_tail_is_named(filled: AuditLog, verified: Callable[..., Verification], size: int) -> None:
    with filled.database.write() as connection:
        cut(connection, size)
    found = verified()
    assert found.first_bad == size
    assert found.problems[0].text.startswith("Cut: the log's head counts 20")


def test_a_cut_tail_whose_head_was_put_back_is_named_by_a_kept_checkpoint(
    filled: AuditLog, verified: Callable[..., Verification]
) -> None:
    with filled.database.write() as connection:
        cut(connection, 12)
        put_head_back(connection, 12)
    assert verified().ok, "without kept checkpoints nobody can tell"
    found = verified(kept=True)
    assert found.first_bad == 12
    assert found.problems[0].text.startswith("Cut: a kept checkpoint counts")


def test_a_cut_tail_is_named_by_a_stored_checkpoint_that_was_forgotten(
    filled: AuditLog, verified: Callable[..., Verification]
) -> None:
    with filled.database.write() as connection:
        last = connection.execute(select(checkpoints).where(checkpoints.c.size == 20)).mappings().one()
        cut(connection, 12)
        put_head_back(connection, 12)
        connection.execute(insert(checkpoints), dict(last))
    assert verified().first_bad == 12


def test_a_changed_entry_with_a_fitting_hash_is_found_by_the_checkpoints(
    filled: AuditLog, verified: Callable[..., Verification]
) -> None:
    rewrite(filled.database, 14)
    for found in (verified(), verified(kept=True)):
        assert found.first_bad == 12, "the first entry of its batch: checkpoints are no finer"
        assert found.problems[0].text.startswith("Rewritten: entries 12 to 15 are")


def test_a_log_signed_again_with_another_key_is_named(
    filled: AuditLog, verified: Callable[..., Verification], tmp_path: Path
) -> None:
    rewrite(filled.database, 9)
    with filled.database.write() as connection:
        sign_all_again(connection, LogKeys.open(tmp_path / "other"), filled.origin)
    assert verified().first_bad == 0, "no checkpoint of the log's key is left"
    assert verified(kept=True).first_bad == 8, "kept checkpoints vouch for what came before"


def test_a_log_signed_again_with_its_own_key_is_named_by_kept_checkpoints(
    filled: AuditLog, verified: Callable[..., Verification], keys: LogKeys
) -> None:
    rewrite(filled.database, 9)
    with filled.database.write() as connection:
        sign_all_again(connection, keys, filled.origin)
    assert verified().ok, "without kept checkpoints nobody can tell"
    found = verified(kept=True)
    assert found.first_bad == 8
    assert [problem.text for problem in found.problems] == [
        "Rewritten: entries 8 to 11 are not what a kept checkpoint has signed."
    ]


def test_a_history_that_was_rewritten_without_the_key_is_not_signed(filled: AuditLog) -> None:
    rewrite(filled.database, 9)
    with filled.database.write() as connection:
        connection.execute(update(log_head).values(frontier=tree_of(connection).to_bytes()))
        connection.execute(delete(checkpoints))
    with (
        pytest.raises(AuditError, match="not what its checkpoint says"),
        filled.database.write() as connection,
    ):
        filled.append_in(connection, [Entry(kind="next", actor="a")])


def test_how_far_kept_checkpoints_vouch_is_told(filled: AuditLog, witness: Path) -> None:
    notes = list(read_witness(witness))
    found = verify(filled.database, filled.verifier, kept=notes[:2], own=notes)
    assert (found.ok, found.vouched, found.size) == (True, 8, 20)
    assert verify(filled.database, filled.verifier, own=notes).vouched == 0


def test_the_logs_own_witness_finds_a_cut_beyond_what_was_kept_elsewhere(filled: AuditLog, witness: Path) -> None:
    notes = list(read_witness(witness))
    with filled.database.write() as connection:
        cut(connection, 12)
        put_head_back(connection, 12)
    assert verify(filled.database, filled.verifier, kept=notes[:2]).ok
    found = verify(filled.database, filled.verifier, kept=notes[:2], own=notes)
    assert (found.first_bad, len(found.problems)) == (12, 1)


def test_a_fork_of_the_same_size_is_named(
    filled: AuditLog, verified: Callable[..., Verification], keys: LogKeys
) -> None:
    with filled.database.write() as connection:
        cut(connection, 16)
        put_head_back(connection, 16)
    fork = AuditLog(filled.database, keys, origin=filled.origin)
    with filled.database.write() as connection:
        fork.append_in(connection, [Entry(kind="other", actor="a")] * 4)
    assert verified().ok
    assert (verified(kept=True).size, verified(kept=True).first_bad) == (20, 16)


def test_a_damaged_checkpoint_over_sound_entries_names_no_entry(
    filled: AuditLog, verified: Callable[..., Verification]
) -> None:
    with filled.database.write() as connection:
        connection.execute(update(checkpoints).where(checkpoints.c.size == 8).values(note="nothing"))
    found = verified()
    assert (found.ok, found.first_bad) == (False, None)
    assert found.problems[0].text.startswith("The stored checkpoint of 8 entries")


def test_checkpoints_of_another_log_vouch_for_nothing(filled: AuditLog, tmp_path: Path) -> None:
    note = Checkpoint(filled.origin, 8, bytes(32)).signed(LogKeys.open(tmp_path / "other").signing)
    found = verify(filled.database, filled.verifier, kept=[note, "nothing"])
    assert (found.ok, found.first_bad, len(found.problems)) == (False, None, 2)


def test_a_lost_head_and_a_changed_edge_are_found(filled: AuditLog, verified: Callable[..., Verification]) -> None:
    with filled.database.write() as connection:
        connection.execute(update(log_head).values(frontier=bytes(8)))
    assert "edge of the tree" in verified().problems[0].text
    with filled.database.write() as connection:
        connection.execute(delete(log_head))
    assert "head is missing" in verified().problems[0].text
