"""Old checkpoints in the database become fewer: a later one vouches for all that an earlier one did, only less finely.

Without this there would be one for each commit, for ever. Checkpoints that were kept elsewhere are not touched.
"""

from __future__ import annotations

from itertools import pairwise
from time import sleep

from sqlalchemy import Connection, delete, select

from safetylayers.oversee.audit.removal import PAUSE_S
from safetylayers.oversee.audit.tables import checkpoints, log_head
from safetylayers.oversee.store.database import Database

FINE = 100_000
"""The newest entries, whose checkpoints all stay."""
STEP = 1000
"""Older entries: one checkpoint for so many stays, if there are as many."""
PIECE = 1000
"""Rows that are looked at in one transaction."""


def thin(database: Database, *, pieces: int | None = None) -> int:
    """Delete old checkpoints that later ones make up for.

    Args:
        database: where the log is.
        pieces: how many transactions that delete at most; None for as many as it takes.

    Returns:
        How many are gone. Where `pieces` is given, all are once it returns 0.

    Raises:
        StoreError: the database refuses; what was deleted up to then is gone.
    """
    start, total, done = 0, 0, 0
    while pieces is None or done < pieces:
        with database.read() as connection:
            sizes = _old(connection, start)
        gone = [size for size, later in pairwise(sizes) if size // STEP == later // STEP]
        if gone:
            with database.write() as connection:
                total += connection.execute(delete(checkpoints).where(checkpoints.c.size.in_(gone))).rowcount
            done += 1
            sleep(PAUSE_S)
        if len(sizes) < PIECE:
            break
        start = sizes[-1]
    return total


def _old(connection: Connection, start: int) -> list[int]:
    """Return the sizes of old checkpoints from one on."""
    size, end = checkpoints.c.size, select(log_head.c.size - FINE).scalar_subquery()
    return list(
        connection.execute(select(size).where(size >= start, size <= end).order_by(size).limit(PIECE)).scalars()
    )
