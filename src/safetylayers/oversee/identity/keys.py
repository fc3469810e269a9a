"""Keys for programs: `sl-<id>-<secret>`, shown once."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from safetylayers.errors import AccessError
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.identity.key import Key, NewKey, fits, key_of, parts_of, principal_of, sha256, token_of
from safetylayers.oversee.identity.key_cache import KeyCache
from safetylayers.oversee.identity.people import active_person
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.roles import Right, Role, checked_roles
from safetylayers.oversee.identity.tables import keys, people
from safetylayers.oversee.identity.times import Clock, utc_now
from safetylayers.oversee.store.database import Database

LIFE = timedelta(days=90)
GRACE = timedelta(hours=24)
"""How long a rotated key's old secret still works."""
COARSE = timedelta(hours=1)
"""How exactly is kept when a key was last used."""


class Keys:
    """Makes, rotates and revokes keys, and tells who a token is. Every change is logged in its own transaction."""

    def __init__(self, database: Database, log: AuditLog, *, clock: Clock = utc_now, cached_s: float = 5.0) -> None:
        """Work on a database.

        Args:
            database: where keys are kept.
            log: the audit log.
            clock: the time.
            cached_s: how long another replica may still accept a key that was revoked here.
        """
        self._database, self._log, self._clock = database, log, clock
        self._cache = KeyCache(cached_s)

    def create(
        self,
        name: str,
        *,
        owner: str,
        by: Principal,
        roles: Iterable[str] = (Role.CALLER,),
        models: Iterable[str] | None = None,
        requests_per_minute: int | None = None,
        life: timedelta = LIFE,
    ) -> NewKey:
        """Make a key.

        Args:
            name: for people.
            owner: id of the person who answers for it.
            by: who makes it.
            roles: what it may do; its owner has to have them.
            models: which models it may ask; None for all.
            requests_per_minute: its limit at each replica; None for none.
            life: how long it is valid.

        Raises:
            AccessError: no right to, the owner is locked out or lacks a role, or a limit makes no sense.
        """
        by.require(Right.MANAGE_KEYS)
        wanted = _checked(name, roles, requests_per_minute, life)
        now, secret = self._clock(), secrets.token_urlsafe(32)
        values = {
            "id": secrets.token_hex(8),
            "secret": sha256(secret),
            "name": name.strip(),
            "owner": owner,
            "roles": sorted(wanted),
            "models": None if models is None else sorted(models),
            "requests_per_minute": requests_per_minute,
            "created": now,
            "expires": now + life,
        }
        with self._database.write() as connection:
            _check_owner(connection, owner, wanted)
            row = connection.execute(keys.insert().values(values).returning(keys)).one()
            facts = {"owner": owner, "roles": values["roles"], "models": values["models"], "days": life.days}
            self._note(connection, "key-created", row.id, by, facts)
        return NewKey(key_of(row), token_of(row.id, secret))

    def rotate(self, key: str, *, by: Principal, grace: timedelta = GRACE, life: timedelta = LIFE) -> NewKey:
        """Give a key a new secret and a new life; the old secret works on for a while. Owners may rotate their own.

        Raises:
            AccessError: no right to, there is no such key, or it is revoked.
        """
        now, secret = self._clock(), secrets.token_urlsafe(32)
        with self._database.write() as connection:
            old = _owned(connection, key, by)
            if old.revoked is not None:
                raise AccessError("The key is revoked.", mend="Make a new one.")
            values = {
                "secret": sha256(secret),
                "old_secret": old.secret,
                "old_until": min(now + grace, old.expires),
                "expires": now + life,
            }
            row = connection.execute(keys.update().where(keys.c.id == key).values(values).returning(keys)).one()
            self._note(connection, "key-rotated", key, by, {"grace_s": int(grace.total_seconds()), "days": life.days})
        self._cache.forget(key)
        return NewKey(key_of(row), token_of(key, secret))

    def revoke(self, key: str, *, by: Principal) -> None:
        """End a key, its old secret too. Owners may revoke their own.

        Raises:
            AccessError: no right to, or there is no such key.
        """
        with self._database.write() as connection:
            if _owned(connection, key, by).revoked is None:
                connection.execute(keys.update().where(keys.c.id == key).values(revoked=self._clock()))
                self._note(connection, "key-revoked", key, by, {})
        self._cache.forget(key)

    def all(self, *, owner: str | None = None) -> list[Key]:
        """Return all keys, or one person's, the newest first."""
        query = select(keys).order_by(keys.c.created.desc())
        with self._database.read() as connection:
            return [
                key_of(row)
                for row in connection.execute(query if owner is None else query.where(keys.c.owner == owner))
            ]

    def knows(self, token: str) -> bool:
        """Return whether `authenticate` answers without the database, so that nobody has to wait for it."""
        held = self._cache.peek(token.split("-")[1]) if token.count("-") >= 2 else None
        return held is not None and not (held.row is not None and _is_use_due(held.row, self._clock()))

    def authenticate(self, token: str) -> Principal:
        """Return who a token is, with the roles that key and owner have in common.

        Raises:
            AccessError: the key is unknown, expired or revoked, or its owner is locked out.
        """
        key, secret = parts_of(token)
        row, now = self._cache.get(key, self._look_up), self._clock()
        if row is None or not fits(row, sha256(secret), now):
            raise AccessError("The key is unknown.", mend="See that it is complete, or ask for a new one.")
        if row.revoked is not None or row.disabled:
            raise AccessError("The key is revoked.", mend="Ask for a new one.")
        if now >= row.expires:
            raise AccessError("The key has expired.", mend="Ask for it to be rotated.")
        if _is_use_due(row, now):
            self._note_use(key, now)
        return principal_of(row)

    def _look_up(self, key: str) -> Row[Any] | None:
        owner = (people.c.name.label("person_name"), people.c.roles.label("person_roles"), people.c.disabled)
        with self._database.read() as connection:
            return connection.execute(select(keys, *owner).join(people).where(keys.c.id == key)).first()

    def _note_use(self, key: str, now: datetime) -> None:
        with self._database.write() as connection:
            connection.execute(keys.update().where(keys.c.id == key).values(used=now))
        self._cache.forget(key)

    def _note(self, connection: Connection, kind: str, key: str, by: Principal, facts: dict[str, Any]) -> None:
        self._log.append_in(connection, [Entry(kind=kind, actor=by.actor, facts={"key": key, **facts})])


