"""The people who work here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import IntegrityError

from safetylayers.errors import AccessError
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.identity.passwords import Passwords
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.roles import Right, Role, checked_roles
from safetylayers.oversee.identity.tables import people, sessions
from safetylayers.oversee.identity.times import Clock, utc_now
from safetylayers.oversee.store.database import Database

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who may log in."""

    id: str
    name: str
    roles: frozenset[Role]
    disabled: bool
    created: datetime


class People:
    """Makes and changes people. Every change is logged in the transaction that makes it."""

    def __init__(
        self, database: Database, log: AuditLog, *, clock: Clock = utc_now, passwords: Passwords | None = None
    ) -> None:
        """Work on a database."""
        self._database, self._log, self._clock = database, log, clock
        self._passwords = passwords or Passwords()

    def create(self, name: str, password: str, roles: Iterable[str], *, by: Principal) -> Person:
        """Add a person.

        Raises:
            AccessError: no right to, the name is taken or odd, or the password or roles are refused.
        """
        by.require(Right.MANAGE_PEOPLE)
        if not is_name(name := normal_name(name)):
            raise AccessError(
                "This is no name for a person here.", mend="Use up to 64 letters a-z, digits and . _ @ + - in between."
            )
        person = Person(id=uuid4().hex, name=name, roles=checked_roles(roles), disabled=False, created=self._clock())
        row = {**_columns(person), "password": self._passwords.hash(password, name=name)}
        with self._database.write() as connection:
            try:
                connection.execute(people.insert().values(row))
            except IntegrityError as error:
                raise AccessError(f"{name}: somebody has this name already.", mend="Choose another one.") from error
            self._note(connection, "person-created", person.id, by, {"roles": row["roles"]}, {"name": name})
        return person

    def set_roles(self, person: str, roles: Iterable[str], *, by: Principal) -> Person:
        """Give a person other roles; sessions follow at once, keys within 5 seconds. Nobody changes their own.

        Raises:
            AccessError: no right to, oneself, nobody has this id, or the roles are refused.
        """
        checked = checked_roles(roles)
        return self._change(person, {"roles": sorted(checked)}, "person-roles-set", by)

    def disable(self, person: str, *, by: Principal) -> Person:
        """Lock a person out: sessions end, keys stop working. Nobody locks out themselves. Raises AccessError."""
        return self._change(person, {"disabled": True}, "person-disabled", by)

    def enable(self, person: str, *, by: Principal) -> Person:
        """Let a person in again. Raises AccessError."""
        return self._change(person, {"disabled": False}, "person-enabled", by)

    def change_password(self, new: str, *, old: str, by: Principal) -> None:
        """Change one's own password; all of one's sessions end.

        Raises:
            AccessError: the old password is wrong, or the new one is refused.
        """
        with self._database.read() as connection:
            row = _row(connection, by.person)
        if not self._passwords.verify(row.password, old):
            raise AccessError("The old password is wrong.", mend="Type it again.")
        self._store_password(row, new, "password-changed", by)

    def reset_password(self, person: str, new: str, *, by: Principal) -> None:
        """Give another person a new password; all of that person's sessions end.

        Raises:
            AccessError: no right to, nobody has this id, or the password is refused.
        """
        by.require(Right.MANAGE_PEOPLE)
        with self._database.read() as connection:
            row = _row(connection, person)
        self._store_password(row, new, "password-reset", by)

    def get(self, person: str) -> Person:
        """Return a person. Raises AccessError where nobody has this id."""
        with self._database.read() as connection:
            return _person(_row(connection, person))

    def everybody(self) -> list[Person]:
        """Return all people by name."""
        with self._database.read() as connection:
            return [_person(row) for row in connection.execute(select(people).order_by(people.c.name))]

    def _change(self, person: str, values: dict[str, Any], kind: str, by: Principal) -> Person:
        by.require(Right.MANAGE_PEOPLE)
        if person == by.person:
            raise AccessError("Nobody changes their own roles or access.", mend="Ask another administrator.")
        with self._database.write() as connection:
            _row(connection, person)
            connection.execute(people.update().where(people.c.id == person).values(values))
            if values.get("disabled"):
                end_sessions(connection, person)
            self._note(connection, kind, person, by, values)
            return _person(_row(connection, person))

    def _store_password(self, row: Row[Any], new: str, kind: str, by: Principal) -> None:
        hashed = self._passwords.hash(new, name=row.name)
        with self._database.write() as connection:
            connection.execute(people.update().where(people.c.id == row.id).values(password=hashed))
            end_sessions(connection, row.id)
            self._note(connection, kind, row.id, by, {})

    def _note(
        self,
        connection: Connection,
        kind: str,
        person: str,
        by: Principal,
        facts: dict[str, Any],
        payload: dict[str, Any] | None = None,
    ) -> None:
        facts = {"person": person, **facts}
        entry = Entry(kind=kind, actor=by.actor, facts=facts, payload=payload, subject=person)
        self._log.append_in(connection, [entry])


def end_sessions(connection: Connection, person: str) -> None:
    """End all of a person's sessions."""
    connection.execute(sessions.delete().where(sessions.c.person == person))


def active_person(connection: Connection, person: str) -> Person | None:
    """Return a person who exists and is not locked out."""
    row = connection.execute(select(people).where(people.c.id == person, ~people.c.disabled)).first()
    return None if row is None else _person(row)


def _row(connection: Connection, person: str) -> Row[Any]:
    row = connection.execute(select(people).where(people.c.id == person)).first()
    if row is None:
        raise AccessError("Nobody has this id.", mend="See the list of people.")
    return row


def _person(row: Row[Any]) -> Person:
    return Person(
        id=row.id, name=row.name, roles=frozenset(map(Role, row.roles)), disabled=row.disabled, created=row.created
    )


def _columns(person: Person) -> dict[str, Any]:
    return {
        "id": person.id,
        "name": person.name,
        "roles": sorted(person.roles),
        "disabled": person.disabled,
        "created": person.created,
    }


def normal_name(name: str) -> str:
    """Return a name as it is stored."""
    return name.strip().casefold()


def is_name(name: str) -> bool:
    """Return whether a person may have this name."""
    return _NAME.fullmatch(name) is not None
