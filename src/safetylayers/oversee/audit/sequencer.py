"""Gives entries their place: one writer at a time reads the log's head, adds to it, and signs the new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, insert, select, text, update

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.checkpoint import Checkpoint
from safetylayers.oversee.audit.entry import Leaf, microseconds
from safetylayers.oversee.audit.keys import LogKeys
from safetylayers.oversee.audit.merkle import Frontier, leaf_hash
from safetylayers.oversee.audit.sealing import Sealed
from safetylayers.oversee.audit.tables import checkpoints, log_entries, log_head, log_keys, log_payloads

_HEAD = select(log_head.c.frontier, log_head.c.checkpoint).with_for_update()
_HASTE_MS = "1000"
# Whoever holds the log's lock is to be quick: a replica that is cut off with it holds up everybody, stops included.
_HEAD_IN_HASTE = _HEAD.add_columns(func.set_config("statement_timeout", _HASTE_MS, True))


SKEW = timedelta(minutes=1)
"""How far replicas' clocks may differ. Within this, entries are in the order of their times; a clock that is further
ahead is wrong, and the others do not follow it."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The head that was written here last: as long as it is all there still, it need not be checked again."""

    note: str
    frontier: bytes
    time: datetime | None
    """Of its last entry."""


class Sequencer:
    """Adds entries within a transaction that somebody else began."""

    def __init__(self, keys: LogKeys, origin: str) -> None:
        """Take the log's keys and name. Raises AuditError where the name cannot be one."""
        self._signing = keys.signing
        self._verifier = keys.verifier(origin)
        self._known = _Known("", b"", None)

    def add(self, connection: Connection, entries: Sequence[Sealed]) -> tuple[list[int], str]:
        """Write entries and the new head; return the entries' indices and the signed checkpoint.

        Others wait, from here to the transaction's end.

        Raises:
            AuditError: the head is not one that this log's key has signed.
        """
        frontier, last = self._head(connection)
        first, time = frontier.size, _time_after(last)
        leaves = [entry.draft.leaf(index, time) for index, entry in enumerate(entries, start=first)]
        hashes = [leaf_hash(leaf) for leaf in leaves]
        for hashed in hashes:
            frontier.append(hashed)
        note = Checkpoint(self._verifier.name, frontier.size, frontier.root()).signed(self._signing)
        _write(connection, first, time, entries, leaves, hashes)
        edge = frontier.to_bytes()
        connection.execute(update(log_head), {"size": frontier.size, "frontier": edge, "checkpoint": note})
        connection.execute(insert(checkpoints), {"size": frontier.size, "note": note})
        self._known = _Known(note, edge, time)
        return list(range(first, frontier.size)), note

    def _head(self, connection: Connection) -> tuple[Frontier, datetime | None]:
        """Return the log's edge, and the time of its last entry."""
        head = _HEAD_IN_HASTE if connection.dialect.name == "postgresql" else _HEAD
        row = connection.execute(head).one_or_none()
        if row is None:
            _begin(connection)
            row = connection.execute(head).one()
        frontier, known = Frontier.from_bytes(row.frontier), self._known
        if (row.checkpoint, row.frontier) == (known.note, known.frontier):
            return frontier, known.time
        self._check(row.checkpoint, frontier)
        return frontier, _time_of(connection, frontier.size - 1)

    def _check(self, note: str, frontier: Frontier) -> None:
        if not note and frontier.size == 0:
            return
        head = self._verifier.check(note)
        if (head.size, head.root) != (frontier.size, frontier.root()):
            raise AuditError("The log's head is not what its checkpoint says.", mend="Verify the log.")


def _time_of(connection: Connection, index: int) -> datetime | None:
    """Return an entry's time; None where it is missing or damaged, which `verify` reports."""
    leaf = connection.execute(select(log_entries.c.leaf).where(log_entries.c.index == index)).scalar_one_or_none()
    try:
        return None if leaf is None else Leaf.parse(leaf).time
    except AuditError:
        return None


def _time_after(last: datetime | None) -> datetime:
    """Return the time, and never one before the last entry's: searches by time rely on the order."""
    now = datetime.now(UTC)
    return last if last is not None and now < last <= now + SKEW else now


def _begin(connection: Connection) -> None:
    """Write the head of a log without entries; another replica may do so at the same time."""
    if connection.execute(select(log_entries.c.index).limit(1)).first() is not None:
        raise AuditError("The log has entries but no head.", mend="Verify the log.")
    connection.execute(
        text("INSERT INTO log_head (id, size, frontier, checkpoint) VALUES (1, 0, :none, '') ON CONFLICT DO NOTHING"),
        {"none": Frontier().to_bytes()},
    )


def _write(
    connection: Connection,
    first: int,
    time: datetime,
    entries: Sequence[Sealed],
    leaves: Sequence[bytes],
    hashes: Sequence[bytes],
) -> None:
    connection.execute(
        insert(log_entries),
        [
            {"index": index, "kind": entry.kind, "leaf": leaf, "leaf_hash": hashed}
            for index, (entry, leaf, hashed) in enumerate(zip(entries, leaves, hashes, strict=True), start=first)
        ],
    )
    locked = [(index, entry.locked) for index, entry in enumerate(entries, start=first) if entry.locked]
    if not locked:
        return
    since = microseconds(time)
    connection.execute(
        insert(log_payloads),
        [{"index": index, "time": since, "ciphertext": lock.ciphertext} for index, lock in locked],
    )
    connection.execute(
        insert(log_keys),
        [{"index": index, "subject": lock.subject, "wrapped": lock.wrapped} for index, lock in locked],
    )
