"""An operator's word against a decision of the gateway's, for one request or one conversation, for a while."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, select

from safetylayers.errors import AccessError
from safetylayers.oversee.audit.entry import JSON, Entry
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.proposals import checked_reason
from safetylayers.oversee.identity.roles import Right
from safetylayers.oversee.identity.times import Clock, utc_now
from safetylayers.oversee.review.tables import overrides as table
from safetylayers.oversee.store.database import Database


class Verdict(StrEnum):
    """What holds whatever is found."""

    ALLOW = "allow"
    BLOCK = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A reversed decision."""

    id: str
    verdict: Verdict
    request: str | None
    conversation: str | None
    asked_by: str
    """Id of the person whose request or conversation it is."""
    reason: str
    by: str
    """Id of the person who said so."""
    created: datetime
    expires: datetime


class Overrides:
    """Keeps overrides, and finds those that hold without asking the database each time."""

    def __init__(self, database: Database, log: AuditLog, *, clock: Clock = utc_now, cached_s: float = 1.0) -> None:
        """Work on a database; another replica's overrides are seen `cached_s` later at most."""
        self._database, self._log, self._clock, self._cached_s = database, log, clock, cached_s
        self._read = float("-inf")
        self._active: list[Override] = []

    def add(
        self,
        verdict: Verdict,
        *,
        request: str | None = None,
        conversation: str | None = None,
        asked_by: str,
        by: Principal,
        reason: str,
        life: timedelta = timedelta(hours=1),
    ) -> Override:
        """Reverse a decision.

        Args:
            verdict: what holds instead.
            request: for this request; or
            conversation: for this conversation. Callers choose its name, so it is theirs alone who asked in it.
            asked_by: id of the person who asked.
            by: an operator, and another person.
            reason: for the log.
            life: for how long.

        Raises:
            AccessError: no right to, one's own request, or no reason, length, or place is given.
        """
        by.require(Right.OVERRIDE)
        if by.person == asked_by:
            raise AccessError("Nobody overrides for their own request.", mend="Ask another operator.")
        if (request is None) == (conversation is None):
            raise AccessError("An override is for one request or one conversation.", mend="Name one of the two.")
        place = request or conversation or ""
        if not (1 <= len(place) <= 200 and place.isprintable()):
            raise AccessError("This is no id of a request or conversation.", mend="Copy it from the list of requests.")
        if life <= timedelta(0):
            raise AccessError("An override holds for some time.", mend="Give a length above zero.")
        now = self._clock()
        values = {
            "id": uuid4().hex,
            "verdict": verdict,
            "request": request,
            "conversation": conversation,
            "asked_by": asked_by,
            "reason": checked_reason(reason),
            "by": by.person,
            "created": now,
            "expires": now + life,
        }
        with self._database.write() as connection:
            added = _override(connection.execute(table.insert().values(values).returning(table)).one())
            self._log.append_in(connection, [_entry("override-set", added, by)])
        self._read = float("-inf")
        return added

    def lift(self, override: str, *, by: Principal) -> None:
        """End an override before its time; without one, do nothing. Raises AccessError."""
        by.require(Right.OVERRIDE)
        holds = (table.c.id == override) & (table.c.expires > self._clock())
        with self._database.write() as connection:
            row = connection.execute(table.update().where(holds).values(expires=self._clock()).returning(table)).first()
            if row is not None:
                self._log.append_in(connection, [_entry("override-lifted", _override(row), by)])
        self._read = float("-inf")

    def find(self, *, request: str, conversation: str | None, asked_by: str) -> Override | None:
        """Return what holds for a request; of several, one that blocks. Raises StoreError."""
        now = self._clock()
        found = [
            override
            for override in self.active()
            if override.asked_by == asked_by
            and (override.request == request or (conversation is not None and override.conversation == conversation))
            and override.expires > now
        ]
        return min(found, key=lambda override: override.verdict is Verdict.ALLOW, default=None)

    def use(self, override: Override) -> bool:
        """Use up an override that is for one request; return whether it still held. Others may be used again.

        Raises:
            StoreError: that cannot be kept.
        """
        if override.request is None:
            return True
        holds = (table.c.id == override.id) & (table.c.expires > self._clock())
        with self._database.write() as connection:
            row = connection.execute(table.update().where(holds).values(expires=self._clock()).returning(table)).first()
            if row is not None:
                facts: dict[str, JSON] = {"override": override.id, "request": override.request}
                self._log.append_in(connection, [Entry(kind="override-used", actor="gateway", facts=facts)])
        self._read = float("-inf")
        return row is not None

    @property
    def is_fresh(self) -> bool:
        """Whether `find` answers from memory."""
        return time.monotonic() - self._read < self._cached_s

    def active(self) -> list[Override]:
        """Return all that hold, the newest first, as of a moment ago."""
        began = time.monotonic()
        if began - self._read >= self._cached_s:
            query = select(table).where(table.c.expires > self._clock()).order_by(table.c.created.desc())
            with self._database.read() as connection:
                self._active = [_override(row) for row in connection.execute(query)]
            self._read = began
        return self._active


def _entry(kind: str, override: Override, by: Principal) -> Entry:
    facts: dict[str, JSON] = {
        "override": override.id,
        "verdict": override.verdict,
        "request": override.request,
        "asked_by": override.asked_by,
        "expires": override.expires.isoformat(),
    }
    payload = {"reason": override.reason, "conversation": override.conversation}
    return Entry(kind=kind, actor=by.actor, facts=facts, payload=payload, subject=override.asked_by)


def _override(row: Row[Any]) -> Override:
    return Override(
        id=row.id,
        verdict=Verdict(row.verdict),
        request=row.request,
        conversation=row.conversation,
        asked_by=row.asked_by,
        reason=row.reason,
        by=row.by,
        created=row.created,
        expires=row.expires,
    )
