"""Keeping replies for people, and their decisions. Texts are sealed; each decision is logged as it is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from time import sleep
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from safetylayers.errors import AccessError, AuditError
from safetylayers.oversee.audit.entry import JSON, Entry
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.audit.removal import PAUSE_S, PIECE
from safetylayers.oversee.audit.vault import Vault
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.proposals import checked_reason
from safetylayers.oversee.identity.roles import Right
from safetylayers.oversee.identity.times import Clock, utc_now
from safetylayers.oversee.review.held import (
    DECISIONS,
    Held,
    Kind,
    Outcome,
    State,
    Texts,
    held_of,
    outcome_of,
    sealed_decision,
    sealed_texts,
    texts_of,
)
from safetylayers.oversee.review.tables import held as table
from safetylayers.oversee.store.database import Database


class HeldReplies:
    """Keeps replies for review."""

    def __init__(self, database: Database, log: AuditLog, vault: Vault, *, clock: Clock = utc_now) -> None:
        """Work on a database; the vault seals texts."""
        self._database, self._log, self._vault, self._clock = database, log, vault, clock

    def hold(
        self,
        texts: Texts,
        *,
        request: str,
        conversation: str | None,
        asker: Principal,
        findings: Sequence[Mapping[str, Any]],
        wait: timedelta,
    ) -> Held:
        """Keep a reply until a person has decided.

        Args:
            texts: what was asked and what would be replied.
            request: id of the request.
            conversation: id of the conversation.
            asker: who asked.
            findings: why it is held, without text.
            wait: how long it waits.

        Raises:
            StoreError, AuditError: it cannot be kept or logged.
        """
        return self._keep(Kind.HELD, texts, request, conversation, asker, findings, self._clock() + wait)

    def sample(
        self,
        texts: Texts,
        *,
        request: str,
        conversation: str | None,
        asker: Principal,
        findings: Sequence[Mapping[str, Any]],
    ) -> Held:
        """Keep a reply that has left, to be looked at some time. Arguments and errors are those of `hold`."""
        return self._keep(Kind.SAMPLE, texts, request, conversation, asker, findings, None)

    def waiting(self, kind: Kind = Kind.HELD, *, most: int | None = None) -> list[Held]:
        """Return what people have to look at, without texts, the oldest first, and at most so many."""
        query = select(table).where(*self._waits(kind)).order_by(table.c.created).limit(most)
        with self._database.read() as connection:
            return [held_of(row) for row in connection.execute(query)]

    def count_waiting(self, kind: Kind) -> int:
        """Return how many people have to look at."""
        query = select(func.count()).select_from(table).where(*self._waits(kind))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def find(self, held: str) -> Held | None:
        """Return a reply that waits; None where it does not."""
        query = select(table).where(table.c.id == held)
        with self._database.read() as connection:
            row = connection.execute(query.where(or_(*(and_(*self._waits(kind)) for kind in Kind)))).first()
        return None if row is None else held_of(row)

    def _waits(self, kind: Kind) -> list[ColumnElement[bool]]:
        found = [table.c.kind == kind, table.c.state == State.WAITING]
        return [*found, table.c.deadline > self._clock()] if kind is Kind.HELD else found

    def read(self, held: str, *, by: Principal) -> Texts:
        """Return the texts; that somebody reads them is logged.

        Raises:
            AccessError: no right to, or there is no such reply.
        """
        by.require(Right.REVIEW)
        with self._database.write() as connection:
            row = _row(connection, held)
            self._note(connection, "held-read", row, by.actor)
        return texts_of(row, self._vault)

    def decide(self, held: str, decision: State, *, by: Principal, reason: str = "", text: str | None = None) -> Held:
        """Release, edit or reject a held reply, or say whether a sample is ok. Of several who try at once, one decides.

        Args:
            held: its id.
            decision: one of `DECISIONS` for its kind.
            by: whoever decides; never who asked.
            reason: needed unless the reply is released or ok as it is.
            text: what goes out in the reply's place; for an edit alone.

        Raises:
            AccessError: no right to, one's own request, too late, decided already, or the decision is incomplete.
        """
        by.require(Right.REVIEW)
        _check_decision(decision, text)
        if decision not in {State.RELEASED, State.OK} or reason:
            reason = checked_reason(reason)
        with self._database.write() as connection:
            row = _row(connection, held)
            self._check_open(row, decision, by)
            sealed = sealed_decision(self._vault, held, decision, text, reason)
            decided = self._close(connection, row, decision, by.person, sealed)
            payload = {"reason": reason} if reason else None
            self._note(connection, f"held-{decision}", decided, by.actor, payload, subject=by.person)
        return held_of(decided)

    def abandon(self, held: str) -> None:
        """Close a reply that nobody waits for any more; one that is decided stays as it is."""
        with self._database.write() as connection:
            row = _row(connection, held)
            if row.state == State.WAITING:
                self._note(connection, "held-abandoned", self._close(connection, row, State.EXPIRED), "gateway")

    def expire_due(self) -> int:
        """Close what nobody decided in time, and return how many."""
        due = (table.c.kind == Kind.HELD) & (table.c.state == State.WAITING) & (table.c.deadline <= self._clock())
        with self._database.write() as connection:
            rows = connection.execute(table.update().where(due).values(self._decided(State.EXPIRED)).returning(table))
            entries = [_entry("held-expired", row, "clock") for row in rows]
            self._log.append_in(connection, entries)
        return len(entries)

    def outcomes(self, held: Iterable[str]) -> dict[str, Outcome | AuditError]:
        """Return what became of those that wait no more, by id. One that is past its deadline is closed by this.

        Where a decision does not open, its error is the outcome: it concerns that reply alone.
        """
        ids = list(held)
        with self._database.read() as connection:
            rows = connection.execute(select(table).where(table.c.id.in_(ids))).all()
        late = [row for row in rows if row.state == State.WAITING and row.deadline and row.deadline <= self._clock()]
        if late:
            self.expire_due()
            return self.outcomes(ids)
        return {row.id: self._outcome(row) for row in rows if row.state != State.WAITING}

    def _outcome(self, row: Row[Any]) -> Outcome | AuditError:
        try:
            return outcome_of(row, self._vault)
        except AuditError as error:
            return error

    def forget_of(self, subject: str) -> int:
        """Delete what was kept of a key's or person's requests, and what a person said of others'; return how many.

        Only what still waits for a person stays.
        """
        self.expire_due()
        theirs = (table.c.key == subject) | (table.c.asked_by == subject)
        count = self._forget(theirs, Entry(kind="held-erased", actor="machine"))
        said = table.update().where(table.c.decided_by == subject, table.c.sealed_decision.is_not(None))
        with self._database.write() as connection:
            decisions = connection.execute(said.values(sealed_decision=None)).rowcount
            if decisions:
                facts: dict[str, JSON] = {"count": decisions}
                self._log.append_in(connection, [Entry(kind="decisions-erased", actor="machine", facts=facts)])
        return count + decisions

    def forget_before(self, moment: datetime) -> int:
        """Delete replies that were kept before a moment and wait no more; return how many."""
        self.expire_due()
        facts: dict[str, JSON] = {"before": moment.isoformat()}
        return self._forget(table.c.created < moment, Entry(kind="held-forgotten", actor="clock", facts=facts))

    def _forget(self, which: ColumnElement[bool], entry: Entry) -> int:
        """Delete what waits no more, a piece at a time: a transaction holds up stops and heartbeats."""
        over = (table.c.state != State.WAITING) | (table.c.kind == Kind.SAMPLE)
        some = select(table.c.id).where(which, over).limit(PIECE)
        total = 0
        while True:
            with self._database.write() as connection:
                ids = connection.execute(some).scalars().all()
                if ids:
                    connection.execute(table.delete().where(table.c.id.in_(ids)))
                    facts = {**entry.facts, "count": len(ids)}
                    self._log.append_in(connection, [replace(entry, facts=facts)])
            total += len(ids)
            if len(ids) < PIECE:
                return total
            sleep(PAUSE_S)

    def _keep(
        self,
        kind: Kind,
        texts: Texts,
        request: str,
        conversation: str | None,
        asker: Principal,
        findings: Sequence[Mapping[str, Any]],
        deadline: datetime | None,
    ) -> Held:
        id_ = uuid4().hex
        values = {
            "id": id_,
            "kind": kind,
            "request": request,
            "conversation": conversation,
            "key": asker.id,
            "asked_by": asker.person,
            "created": self._clock(),
            "deadline": deadline,
            "state": State.WAITING,
            "findings": [dict(finding) for finding in findings],
            "sealed": sealed_texts(self._vault, id_, texts),
        }
        with self._database.write() as connection:
            row = connection.execute(table.insert().values(values).returning(table)).one()
            self._note(connection, "held" if kind is Kind.HELD else "sampled", row, "gateway")
        return held_of(row)

    def _check_open(self, row: Row[Any], decision: State, by: Principal) -> None:
        if decision not in DECISIONS[Kind(row.kind)]:
            raise AccessError(
                f"A {row.kind} reply cannot be {decision}.", mend=f"Say one of {', '.join(DECISIONS[Kind(row.kind)])}."
            )
        if row.asked_by == by.person:
            raise AccessError("Nobody reviews the reply to their own request.", mend="Ask another reviewer.")
        if row.state != State.WAITING:
            raise AccessError(f"The reply is {row.state} already.", mend="Look at the next one.")
        if row.deadline is not None and row.deadline <= self._clock():
            raise AccessError("The reply has waited too long and was rejected.", mend="Look at the next one.")

    def _decided(self, state: State, by: str | None = None, sealed: bytes | None = None) -> dict[str, Any]:
        return {"state": state, "decided_by": by, "decided": self._clock(), "sealed_decision": sealed}

    def _close(
        self, connection: Connection, row: Row[Any], state: State, by: str | None = None, sealed: bytes | None = None
    ) -> Row[Any]:
        changed = table.update().where(table.c.id == row.id).values(self._decided(state, by, sealed))
        return connection.execute(changed.returning(table)).one()

    def _note(
        self,
        connection: Connection,
        kind: str,
        row: Row[Any],
        actor: str,
        payload: dict[str, Any] | None = None,
        subject: str = "",
    ) -> None:
        self._log.append_in(connection, [_entry(kind, row, actor, payload, subject)])


def _entry(kind: str, row: Row[Any], actor: str, payload: dict[str, Any] | None = None, subject: str = "") -> Entry:
    facts = {"held": row.id, "request": row.request, "key": row.key}
    return Entry(kind=kind, actor=actor, facts=facts, payload=payload, subject=subject if payload else "")


def _row(connection: Connection, held: str) -> Row[Any]:
    """Return a reply that nobody else changes until the transaction ends."""
    row = connection.execute(select(table).where(table.c.id == held).with_for_update()).first()
    if row is None:
        raise AccessError("There is no such reply.", mend="See the list of those that wait.")
    return row


def _check_decision(decision: State, text: str | None) -> None:
    if (decision is State.EDITED) != (text is not None):
        raise AccessError("An edit has a text, and nothing else has.", mend="Give the text with the edit alone.")
