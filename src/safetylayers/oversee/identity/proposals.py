"""Four eyes: what one person proposes, another one has to approve.

Whoever approves is another person than whoever proposed, through whichever session or key; both are stored people who
hold the right when the approval comes. The change is made in the transaction that approves it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, select

from safetylayers.errors import AccessError
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.identity.people import active_person
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.roles import Right, rights_of
from safetylayers.oversee.identity.tables import proposals
from safetylayers.oversee.identity.times import Clock, utc_now
from safetylayers.oversee.store.database import Database


class Kind(StrEnum):
    """What can be proposed."""

    MODE = "mode"
    """A less safe mode."""
    POLICY = "policy"
    """Another policy."""


NEEDED: Mapping[Kind, tuple[Right, Right]] = MappingProxyType(
    {
        Kind.MODE: (Right.PROPOSE_MODE, Right.APPROVE_MODE),
        Kind.POLICY: (Right.PROPOSE_POLICY, Right.APPROVE_POLICY),
    }
)
"""The rights to propose and to approve."""


class State(StrEnum):
    """Where a proposal stands."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change that waits for a second person, or did."""

    id: str
    kind: Kind
    content: dict[str, Any]
    """The change itself; it never changes, so what was read is what is approved."""
    reason: str
    proposer: str
    """Id of a person."""
    created: datetime
    expires: datetime
    state: State
    decided_by: str | None
    """Id of a person."""
    decided: datetime | None
    remark: str | None
    """What the one who decided said."""


Apply = Callable[[Connection, Proposal], None]
"""Makes the change, in the transaction that it is given. What it raises undoes the approval as well."""


