"""Logging in, and the sessions that follow.

A session's token has 256 random bits; the database holds its SHA-256 alone, so that whoever reads the database can act
as nobody. The lengths of sessions follow NIST SP 800-63B, section 7.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, or_, select

from safetylayers.errors import AccessError
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.identity.passwords import Passwords
from safetylayers.oversee.identity.people import is_name, normal_name
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.roles import Role
from safetylayers.oversee.identity.tables import people, sessions
from safetylayers.oversee.identity.throttle import Throttle
from safetylayers.oversee.identity.times import Clock, utc_now
from safetylayers.oversee.store.database import Database

COARSE = timedelta(minutes=1)
"""How exactly is kept when a session was last seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A new session. Its token is nowhere else."""

    token: str
    """For a cookie that scripts cannot read."""
    csrf: str
    """For the page; every request that changes something has to carry it."""
    principal: Principal
    expires: datetime


class Sessions:
    """Logs people in and out, and tells who a token is."""

    def __init__(
        self,
        database: Database,
        log: AuditLog,
        *,
        clock: Clock = utc_now,
        passwords: Passwords | None = None,
        throttle: Throttle | None = None,
        idle: timedelta = timedelta(minutes=30),
        longest: timedelta = timedelta(hours=12),
    ) -> None:
        """Work on a database.

        Args:
            database: where sessions are kept.
            log: the audit log.
            clock: the time.
            passwords: how passwords are verified.
            throttle: how often anybody may try.
            idle: how long an unused session lasts.
            longest: how long any session lasts.
        """
        self._database, self._log, self._clock = database, log, clock
        self._passwords = passwords or Passwords()
        self._throttle = throttle or Throttle(database, clock=clock)
        self._idle, self._longest = idle, longest

    def log_in(self, name: str, password: str, *, address: str) -> Login:
        """Begin a session.

        Args:
            name: as typed.
            password: as typed.
            address: where the attempt comes from; attempts are counted by it as well.

        Raises:
            LockedOutError: too many attempts failed.
            AccessError: name or password is wrong, or the person is locked out; the error does not say which.
        """
        self._throttle.admit(name, address)
        row = self._find(name)
        right = self._passwords.verify(row.password if row else None, password)
        if row is None or not right or row.disabled:
            self._note_failure(row)
            raise _wrong()
        self._throttle.succeeded(name, address)
        return self._begin(row, self._passwords.renewed(row.password, password))

    def authenticate(self, token: str) -> Principal:
        """Return who a token is, with the roles that the person has now.

        Raises:
            AccessError: there is no such session, or it is over.
        """
        now = self._clock()
        query = select(sessions, people.c.name, people.c.roles).join(people)
        with self._database.read() as connection:
            row = connection.execute(query.where(sessions.c.token == _sha256(token), ~people.c.disabled)).first()
        if row is None or now >= row.expires or now >= row.seen + self._idle:
            raise AccessError("The session is over.", mend="Log in again.")
        if now - row.seen >= COARSE:
            with self._database.write() as connection:
                connection.execute(sessions.update().where(sessions.c.token == row.token).values(seen=now))
        return _principal(row, row.token, row.person, row.expires)

    def csrf(self, token: str) -> str:
        """Return the token that pages of this session carry. It proves the session without giving it away."""
        return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()

    def check_csrf(self, token: str, csrf: str) -> None:
        """Raise AccessError unless a request that changes something comes from one of this session's pages."""
        if not hmac.compare_digest(self.csrf(token).encode(), csrf.encode(errors="replace")):
            raise AccessError("The request does not come from this session's page.", mend="Load the page again.")

    def log_out(self, token: str) -> None:
        """End a session; without one, do nothing."""
        with self._database.write() as connection:
            ended = connection.execute(
                sessions.delete().where(sessions.c.token == _sha256(token)).returning(sessions.c.person)
            ).first()
            if ended is not None:
                facts = {"session": _public_id(_sha256(token))}
                self._log.append_in(connection, [Entry(kind="logged-out", actor=ended.person, facts=facts)])

    def _find(self, name: str) -> Row[Any] | None:
        if not is_name(name := normal_name(name)):
            return None
        with self._database.read() as connection:
            return connection.execute(select(people).where(people.c.name == name)).first()

    def _begin(self, row: Row[Any], password: str) -> Login:
        now, token = self._clock(), secrets.token_urlsafe(32)
        expires, stored = now + self._longest, _sha256(token)
        over = or_(sessions.c.expires <= now, sessions.c.seen <= now - self._idle)
        with self._database.write() as connection:
            unchanged = (people.c.id == row.id) & (people.c.password == row.password) & ~people.c.disabled
            if connection.execute(people.update().where(unchanged).values(password=password)).rowcount != 1:
                raise _wrong()  # changed or locked out while the password was verified
            connection.execute(sessions.delete().where(over))
            connection.execute(
                sessions.insert().values(token=stored, person=row.id, created=now, seen=now, expires=expires)
            )
            facts = {"session": _public_id(stored)}
            self._log.append_in(connection, [Entry(kind="logged-in", actor=row.id, facts=facts)])
        principal = _principal(row, stored, row.id, expires)
        return Login(token=token, csrf=self.csrf(token), principal=principal, expires=expires)

    def _note_failure(self, row: Row[Any] | None) -> None:
        """Log a failed attempt, without the name as typed: people type passwords into the wrong field."""
        with self._database.write() as connection:
            person = row.id if row is not None else None
            facts = {"person": person, "disabled": bool(row.disabled) if row is not None else None}
            self._log.append_in(connection, [Entry(kind="login-failed", actor="unknown", facts=facts)])


def _wrong() -> AccessError:
    return AccessError("Name or password is wrong.", mend="Type them again, or ask an administrator.")


def _principal(row: Row[Any], token: str, person: str, expires: datetime) -> Principal:
    roles = frozenset(map(Role, row.roles))
    return Principal(id=_public_id(token), person=person, name=row.name, roles=roles, expires=expires)


def _public_id(stored: str) -> str:
    """Return a session's name for the log."""
    return f"session-{stored[:16]}"


def _sha256(token: str) -> str:
    """A fast hash is right here: nobody can try out 256 random bits."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
