"""What somebody with the database's password can do to a log."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select, update

from safetylayers.oversee.audit import LogKeys
from safetylayers.oversee.audit.checkpoint import Checkpoint
from safetylayers.oversee.audit.merkle import Frontier, leaf_hash
from safetylayers.oversee.audit.tables import checkpoints, log_entries, log_head, log_keys, log_payloads
from safetylayers.oversee.store.database import Database

SEALED = (log_payloads, log_keys)


def change(connection: Connection, index: int, column: str, value: object) -> None:
    """Write into one entry's row."""
    connection.execute(update(log_entries).where(log_entries.c.index == index).values({column: value}))


def leaf(connection: Connection, index: int) -> bytes:
    """Read one leaf."""
    found: bytes = connection.execute(select(log_entries.c.leaf).where(log_entries.c.index == index)).scalar_one()
    return found


def cut(connection: Connection, size: int) -> None:
    """Delete all entries from an index on, with all that belongs to them."""
    for table in (log_entries, *SEALED):
        connection.execute(delete(table).where(table.c.index >= size))


def put_head_back(connection: Connection, size: int) -> None:
    """Make the log end at an earlier checkpoint, as if it had never grown."""
    note = connection.execute(select(checkpoints.c.note).where(checkpoints.c.size == size)).scalar_one()
    tree = tree_of(connection)
    connection.execute(update(log_head).values(size=size, frontier=tree.to_bytes(), checkpoint=note))
    connection.execute(delete(checkpoints).where(checkpoints.c.size > size))


def tree_of(connection: Connection, size: int | None = None) -> Frontier:
    """The tree of the leaves that are in the database."""
    tree = Frontier()
    for data in connection.execute(select(log_entries.c.leaf).order_by(log_entries.c.index).limit(size)).scalars():
        tree.append(leaf_hash(data))
    return tree


def sign_all_again(connection: Connection, keys: LogKeys, origin: str) -> None:
    """Make head and checkpoints fit whatever the rows say, signed with these keys."""
    for size in connection.execute(select(checkpoints.c.size)).scalars().all():
        note = Checkpoint(origin, size, tree_of(connection, size).root()).signed(keys.signing)
        connection.execute(update(checkpoints).where(checkpoints.c.size == size).values(note=note))
    tree = tree_of(connection)
    note = Checkpoint(origin, tree.size, tree.root()).signed(keys.signing)
    connection.execute(update(log_head).values(size=tree.size, frontier=tree.to_bytes(), checkpoint=note))


def rewrite(database: Database, index: int) -> None:
    """Change what an entry says, and its hash with it."""
    with database.write() as connection:
        forged = leaf(connection, index).replace(b'"n":', b'"n":1')
        change(connection, index, "leaf", forged)
        change(connection, index, "leaf_hash", leaf_hash(forged))
