"""Tampering with rows is found, and the first bad entry is named."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from sqlalchemy import delete, insert, select, update

from oversee.audit.tampering import SEALED, change, leaf, tree_of
from safetylayers.errors import AuditError
from safetylayers.oversee.audit import AuditLog, Entry, LogKeys, Verification, export, rows, verify
from safetylayers.oversee.audit.merkle import leaf_hash
from safetylayers.oversee.audit.tables import log_entries, log_keys, log_payloads
from safetylayers.oversee.audit.vault import Vault, new_key
from safetylayers.oversee.store.database import IDLE_S


def test_an_honest_log_verifies(filled: AuditLog, verified: Callable[..., Verification]) -> None:
    found = verified(kept=True)
    assert (found.ok, found.size, found.first_bad, found.problems) == (True, 20, None, ())
    with filled.database.read() as connection:
        assert found.root == tree_of(connection).root().hex()
    assert verify(filled.database, filled.verifier).ok


def test_an_empty_log_verifies(log: AuditLog) -> None:
    assert verify(log.database, log.verifier).ok


@pytest.mark.parametrize("column", ["leaf", "leaf_hash"])
def test_a_flipped_byte_is_named(filled: AuditLog, verified: Callable[..., Verification], column: str) -> None:
    with filled.database.write() as connection:
        where = log_entries.c.index == 6
        data = bytearray(connection.execute(select(log_entries.c[column]).where(where)).scalar_one())
        data[20] ^= 1
        change(connection, 6, column, bytes(data))
    found = verified()
    assert found.first_bad == 6
    assert [problem.index for problem in found.problems] == [6]


def test_a_flipped_byte_of_a_payload_or_its_key_is_named(
    filled: AuditLog, verified: Callable[..., Verification]
) -> None:
    for table, column, index in ((log_keys, "wrapped", 9), (log_payloads, "ciphertext", 7)):
        with filled.database.write() as connection:
            where = table.c.index == index
            data = bytearray(connection.execute(select(table.c[column]).where(where)).scalar_one())
            data[-1] ^= 1
            connection.execute(update(table).where(where).values({column: bytes(data)}))
        assert verified().first_bad == index
    assert {kept.index for kept in filled.read() if kept.state == "damaged"} == {7, 9}


def test_swapped_payloads_are_named(filled: AuditLog, verified: Callable[..., Verification]) -> None:
    with filled.database.write() as connection:
        for table in SEALED:
            for old, new in ((5, 100), (9, 5), (100, 9)):
                connection.execute(update(table).where(table.c.index == old).values(index=new))
    assert verified().first_bad == 5


@pytest.mark.parametrize(
    ("table", "values"),
    [(log_keys, {"subject": "somebody"}), (log_payloads, {"time": 1}), (log_entries, {"kind": "x"})],
)
def test_changed_columns_beside_the_leaf_are_named(
    filled: AuditLog, verified: Callable[..., Verification], table: object, values: dict[str, object]
) -> None:
    with filled.database.write() as connection:
        connection.execute(update(table).where(table.c.index == 13).values(values))  # type: ignore[arg-type, attr-defined]
    assert verified().first_bad == 13


@pytest.mark.parametrize("index", [0, 8, 11])
def test_a_deleted_row_is_named(filled: AuditLog, verified: Callable[..., Verification], index: int) -> None:
    with filled.database.write() as connection:
        connection.execute(delete(log_entries).where(log_entries.c.index == index))
    found = verified(kept=True)
    assert found.first_bad == index
    assert [problem.text for problem in found.problems] == [f"Missing: {index} is not in the log."]


def test_a_deleted_row_whose_gap_was_closed_is_named(filled: AuditLog, verified: Callable[..., Verification]) -> None:
    with filled.database.write() as connection:
        connection.execute(delete(log_entries).where(log_entries.c.index == 8))
        for index in range(9, 20):
            change(connection, index, "index", index - 1)
    assert verified().first_bad == 8


def test_reordered_rows_are_named(filled: AuditLog, verified: Callable[..., Verification]) -> None:
    with filled.database.write() as connection:
        for old, new in ((4, 100), (10, 4), (100, 10)):
            change(connection, old, "index", new)
    assert verified().first_bad == 4


def test_an_added_row_is_named(filled: AuditLog, verified: Callable[..., Verification]) -> None:
    with filled.database.write() as connection:
        forged = leaf(connection, 18).replace(b'"index":18', b'"index":20')
        row = {"index": 20, "kind": "mode", "leaf": forged, "leaf_hash": leaf_hash(forged)}
        connection.execute(insert(log_entries), row)
    assert verified().first_bad == 20


def test_a_leaf_that_is_none_is_named_even_where_its_hash_fits(
    filled: AuditLog, verified: Callable[..., Verification]
) -> None:
    with filled.database.write() as connection:
        change(connection, 10, "leaf", b"\xff")
        change(connection, 10, "leaf_hash", leaf_hash(b"\xff"))
    assert verified().first_bad == 10
    with pytest.raises(AuditError, match="not what the log writes"):
        list(export(filled.database, filled.verifier))


def test_a_verifier_that_is_slow_is_waited_for(filled: AuditLog, keys: LogKeys) -> None:
    class SlowVault(Vault):
        waited = False

        def open(self, sealed: bytes, *, context: bytes) -> bytes:
            if not self.waited:
                time.sleep(IDLE_S + 0.3)
                self.waited = True
            return keys.vault.open(sealed, context=context)

    assert verify(filled.database, filled.verifier, vault=SlowVault(new_key())).ok


def test_pages_are_shorter_where_payloads_are_large(filled: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PAGE_BYTES", 250)
    with filled.database.read() as connection:
        assert len(rows.page(connection)) < 10
    assert [kept.index for kept in filled.read()] == list(range(20))
    assert [kept.index for kept in filled.read(newest_first=True, limit=15)] == list(range(19, 4, -1))
    assert [kept.index for kept in filled.read(kinds=["request"], limit=8)] == list(range(1, 16, 2))
    assert verify(filled.database, filled.verifier).size == 20


def test_of_many_problems_the_first_is_named_and_the_rest_counted(log: AuditLog) -> None:
    with log.database.write() as connection:
        log.append_in(connection, [Entry(kind="k", actor="a")] * 300)
        connection.execute(update(log_entries).where(log_entries.c.index >= 50).values(kind="x"))
    found = verify(log.database, log.verifier)
    assert (found.first_bad, len(found.problems), found.left_out) == (50, 100, 150)