def _owned(connection: Connection, key: str, by: Principal) -> Row[Any]:
    """Return a key that this principal may change; to others it is as if it were not there."""
    row = connection.execute(select(keys).where(keys.c.id == key).with_for_update()).first()
    if row is None or (row.owner != by.person and not by.may(Right.MANAGE_KEYS)):
        raise AccessError("There is no such key, or it is another person's.", mend="See the list of keys.")
    return row


def _checked(name: str, roles: Iterable[str], requests_per_minute: int | None, life: timedelta) -> frozenset[Role]:
    if not (1 <= len(name.strip()) <= 64 and name.isprintable()):
        raise AccessError("A key's name has 1 to 64 printable characters.", mend="Name it after what uses it.")
    if requests_per_minute is not None and requests_per_minute < 1:
        raise AccessError("A limit is at least one request per minute.", mend="Leave it out for none.")
    if life <= timedelta(0):
        raise AccessError("A key is valid for some time.", mend="Give a length above zero.")
    return checked_roles(roles)


def _check_owner(connection: Connection, owner: str, wanted: frozenset[Role]) -> None:
    person = active_person(connection, owner)
    if person is None:
        raise AccessError("The owner does not exist or is locked out.", mend="Choose another owner.")
    if missing := wanted - person.roles:
        raise AccessError(
            f"The owner is no {', '.join(sorted(missing))}.", mend="Give the key roles that its owner has."
        )


def _is_use_due(row: Row[Any], now: datetime) -> bool:
    """Return whether it is time to write down once more that a key is used."""
    return row.used is None or now - row.used >= COARSE
