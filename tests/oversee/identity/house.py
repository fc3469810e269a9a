"""What tests of people's work share: a clock that can be set, a log, and people who are quickly made."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from argon2 import PasswordHasher

from safetylayers.oversee.audit.keys import LogKeys
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.audit.reading import Kept
from safetylayers.oversee.identity.passwords import Passwords
from safetylayers.oversee.identity.people import People, Person
from safetylayers.oversee.identity.principal import MACHINE, Principal
from safetylayers.oversee.store.database import Database

PASSWORD = "four unrelated short words"
WEAK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Quick; what it protects is nobody's."""


@dataclass
class SetClock:
    """A clock that stands until it is moved."""

    time: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **span: float) -> None:
        self.time += timedelta(**span)


@dataclass
class House:
    """A database, its log, and the people in it."""

    database: Database
    log: AuditLog
    clock: SetClock = field(default_factory=SetClock)
    passwords: Passwords = field(default_factory=lambda: Passwords(WEAK))

    @classmethod
    def at(cls, database: Database, folder: Path) -> House:
        return cls(database, AuditLog(database, LogKeys.open(folder / "keys"), origin="example.org/test"))

    @property
    def people(self) -> People:
        return People(self.database, self.log, clock=self.clock, passwords=self.passwords)

    def person(self, name: str, *roles: str) -> Person:
        return self.people.create(name, PASSWORD, roles, by=MACHINE)

    def principal(self, name: str, *roles: str) -> Principal:
        """Somebody who is logged in."""
        return acting(self.person(name, *roles))

    def logged(self, kind: str) -> list[Kept]:
        return list(self.log.read(kinds=[kind]))


def acting(person: Person, session: str = "session-1") -> Principal:
    return Principal(id=session, person=person.id, name=person.name, roles=person.roles)
