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

from safetylayers.errors import OutputError, StoreError
from safetylayers.oversee.audit.keys import LogKeys
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.identity.keys import Keys
from safetylayers.oversee.identity.people import People
from safetylayers.oversee.identity.principal import MACHINE
from safetylayers.oversee.identity.proposals import Proposals
from safetylayers.oversee.identity.roles import Role
from safetylayers.oversee.identity.sessions import Sessions
from safetylayers.oversee.policy.shelf import PolicyShelf
from safetylayers.oversee.store.database import Database
from safetylayers.oversee.store.schema import upgrade

FOLDER = Path("safetylayers-data")
CALLERS = "local-callers"


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
        database = Database(store or f"sqlite:///{folder / 'store.db'}")
        upgrade(database)
        log_keys = LogKeys.open(folder / "keys")
        # The name stays as long as the key does, and says nothing of where the log is kept.
        origin = f"safetylayers/{log_keys.verifier('safetylayers').key_id.hex()}"
        log = AuditLog(database, log_keys, origin=origin, witness=folder / "witness.txt")
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

    @classmethod
    def existing(cls, folder: Path, *, store: str | None = None) -> Self:
        """Open a deployment that is there already. Raises StoreError where there is none."""
        if store is None and not (folder / "store.db").exists():
            raise StoreError(
                f"{folder}: there is no gateway's folder here.",
                mend="Give its folder with --data, or start one: safetylayers serve MODEL.",
            )
        return cls.open(folder, store=store)

    def close(self) -> None:
        """Keep what waits to be logged, and let go of the database."""
        self.log.close()
        self.database.close()

    def first_key(self) -> Path | None:
        """Make a first key for programs where there is none at all; return the file that it was written to.

        A start that is cut short leaves a file behind by which the next one knows, and makes the key once more.
        """
        path, unfinished = self.folder / "caller.key", self.folder / ".caller.key"
        if self.keys.all() and not unfinished.exists():
            return None
        unfinished.touch(0o600)
        owner = next((person for person in self.people.everybody() if person.name == CALLERS), None)
        owner = owner or self.people.create(CALLERS, secrets.token_urlsafe(32), [Role.CALLER], by=MACHINE)
        made = self.keys.create("first key", owner=owner.id, by=MACHINE)
        unfinished.write_text(made.token + "\n")
        unfinished.replace(path)
        return path
