"""What is erased or has expired cannot be read again, and the log still verifies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select

from safetylayers.errors import AuditError
from safetylayers.oversee.audit import AuditLog, Entry, LogKeys, read_witness, removal, verify
from safetylayers.oversee.audit.tables import log_keys, log_payloads


def states(log: AuditLog) -> list[str]:
    """What has become of the first twenty entries' payloads; those of even index have none."""
    return [kept.state for kept in log.read(stop=20) if kept.index % 2]


def test_an_erased_person_cannot_be_read_and_the_log_verifies(filled: AuditLog, keys: LogKeys, witness: Path) -> None:
    assert filled.erase("person-1", "person-9") == 5
    assert states(filled) == ["erased", "kept"] * 5
    assert all(kept.payload is None and kept.subject == "" for kept in filled.read() if kept.state == "erased")
    assert verify(filled.database, filled.verifier, vault=keys.vault, kept=read_witness(witness)).ok


def test_an_erasure_is_logged_without_the_name(filled: AuditLog) -> None:
    filled.erase("person-1", "person-9")
    (entry,) = filled.read(kinds=["erase"])
    assert (entry.actor, entry.facts, entry.payload) == ("person-9", {"keys": 5, "payloads": 0}, None)
    with filled.database.read() as connection:
        assert connection.execute(select(func.count()).where(log_keys.c.subject == "person-1")).scalar_one() == 0


def test_that_nothing_was_found_is_logged_as_well(filled: AuditLog, keys: LogKeys) -> None:
    assert filled.erase("nobody", "person-9") == 0
    assert [entry.facts for entry in filled.read(kinds=["erase"])] == [{"keys": 0, "payloads": 0}]
    assert verify(filled.database, filled.verifier, vault=keys.vault).ok


def test_nobody_in_particular_cannot_be_erased(filled: AuditLog) -> None:
    with pytest.raises(AuditError, match="Nobody was named"):
        filled.erase("", "person-9")


def test_only_what_is_older_expires(filled: AuditLog, keys: LogKeys) -> None:
    third_batch = next(filled.read(start=8)).time
    assert filled.expire(third_batch, "retention") == 4
    assert states(filled) == ["erased"] * 4 + ["kept"] * 6
    (entry,) = filled.read(kinds=["expire"])
    assert entry.facts["keys"] == entry.facts["payloads"] == 4
    assert verify(filled.database, filled.verifier, vault=keys.vault).ok


def test_what_was_erased_expires_too(filled: AuditLog, keys: LogKeys) -> None:
    filled.erase("person-1", "person-9")
    assert filled.expire(datetime.now(UTC) + timedelta(hours=1), "retention") == 10
    with filled.database.read() as connection:
        for table in (log_keys, log_payloads):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 0
    assert verify(filled.database, filled.verifier, vault=keys.vault).ok
    assert filled.expire(datetime.now(UTC) + timedelta(hours=1), "retention") == 0


def test_large_removals_go_in_pieces(filled: AuditLog, keys: LogKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "PIECE", 2)
    assert filled.erase("person-1", "person-9") == 5
    assert filled.expire(datetime.now(UTC) + timedelta(hours=1), "retention") == 10
    assert [entry.facts["keys"] for entry in filled.read(kinds=["erase"])] == [2, 2, 1]
    assert [entry.facts["payloads"] for entry in filled.read(kinds=["expire"])] == [2] * 5
    assert verify(filled.database, filled.verifier, vault=keys.vault).ok


def test_a_piece_holds_up_others_for_a_moment_only(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr(removal, "sleep", paused.append)
    sizes = [100] * 450 + [3_000_000] * 5 + [9_000_000]
    entries = [Entry(kind="request", actor="a", payload={"text": "x" * size}, subject="key-1") for size in sizes]
    for start in range(0, len(entries), 50):
        with log.database.write() as connection:
            log.append_in(connection, entries[start : start + 50])
    assert log.expire(datetime.now(UTC) + timedelta(hours=1), "retention") == len(sizes)
    pieces = [entry.facts["payloads"] for entry in log.read(kinds=["expire"])]
    assert pieces == [200, 200, 52, 2, 1, 1]
    assert len(paused) == len(pieces)


def test_a_removal_may_be_bounded_and_gone_on_with(filled: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "PIECE", 3)
    later = datetime.now(UTC) + timedelta(hours=1)
    assert [filled.expire(later, "retention", pieces=2) for _ in range(3)] == [6, 4, 0]


@pytest.mark.parametrize("table", [log_keys, log_payloads])
def test_what_is_taken_away_without_an_entry_is_reported(filled: AuditLog, keys: LogKeys, table: object) -> None:
    with filled.database.write() as connection:
        connection.execute(delete(table).where(table.c.index == 3))  # type: ignore[arg-type, attr-defined]
    found = verify(filled.database, filled.verifier, vault=keys.vault)
    assert not found.ok
    assert found.problems[0].text.startswith("Taken away: 1 ")
