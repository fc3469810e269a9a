"""The log as JSON lines, from which outside tools can compute the tree and compare it with the signed checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import select

from safetylayers.oversee.audit.checkpoint import Verifier
from safetylayers.oversee.audit.entry import Leaf
from safetylayers.oversee.audit.reading import opening
from safetylayers.oversee.audit.rows import EntryRow, page
from safetylayers.oversee.audit.tables import log_head
from safetylayers.oversee.audit.vault import Vault
from safetylayers.oversee.store.database import Database


def export(database: Database, verifier: Verifier, *, vault: Vault | None = None) -> Iterator[str]:
    """Iterate over the log's lines, each ending in a newline.

    The first is `{"checkpoint": NOTE, "verifier": KEY}`. One for each entry under that checkpoint follows:
    `{"index": N, "leaf": TEXT, "hash": HEX}`, where the hash is SHA-256 of a zero byte and the text. With a vault,
    entries whose payload is kept have `"salt": HEX, "payload": TEXT` as well; the leaf's commitment is SHA-256 of both.

    Args:
        database: where the log is.
        verifier: the log's public key.
        vault: what opens payloads; without it they are left out.

    Raises:
        AuditError: an entry cannot be read.
        StoreError: the database does not answer.
    """
    with database.read() as connection:
        head = connection.execute(select(log_head.c.size, log_head.c.checkpoint)).one_or_none()
    size, note = head or (0, "")
    yield _line({"checkpoint": note, "verifier": str(verifier)})
    start = 0
    while rows := _page(database, start, size):
        yield from (_line(_fields(row, vault)) for row in rows)
        start = rows[-1].index + 1


def _page(database: Database, start: int, stop: int) -> Sequence[EntryRow]:
    with database.read() as connection:
        return page(connection, start=start, stop=stop)


def _fields(row: EntryRow, vault: Vault | None) -> dict[str, object]:
    fields: dict[str, object] = {"index": row.index, "leaf": row.text, "hash": row.leaf_hash.hex()}
    opened = opening(row, Leaf.parse(row.leaf), vault)[1] if vault else None
    if opened:
        fields |= {"salt": opened.salt.hex(), "payload": opened.text.decode("ascii")}
    return fields


def _line(fields: dict[str, object]) -> str:
    return json.dumps(fields, separators=(",", ":")) + "\n"
