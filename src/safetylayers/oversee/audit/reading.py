"""Reading the log, for the console and for export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from safetylayers.errors import AuditError
from safetylayers.oversee.audit.entry import JSON, Leaf
from safetylayers.oversee.audit.rows import PAGE, EntryRow, page
from safetylayers.oversee.audit.sealing import Opening, unseal
from safetylayers.oversee.audit.vault import Vault
from safetylayers.oversee.store.database import Database

PayloadState = Literal["none", "kept", "locked", "erased", "damaged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An entry as it is kept."""

    index: int
    time: datetime
    kind: str
    actor: str
    facts: Mapping[str, JSON]
    payload: Mapping[str, JSON] | None
    """None unless `state` is "kept"."""
    state: PayloadState
    """none: there never was a payload; kept: it is here; locked: no vault was given; erased: it or its key is gone;
    damaged: it is not what was logged."""
    subject: str
    """Whose data the payload is, while its key is kept."""


def read(
    database: Database,
    *,
    vault: Vault | None = None,
    start: int = 0,
    stop: int | None = None,
    kinds: Sequence[str] = (),
    newest_first: bool = False,
    limit: int | None = None,
) -> Iterator[Kept]:
    """Iterate over entries. Nothing is verified but payloads against their commitments; `verify` does the rest.

    Args:
        database: where the log is.
        vault: what opens payloads; without it they stay locked.
        start: the first index.
        stop: the index before which to end. The next page, newest first, is the one before the last entry's index.
        kinds: kinds of entries to keep; empty for all.
        newest_first: whether to go from the highest index down.
        limit: how many at most; None for all.

    Raises:
        AuditError: an entry cannot be read.
        StoreError: the database does not answer.
    """
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        with database.read() as connection:
            rows = page(connection, start=start, stop=stop, kinds=kinds, newest_first=newest_first, limit=size)
        yield from (_kept(row, vault) for row in rows)
        if not rows:
            return
        start, stop = (start, rows[-1].index) if newest_first else (rows[-1].index + 1, stop)
        left = None if left is None else left - len(rows)


def opening(row: EntryRow, leaf: Leaf, vault: Vault | None) -> tuple[PayloadState, Opening | None]:
    """Return what has become of a payload, and the payload where it can be opened."""
    if leaf.commitment is None:
        return "none", None
    locked = row.locked
    if locked is None:
        return "erased", None
    if vault is None:
        return "locked", None
    try:
        return "kept", unseal(leaf.commitment, locked, vault)
    except AuditError:
        return "damaged", None


def _kept(row: EntryRow, vault: Vault | None) -> Kept:
    leaf = Leaf.parse(row.leaf)
    state, opened = opening(row, leaf, vault)
    return Kept(
        index=row.index,
        time=leaf.time,
        kind=leaf.kind,
        actor=leaf.actor,
        facts=leaf.facts,
        payload=opened.payload if opened else None,
        state=state,
        subject=row.subject or "",
    )
