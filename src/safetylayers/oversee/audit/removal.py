"""Erasing a person's data, and letting data grow old: keys and ciphertexts go, entries and their commitments stay.

Each removal is an entry itself and says how much went, so that `verify` can tell it from a theft. Large ones go in
pieces, each with its own entry, because a transaction holds up all other writers, stops and heartbeats included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import count
from time import sleep

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.entry import JSON, Entry, microseconds, stamp
from safetylayers.oversee.audit.rows import first_of
from safetylayers.oversee.audit.tables import log_keys, log_payloads
from safetylayers.oversee.store.database import Database

ERASE = "erase"
EXPIRE = "expire"
PIECE = 200
"""Rows that go in one transaction, at most."""
PIECE_BYTES = 8_000_000
"""Bytes of payloads that go in one transaction, where one payload alone is not more."""
PAUSE_S = 0.1
"""Between two transactions. SQLite's writers look for their turn every tenth of a second at the latest."""

AppendIn = Callable[[Connection, Sequence[Entry]], list[int]]


def erase(database: Database, append_in: AppendIn, subject: str, actor: str) -> int:
    """Delete the keys of all payloads of a subject, which makes them unreadable for ever; log it without the name.

    Copies of the database that were made before still hold the keys, sealed by the vault; so does SQLite's write-ahead
    log until `Database.sweep`, and PostgreSQL until its next VACUUM.

    Args:
        database: where the log is.
        append_in: `AuditLog.append_in`.
        subject: whose data.
        actor: who erases.

    Returns:
        How many payloads are gone.

    Raises:
        AuditError: no subject is named.
        StoreError: the database refuses; what was logged up to then is done.
    """
    if not subject:
        raise AuditError("Nobody was named whose data to erase.", mend="Name the subject.")
    total = 0
    while True:
        with database.write() as connection:
            found = _some(connection, log_keys, log_keys.c.subject == subject)
            keys = _delete(connection, log_keys, found)
            if found or not total:  # that nothing was found is worth an entry, too
                append_in(connection, [Entry(kind=ERASE, actor=actor, facts={"keys": keys, "payloads": 0})])
        total += keys
        if len(found) < PIECE:
            return total
        sleep(PAUSE_S)


def expire(database: Database, append_in: AppendIn, before: datetime, actor: str, *, pieces: int | None = None) -> int:
    """Delete payloads that are older than a time, and their keys; log it where there were any.

    Args:
        database: where the log is.
        append_in: `AuditLog.append_in`.
        before: with its time zone.
        actor: who wants it so.
        pieces: how many transactions at most; None for as many as it takes.

    Returns:
        How many payloads are gone. Where `pieces` is given, all are once it returns 0.

    Raises:
        StoreError: the database refuses; what was logged up to then is done.
    """
    total = 0
    for piece in count() if pieces is None else range(pieces):
        if piece:
            sleep(PAUSE_S)
        with database.write() as connection:
            found = _older(connection, microseconds(before))
            if not found:
                break
            keys, payloads = _delete(connection, log_keys, found), _delete(connection, log_payloads, found)
            facts: dict[str, JSON] = {"before": stamp(before), "keys": keys, "payloads": payloads}
            append_in(connection, [Entry(kind=EXPIRE, actor=actor, facts=facts)])
        total += payloads
    return total


def _older(connection: Connection, moment: int) -> Sequence[int]:
    """Return the first payloads that are older, as many as may go together."""
    size, time = func.length(log_payloads.c.ciphertext), log_payloads.c.time
    query = select(log_payloads.c.index, size).where(time < moment).order_by(time).limit(PIECE)
    return first_of(connection.execute(query).all(), PIECE_BYTES)


def _some(connection: Connection, table: Table, where: ColumnElement[bool]) -> Sequence[int]:
    return connection.execute(select(table.c.index).where(where).order_by(table.c.index).limit(PIECE)).scalars().all()


def _delete(connection: Connection, table: Table, indices: Sequence[int]) -> int:
    return connection.execute(delete(table).where(table.c.index.in_(indices))).rowcount
