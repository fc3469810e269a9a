"""A deployment: its folder, its database, and the services over them. Commands and gateways open the same one.

DATA/store.db       the database, unless --store names another
DATA/keys/          the log's signing key and the vault's key; every replica needs the same
DATA/witness.txt    every signed checkpoint; keep a copy of it elsewhere, for that is what catches a log that was cut
DATA/caller.key     a first key for programs, made by the first gateway
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from filelock import FileLock
from sqlalchemy import select

from safetylayers.errors import AccessError, AuditError, OutputError, StoreError
from safetylayers.oversee.audit.keys import LogKeys
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.audit.tables import log_head
from safetylayers.oversee.identity.keys import Keys
from safetylayers.oversee.identity.people import People
from safetylayers.oversee.identity.principal import MACHINE
from safetylayers.oversee.identity.proposals import Proposals
from safetylayers.oversee.identity.roles import Role
from safetylayers.oversee.identity.sessions import Sessions
from safetylayers.oversee.policy.shelf import PolicyShelf
from safetylayers.oversee.store.database import Database
from safetylayers.oversee.store.schema import is_made, upgrade

FOLDER = Path("safetylayers-data")
CALLERS = "local-callers"
GIVE_DATA = "Give the folder that the gateway's keys/ is in with --data. To stop without it, use the console's button."


@dataclass(kw_only=True)
class Site:
    """An open deployment."""

    folder: Path
    database: Database
    secrets: LogKeys
    log: AuditLog
    people: People
    sessions: Sessions
    keys: Keys
    proposals: Proposals
    shelf: PolicyShelf

    @classmethod
    def open(cls, folder: Path, *, store: str | None = None) -> Self:
        """Open a deployment, and make or upgrade what is missing.

        Args:
            folder: DATA.
            store: address of another database than the one in the folder.

        Raises:
            StoreError: the database cannot be used, or is of a newer version.
            AuditError: the log's keys cannot be used.
            OutputError: the folder cannot be made.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made ({error.strerror}).", mend="Choose another --data.") from error
        database = Database(_address(folder, store))
        upgrade(database)
        return cls._of(folder, database, LogKeys.open(folder / "keys"))

    @classmethod
    def existing(cls, folder: Path, *, store: str | None = None) -> Self:
        """Open a deployment that is there already; neither its database nor its keys are made.

        Raises:
            StoreError: there is no database, or it cannot be used.
            AuditError: the log's keys are not there, cannot be used, or are another log's.
        """
        database = existing_database(folder, store=store)
        try:
            if not (folder / "keys").exists():
                raise AuditError(
                    f"{folder}: the keys that this database's log is signed with are not here.",
                    mend=GIVE_DATA,
                )
            log_keys = LogKeys.read(folder / "keys")
            _refuse_keys_of_others(database, log_keys)
            upgrade(database)
        except BaseException:
            database.close()
            raise
        return cls._of(folder, database, log_keys)

    @classmethod
    def _of(cls, folder: Path, database: Database, log_keys: LogKeys) -> Self:
        log = AuditLog(database, log_keys, origin=log_name(log_keys), witness=folder / "witness.txt")
        return cls(
            folder=folder,
            database=database,
            secrets=log_keys,
            log=log,
            people=People(database, log),
            sessions=Sessions(database, log),
            keys=Keys(database, log),
            proposals=Proposals(database, log),
            shelf=PolicyShelf(database, log),
        )

    def close(self) -> None:
        """Keep what waits to be logged, and let go of the database."""
        self.log.close()
        self.database.close()

    def first_key(self) -> Path | None:
        """Make a first key for programs where there is none at all; return the file that it was written to.

        A start that is cut short leaves a file behind by which the next one knows, and makes the key once more.
        """
        if self._has_keys():
            return None
        with FileLock(self.folder / ".first-key.lock"):  # replicas that share this folder may start together
            return None if self._has_keys() else self._first_key()

    def _has_keys(self) -> bool:
        return bool(self.keys.all()) and not (self.folder / ".caller.key").exists()

    def _first_key(self) -> Path | None:
        path, unfinished = self.folder / "caller.key", self.folder / ".caller.key"
        unfinished.touch(0o600)
        owner = next((person for person in self.people.everybody() if person.name == CALLERS), None)
        try:
            owner = owner or self.people.create(CALLERS, secrets.token_urlsafe(32), [Role.CALLER], by=MACHINE)
        except AccessError:  # a replica with a folder of its own starts at this very moment, and makes the key
            unfinished.unlink(missing_ok=True)
            return None
        made = self.keys.create("first key", owner=owner.id, by=MACHINE)
        unfinished.write_text(made.token + "\n")
        unfinished.replace(path)
        return path


def existing_database(folder: Path, *, store: str | None = None) -> Database:
    """Open a deployment's database, and make nothing: to verify the log, for example, nobody needs its keys.

    Raises:
        StoreError: there is none.
    """
    if store is None and not (folder / "store.db").exists():
        raise StoreError(
            f"{folder}: there is no gateway's folder here.",
            mend="Give its folder with --data, or start one: safetylayers serve MODEL.",
        )
    database = Database(_address(folder, store), make=False)
    try:
        if not is_made(database):
            raise StoreError("No gateway has used this database yet.", mend="Give the gateway's own with --store.")
    except BaseException:
        database.close()
        raise
    return database


def _refuse_keys_of_others(database: Database, log_keys: LogKeys) -> None:
    with database.read() as connection:
        note = connection.execute(select(log_head.c.checkpoint)).scalar_one_or_none()
    if note and not note.startswith(f"{log_name(log_keys)}\n"):
        raise AuditError("The keys in this folder are not those of this database's log.", mend=GIVE_DATA)


def log_name(log_keys: LogKeys) -> str:
    """Return a log's name: it stays as long as the key does, and says nothing of where the log is kept."""
    return f"safetylayers/{log_keys.verifier('safetylayers').key_id.hex()}"


def _address(folder: Path, store: str | None) -> str:
    return store or f"sqlite:///{folder / 'store.db'}"
