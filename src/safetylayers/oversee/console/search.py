"""Searching the log: by kind, by any id, by who did it, and by time; the newest first, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from safetylayers.errors import UsageError
from safetylayers.oversee.audit.reading import Kept, read
from safetylayers.oversee.store.database import Database

PAGE = 50
SCANNED = 5000
"""Entries looked at for one page; a search for something rare goes on from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is looked for; what is empty does not count."""

    kind: str = ""
    id: str = ""
    """Of a request, reply, key, held reply, proposal or override: whatever an entry's facts name."""
    actor: str = ""
    """Part of the actor."""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    """Only entries below this index."""


@dataclass(frozen=True, slots=True)
class Found:
    """A page of what was found."""

    entries: list[Kept]
    """Without their texts."""
    older: int | None
    """`before` for the next page; None where there is none."""


def search(database: Database, query: Query) -> Found:
    """Return a page of entries. Raises StoreError, and AuditError where an entry cannot be read."""
    first = 0 if query.since is None else first_at(database, query.since)
    ends = [] if query.until is None else [first_at(database, query.until)]
    ends += [] if query.before is None else [query.before]
    kinds = [query.kind] if query.kind else []
    entries: list[Kept] = []
    scanned, last = 0, first
    found = read(database, start=first, stop=min(ends, default=None), kinds=kinds, newest_first=True, limit=SCANNED)
    for kept in found:
        scanned, last = scanned + 1, kept.index
        if _matches(kept, query):
            entries.append(kept)
        if len(entries) == PAGE:
            break
    more = (len(entries) == PAGE or scanned == SCANNED) and last > first
    return Found(entries, last if more else None)


def first_at(database: Database, moment: datetime) -> int:
    """Return the index of the first entry at or after a moment. Entries are in the order of their times."""
    newest = next(read(database, newest_first=True, limit=1), None)
    low, high = 0, 0 if newest is None else newest.index + 1
    while low < high:
        middle = (low + high) // 2
        entry = next(read(database, start=middle, limit=1), None)
        if entry is None or entry.time >= moment:
            high = middle
        else:
            low = middle + 1
    return low


def _matches(kept: Kept, query: Query) -> bool:
    if query.actor and query.actor not in kept.actor:
        return False
    if not query.id:
        return True
    texts = [value for value in kept.facts.values() if isinstance(value, str)]
    return any(text == query.id or text.startswith(f"{query.id}/") for text in texts)


def parse_moment(text: str) -> datetime | None:
    """Read a time as forms send it, in UTC; None for no text. Raises UsageError."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError("That is no time.", mend="Write it as 2026-01-31T12:00.") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
