"""The log's rows, page by page: whoever walks through a log of any length holds only a page of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.sealing import Locked
from safetylayers.oversee.audit.tables import log_entries, log_keys, log_payloads

PAGE = 256
"""Rows at a time."""
PAGE_BYTES = 8_000_000
"""Bytes of payloads at a time, where one payload alone is not more."""

_ALL = (
    select(
        log_entries.c.index,
        log_entries.c.kind,
        log_entries.c.leaf,
        log_entries.c.leaf_hash,
        log_payloads.c.time,
        log_payloads.c.ciphertext,
        log_keys.c.subject,
        log_keys.c.wrapped,
    )
    .outerjoin_from(log_entries, log_payloads, log_payloads.c.index == log_entries.c.index)
    .outerjoin(log_keys, log_keys.c.index == log_entries.c.index)
)

_SIZES = select(log_entries.c.index, func.length(log_payloads.c.ciphertext)).outerjoin_from(
    log_entries, log_payloads, log_payloads.c.index == log_entries.c.index
)


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry with all that is still kept of it."""

    index: int
    kind: str
    leaf: bytes
    leaf_hash: bytes
    time: int | None
    """Of the payload's row: microseconds since 1970. None where the payload is gone."""
    ciphertext: bytes | None
    subject: str | None
    wrapped: bytes | None
    """The payload's key, sealed; None where it is erased."""

    @property
    def text(self) -> str:
        """The leaf as text. Raises AuditError."""
        try:
            return self.leaf.decode("ascii")
        except UnicodeDecodeError as error:
            raise AuditError(f"Entry {self.index} is not what the log writes.", mend="Verify the log.") from error

    @property
    def locked(self) -> Locked | None:
        """The payload, where both it and its key are there."""
        if self.subject is None or self.ciphertext is None or self.wrapped is None:
            return None
        return Locked(self.subject, self.ciphertext, self.wrapped)


def page(
    connection: Connection,
    *,
    start: int | None = None,
    stop: int | None = None,
    kinds: Sequence[str] = (),
    newest_first: bool = False,
    limit: int = PAGE,
) -> list[EntryRow]:
    """Return the first rows from start up to, but without, stop; or the last ones, the newest first.

    Large payloads make pages shorter; an empty one is the end.
    """
    index = log_entries.c.index

    def chosen(query: Select[Any], start: int | None, stop: int | None) -> Select[Any]:
        query = _within(query, start, stop).order_by(index.desc() if newest_first else index)
        return query.where(log_entries.c.kind.in_(kinds)) if kinds else query

    sizes = connection.execute(chosen(_SIZES, start, stop).limit(limit)).all()
    indices = first_of(sizes, PAGE_BYTES)
    if not indices:
        return []
    query = chosen(_ALL, min(indices), max(indices) + 1)
    return [EntryRow(*row) for row in connection.execute(query)]


def first_of(sizes: Sequence[Row[Any, Any]], most_bytes: int) -> list[int]:
    """Return the first indices whose sizes are not too much together; one at least, where there is any."""
    sums = accumulate(size or 0 for _, size in sizes)
    return [
        index for n, ((index, _), so_far) in enumerate(zip(sizes, sums, strict=True)) if not n or so_far <= most_bytes
    ]


def all_rows(connection: Connection) -> Iterator[EntryRow]:
    """Iterate over all rows in the order of their indices, in one view of the database."""
    start: int | None = None
    while rows := page(connection, start=start):
        yield from rows
        start = rows[-1].index + 1


def hashes(connection: Connection, start: int, stop: int) -> Iterator[bytes]:
    """Iterate over the leaves' hashes of a range; a missing row leaves one out."""
    while start < stop:
        query = _within(select(log_entries.c.index, log_entries.c.leaf_hash), start, stop)
        rows = connection.execute(query.order_by(log_entries.c.index).limit(64 * PAGE)).all()
        if not rows:
            return
        yield from (hashed for _, hashed in rows)
        start = rows[-1][0] + 1


def _within(query: Select[Any], start: int | None, stop: int | None) -> Select[Any]:
    if start is not None:
        query = query.where(log_entries.c.index >= start)
    return query if stop is None else query.where(log_entries.c.index < stop)
