"""Appending and reading: what is acknowledged is kept, what fails leaves nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select, update

from safetylayers.errors import AuditError
from safetylayers.oversee.audit import AuditLog, Entry, LogKeys, Verifier, read_witness, verify
from safetylayers.oversee.audit.tables import log_entries, log_head, log_keys, log_payloads

PROMPT = "a sentence that nobody else may read"
ENTRY = Entry(kind="request", actor="key-1", facts={"tokens": 3}, payload={"prompt": PROMPT}, subject="person-1")


def append(log: AuditLog, *entries: Entry) -> list[int]:
    """Append all at once."""

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(log.append(entry) for entry in entries))

    return asyncio.run(all_of_them())


def test_an_entry_comes_back_as_it_was(log: AuditLog) -> None:
    assert append(log, ENTRY) == [0]
    (kept,) = log.read()
    assert (kept.index, kept.kind, kept.actor, kept.subject) == (0, "request", "key-1", "person-1")
    assert (kept.facts, kept.payload, kept.state) == (ENTRY.facts, ENTRY.payload, "kept")


def test_many_at_once_are_kept_in_their_order(log: AuditLog, keys: LogKeys) -> None:
    entries = [Entry(kind="k", actor="a", facts={"n": n}) for n in range(1500)]
    assert append(log, *entries) == list(range(1500))
    assert [kept.facts["n"] for kept in log.read()] == list(range(1500))
    assert verify(log.database, log.verifier, vault=keys.vault).ok


def test_the_database_holds_no_payload_in_clear(log: AuditLog, tmp_path: Path) -> None:
    append(log, ENTRY)
    with log.database.read() as connection:
        for table in (log_entries, log_payloads, log_keys, log_head):
            assert PROMPT not in repr(connection.execute(select(table)).all())
    for path in tmp_path.glob("database*"):
        assert PROMPT.encode() not in path.read_bytes()


def test_a_change_and_its_entry_are_kept_together_or_not_at_all(log: AuditLog, witness: Path) -> None:
    def fail() -> None:
        with log.database.write() as connection:
            log.append_in(connection, [ENTRY, ENTRY])
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(log.read()) == []
    assert not witness.exists()
    with log.database.write() as connection:
        assert log.append_in(connection, [ENTRY]) == [0]
        assert log.append_in(connection, []) == []
        assert log.append_in(connection, [ENTRY, ENTRY]) == [1, 2]
    assert [log.verifier.check(note).size for note in read_witness(witness)] == [1, 3]


def test_pages_go_both_ways_and_keep_kinds_apart(filled: AuditLog) -> None:
    def indices(**options: object) -> list[int]:
        return [kept.index for kept in filled.read(**options)]  # type: ignore[arg-type]

    assert indices() == list(range(20))
    assert indices(start=3, stop=6) == [3, 4, 5]
    assert indices(newest_first=True, limit=3) == [19, 18, 17]
    assert indices(newest_first=True, limit=3, stop=17) == [16, 15, 14]
    assert indices(kinds=["mode"], limit=3) == [0, 2, 4]
    assert indices(kinds=["mode"], newest_first=True, limit=2) == [18, 16]
    assert indices(kinds=["mode", "request"], limit=2) == [0, 1]
    assert indices(kinds=["nothing"]) == indices(limit=0) == []


def test_reading_goes_on_beyond_a_page(log: AuditLog) -> None:
    with log.database.write() as connection:
        log.append_in(connection, [Entry(kind="k", actor="a")] * 600)
    assert [kept.index for kept in log.read()] == list(range(600))
    assert [kept.index for kept in log.read(newest_first=True)] == list(range(599, -1, -1))


def test_one_bad_entry_does_not_fail_its_neighbours(log: AuditLog) -> None:
    async def appended() -> list[int | BaseException]:
        bad = Entry(kind="k", actor="a", facts={"x": float("nan")})
        return await asyncio.gather(log.append(ENTRY), log.append(bad), log.append(ENTRY), return_exceptions=True)

    first, bad, last = asyncio.run(appended())
    assert (first, last) == (0, 1)
    assert isinstance(bad, AuditError)


def test_a_closed_log_takes_nothing_more(log: AuditLog) -> None:
    append(log, ENTRY)
    log.close()
    log.close()
    with pytest.raises(AuditError, match="closed"):
        append(log, ENTRY)


def test_the_names_of_logs_are_checked(log: AuditLog, keys: LogKeys) -> None:
    with pytest.raises(AuditError, match="cannot be called so"):
        AuditLog(log.database, keys, origin="two words")


def test_a_head_that_this_key_has_not_signed_stops_all_writing(filled: AuditLog, tmp_path: Path) -> None:
    other = AuditLog(filled.database, LogKeys.open(tmp_path / "other"), origin=filled.origin)
    with pytest.raises(AuditError, match="not signed by this log's key"):
        append(other, ENTRY)
    other.close()
    with filled.database.write() as connection:
        head = connection.execute(select(log_head)).one()
        connection.execute(update(log_head).values(checkpoint=head.checkpoint.replace("\n20\n", "\n21\n")))
    with pytest.raises(AuditError, match="signature is wrong"):
        append(filled, ENTRY)


def test_a_lost_head_is_not_begun_anew(filled: AuditLog) -> None:
    with filled.database.write() as connection:
        connection.execute(log_head.delete())
    with pytest.raises(AuditError, match="no head"):
        append(filled, ENTRY)


def test_the_witness_gets_every_checkpoint(filled: AuditLog, witness: Path) -> None:
    verifier = Verifier.parse(str(filled.verifier))
    assert [verifier.check(note).size for note in read_witness(witness)] == [4, 8, 12, 16, 20]


def test_a_witness_that_cannot_be_written_is_reported_and_loses_nothing(
    log: AuditLog, witness: Path, caplog: pytest.LogCaptureFixture
) -> None:
    witness.mkdir()
    assert append(log, ENTRY) == [0]
    assert append(log, ENTRY) == [1]
    assert log.witness_error == "Is a directory"
    assert len(caplog.records) == 1
    witness.rmdir()
    append(log, ENTRY)
    assert log.witness_error is None
    assert len(read_witness(witness)) == 1


def test_a_missing_witness_is_an_error_to_its_reader(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="cannot be read"):
        read_witness(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "\n\n", "<html>\n\n404 not found</html>\n"])
def test_a_file_without_a_checkpoint_is_no_witness(tmp_path: Path, text: str) -> None:
    (tmp_path / "kept").write_text(text)
    with pytest.raises(AuditError, match="holds no checkpoint"):
        list(read_witness(tmp_path / "kept"))


def test_the_witness_is_its_owners_alone(filled: AuditLog, witness: Path) -> None:
    assert witness.stat().st_mode & 0o777 == 0o600


def test_what_is_on_disk_is_flushed(log: AuditLog) -> None:
    if not log.database.is_sqlite:
        pytest.skip("PostgreSQL's server decides that")
    with log.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
