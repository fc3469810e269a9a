"""The audit log: append-only, signed, and encrypted where it holds what people wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from safetylayers.oversee.audit.checkpoint import Verifier
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.audit.group_commit import GroupCommit
from safetylayers.oversee.audit.keys import LogKeys
from safetylayers.oversee.audit.reading import Kept, read
from safetylayers.oversee.audit.removal import erase, expire
from safetylayers.oversee.audit.sealing import Sealed, seal
from safetylayers.oversee.audit.sequencer import Sequencer
from safetylayers.oversee.audit.witness import Witness
from safetylayers.oversee.store.database import Database, after_commit


class AuditLog:
    """A log in a database. Several may write to one database at once, with the same keys and origin."""

    def __init__(self, database: Database, keys: LogKeys, *, origin: str, witness: Path | None = None) -> None:
        """Take a database with the log's tables.

        Args:
            database: where the log is.
            keys: what it signs and encrypts with.
            origin: the log's name for outside tools, such as example.org/log; it stays the same for ever.
            witness: a file that gets every checkpoint after its commit.

        Raises:
            AuditError: the origin cannot be a name.
        """
        self.database = database
        self.origin = origin
        self._keys = keys
        self._sequencer = Sequencer(keys, origin)
        self._witness = Witness(witness) if witness else None
        self._group = GroupCommit(self._commit)

    @property
    def verifier(self) -> Verifier:
        """The log's public key, for auditors."""
        return self._keys.verifier(self.origin)

    @property
    def witness_error(self) -> str | None:
        """Why the last checkpoint is not in the witness file; None where it is, or where there is no such file."""
        return self._witness.error if self._witness else None

    async def append(self, entry: Entry) -> int:
        """Return the entry's index once it is on disk. Whoever stops waiting does not unwrite it.

        Raises:
            AuditError: the entry or the log's head makes no sense, or the log is closed.
            StoreError: the database cannot keep it. It may have kept it where the connection broke at the commit.
        """
        return await self._group.append(seal(entry, self._keys.vault))

    def append_in(self, connection: Connection, entries: Sequence[Entry]) -> list[int]:
        """Append within a `Database.write` block, so that a change and its entries are kept together or not at all.

        Make it the block's last step: from here on, all other writers of the log wait for the block's end.

        Raises:
            AuditError: an entry or the log's head makes no sense.
        """
        return self._add(connection, [seal(entry, self._keys.vault) for entry in entries])

    def read(
        self,
        *,
        start: int = 0,
        stop: int | None = None,
        kinds: Sequence[str] = (),
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[Kept]:
        """Iterate over entries with their payloads decrypted; see `reading.read`."""
        return read(
            self.database,
            vault=self._keys.vault,
            start=start,
            stop=stop,
            kinds=kinds,
            newest_first=newest_first,
            limit=limit,
        )

    def erase(self, subject: str, actor: str) -> int:
        """Make all payloads of a subject unreadable for ever; see `removal.erase`."""
        return erase(self.database, self.append_in, subject, actor)

    def expire(self, before: datetime, actor: str, *, pieces: int | None = None) -> int:
        """Delete payloads that are older than a time; see `removal.expire`."""
        return expire(self.database, self.append_in, before, actor, pieces=pieces)

    def close(self) -> None:
        """Commit what waits and take no more appends."""
        self._group.close()

    def _commit(self, entries: Sequence[Sealed]) -> list[int]:
        with self.database.write() as connection:
            return self._add(connection, entries)

    def _add(self, connection: Connection, entries: Sequence[Sealed]) -> list[int]:
        if not entries:
            return []
        indices, note = self._sequencer.add(connection, entries)
        if self._witness:
            witness = self._witness
            after_commit(connection, lambda: witness.add(note))
        return indices