class Proposals:
    """Keeps proposals. Each step is logged in its own transaction."""

    def __init__(
        self, database: Database, log: AuditLog, *, clock: Clock = utc_now, life: timedelta = timedelta(hours=24)
    ) -> None:
        """Work on a database; a proposal is open for `life`."""
        self._database, self._log, self._clock, self._life = database, log, clock, life

    def propose(self, kind: Kind, content: Mapping[str, Any], *, reason: str, by: Principal) -> Proposal:
        """Propose a change.

        Raises:
            AccessError: no right to, or no reason is given.
        """
        by.require(NEEDED[kind][0])
        reason, now = checked_reason(reason), self._clock()
        values = {
            "id": uuid4().hex,
            "kind": kind,
            "content": dict(content),
            "reason": reason,
            "proposer": by.person,
            "created": now,
            "expires": now + self._life,
            "state": State.OPEN,
        }
        with self._database.write() as connection:
            _require_person(connection, by.person, NEEDED[kind][0])
            row = connection.execute(proposals.insert().values(values).returning(proposals)).one()
            payload = {"reason": reason, "content": values["content"]}
            self._note(connection, "proposal-opened", _proposal(row), by, payload)
        return _proposal(row)

    def approve(self, proposal: str, apply: Apply, *, by: Principal, remark: str = "") -> Proposal:
        """Approve a proposal and make its change, both or neither. Of several who try at once, one succeeds.

        Args:
            proposal: its id.
            apply: makes the change.
            by: another person than the proposer.
            remark: for the log.

        Raises:
            AccessError: no right to, one's own proposal, or it is not open.
        """
        with self._database.write() as connection:
            found = self._open(connection, proposal)
            propose, approve = NEEDED[found.kind]
            by.require(approve)
            if by.person == found.proposer:
                raise AccessError("Nobody approves their own proposal.", mend="Ask a second person.")
            _require_person(connection, by.person, approve)
            _require_person(connection, found.proposer, propose)
            return self._close(connection, found, State.APPROVED, by, remark, apply)

    def reject(self, proposal: str, *, by: Principal, remark: str) -> Proposal:
        """Turn a proposal down; whoever may approve may do that.

        Raises:
            AccessError: no right to, no reason is given, or it is not open.
        """
        remark = checked_reason(remark)
        with self._database.write() as connection:
            found = self._open(connection, proposal)
            by.require(NEEDED[found.kind][1])
            return self._close(connection, found, State.REJECTED, by, remark)

    def withdraw(self, proposal: str, *, by: Principal) -> Proposal:
        """Take back one's own proposal.

        Raises:
            AccessError: it is another person's, or it is not open.
        """
        with self._database.write() as connection:
            found = self._open(connection, proposal)
            if by.person != found.proposer:
                raise AccessError("The proposal is another person's.", mend="Reject it instead.")
            return self._close(connection, found, State.WITHDRAWN, by, "")

    def open_ones(self) -> list[Proposal]:
        """Return what waits for a second person, the oldest first."""
        query = select(proposals).where(proposals.c.state == State.OPEN, proposals.c.expires > self._clock())
        with self._database.read() as connection:
            return [_proposal(row) for row in connection.execute(query.order_by(proposals.c.created))]

    def expire_due(self) -> int:
        """Close proposals that nobody decided in time, and return how many."""
        query = select(proposals).where(proposals.c.state == State.OPEN, proposals.c.expires <= self._clock())
        with self._database.write() as connection:
            due = [_proposal(row) for row in connection.execute(query.with_for_update())]
            for proposal in due:
                self._close(connection, proposal, State.EXPIRED, None, "")
        return len(due)

    def _open(self, connection: Connection, proposal: str) -> Proposal:
        """Return an open proposal that nobody else changes until the transaction ends."""
        row = connection.execute(select(proposals).where(proposals.c.id == proposal).with_for_update()).first()
        if row is None:
            raise AccessError("There is no such proposal.", mend="See the list of open ones.")
        found = _proposal(row)
        if found.state is not State.OPEN:
            raise AccessError(f"The proposal is {found.state} already.", mend="Make a new one if it is still needed.")
        if found.expires <= self._clock():
            raise AccessError("The proposal has expired.", mend="Make a new one.")
        return found

    def _close(
        self,
        connection: Connection,
        proposal: Proposal,
        state: State,
        by: Principal | None,
        remark: str,
        apply: Apply | None = None,
    ) -> Proposal:
        values = {"state": state, "decided_by": by and by.person, "decided": self._clock(), "remark": remark or None}
        changed = proposals.update().where(proposals.c.id == proposal.id).values(values).returning(proposals)
        closed = _proposal(connection.execute(changed).one())
        if apply is not None:
            apply(connection, closed)  # before the log: everybody locks the log last, and so nobody deadlocks
        self._note(connection, f"proposal-{state}", closed, by, {"remark": remark} if remark else None)
        return closed

    def _note(
        self,
        connection: Connection,
        kind: str,
        proposal: Proposal,
        by: Principal | None,
        payload: dict[str, Any] | None,
    ) -> None:
        facts = {
            "proposal": proposal.id,
            "kind": proposal.kind,
            "proposer": proposal.proposer,
            "content_sha256": _sha256(proposal.content),
        }
        actor = by.actor if by else "clock"
        entry = Entry(kind=kind, actor=actor, facts=facts, payload=payload, subject=by.person if payload and by else "")
        self._log.append_in(connection, [entry])


def checked_reason(reason: str) -> str:
    """Return a reason without white space around it. Raises AccessError where it is empty, very long, or no text."""
    reason = reason.strip()
    if not 1 <= len(reason) <= 2000 or not all(mark.isprintable() or mark in "\r\n\t" for mark in reason):
        raise AccessError("A reason has 1 to 2,000 printable characters.", mend="Say why in a sentence.")
    return reason


def told_reason(reason: str) -> str:
    """Return a reason in any case, cleaned and cut: nobody is kept from making things safer by how they type."""
    kept = "".join(mark if mark.isprintable() or mark in "\r\n\t" else " " for mark in reason).strip()
    return kept[:2000].strip() or "no reason was given"


def _require_person(connection: Connection, person: str, right: Right) -> None:
    """Raise AccessError unless somebody exists, is not locked out, and holds a right now."""
    found = active_person(connection, person)
    if found is None or right not in rights_of(found.roles):
        raise AccessError(
            f"Proposer and approver are both people who hold their right now ({right}).",
            mend="Log in as one, or make a new proposal.",
        )


def _sha256(content: dict[str, Any]) -> str:
    """Return a hash by which the log shows that what was approved is what was proposed."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _proposal(row: Row[Any]) -> Proposal:
    return Proposal(
        id=row.id,
        kind=Kind(row.kind),
        content=row.content,
        reason=row.reason,
        proposer=row.proposer,
        created=row.created,
        expires=row.expires,
        state=State(row.state),
        decided_by=row.decided_by,
        decided=row.decided,
        remark=row.remark,
    )
