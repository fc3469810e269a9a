"""Changing the mode. One person can make things safer; it takes two to make them less safe."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select, text

from safetylayers.errors import ModeError
from safetylayers.oversee.audit.entry import JSON, Entry
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.audit.tables import log_entries
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.proposals import Kind, Proposal, Proposals, told_reason
from safetylayers.oversee.identity.roles import Right
from safetylayers.oversee.identity.times import Clock, utc_now
from safetylayers.oversee.modes.mode import Mode, ModeState, read_mode
from safetylayers.oversee.modes.tables import mode as table
from safetylayers.oversee.store.database import Database

CHANNEL = "safetylayers_mode"
"""PostgreSQL tells replicas of a change on this channel."""


def begin(database: Database, log: AuditLog, *, by: Principal, clock: Clock = utc_now) -> ModeState:
    """Let a new gateway run: set the first mode where none has ever been set, and return the mode in force.

    Raises:
        AccessError: no right to.
    """
    by.require(Right.MANAGE_PEOPLE)
    with database.write() as connection:
        if not database.is_sqlite:  # there is no row yet that could be locked, and other replicas begin as well
            connection.execute(text("LOCK TABLE mode IN SHARE ROW EXCLUSIVE MODE"))
        before = read_mode(connection)
        if before.epoch or _was_set(connection):
            return before
        return _set(connection, log, before, Mode.RUN, by=by, reason="the gateway is new", now=clock())


def _was_set(connection: Connection) -> bool:
    """Whether the log knows of a mode: then its row was lost, and it takes two people to run again."""
    query = select(log_entries.c.index).where(log_entries.c.kind == "mode-changed").limit(1)
    return connection.execute(query).first() is not None


def set_mode(
    database: Database, log: AuditLog, mode: Mode, *, by: Principal, reason: str, clock: Clock = utc_now
) -> ModeState:
    """Go to a safer mode, or into the same one again for another reason.

    Args:
        database: where the mode is.
        log: the audit log.
        mode: where to go.
        by: one person with the right to stop.
        reason: for the log and for everybody who meets the mode; cleaned where it cannot be printed.
        clock: the time.

    Raises:
        AccessError: no right to.
        ModeError: the mode would be less safe; `propose_mode` is the way there.
    """
    by.require(Right.STOP)
    reason = told_reason(reason)
    with database.write() as connection:
        before = read_mode(connection, for_update=True)
        if mode.safety < before.mode.safety:
            raise ModeError(
                f"One person cannot go from {before.mode} to {mode}.", mend="Propose it, and let a second one approve."
            )
        return _set(connection, log, before, mode, by=by, reason=reason, now=clock())


def propose_mode(proposals: Proposals, database: Database, mode: Mode, *, by: Principal, reason: str) -> Proposal:
    """Propose a less safe mode. The proposal is void once anybody changes the mode in between.

    Raises:
        AccessError: no right to, or no reason is given.
        ModeError: the mode would not be less safe, so nobody has to approve it.
    """
    with database.read() as connection:
        before = read_mode(connection)
    if mode.safety >= before.mode.safety:
        raise ModeError(f"The mode is {before.mode}: {mode} needs no approval.", mend="Set it.")
    return proposals.propose(Kind.MODE, {"mode": mode, "epoch": before.epoch}, reason=reason, by=by)


def approve_mode(
    proposals: Proposals, log: AuditLog, proposal: str, *, by: Principal, remark: str = "", clock: Clock = utc_now
) -> Proposal:
    """Approve a proposed mode, which is in force from then on.

    Raises:
        AccessError: no right to, one's own proposal, or it is not open.
        ModeError: it proposes something else, or the mode has changed since.
    """

    def apply(connection: Connection, approved: Proposal) -> None:
        if approved.kind is not Kind.MODE:
            raise ModeError("The proposal is not about the mode.", mend="Approve it where it belongs.")
        before = read_mode(connection, for_update=True)
        if before.epoch != approved.content["epoch"]:
            raise ModeError("The mode has changed since this was proposed.", mend="Look at why, and propose anew.")
        mode = Mode(approved.content["mode"])
        _set(connection, log, before, mode, by=by, reason=approved.reason, now=clock(), proposal=approved)

    return proposals.approve(proposal, apply, by=by, remark=remark)


def _set(
    connection: Connection,
    log: AuditLog,
    before: ModeState,
    mode: Mode,
    *,
    by: Principal,
    reason: str,
    now: datetime,
    proposal: Proposal | None = None,
) -> ModeState:
    """Write the mode, its log entry, and the word to the replicas: all of it or nothing."""
    after = ModeState(mode=mode, reason=reason, by=by.name, since=now, epoch=before.epoch + 1)
    values = {"mode": mode, "reason": reason, "by": after.by, "since": now, "epoch": after.epoch}
    if before.epoch:
        connection.execute(table.update().values(values))
    else:
        connection.execute(table.insert().values(id=1, **values))
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_notify(:channel, :epoch)"), {"channel": CHANNEL, "epoch": str(after.epoch)})
    facts: dict[str, JSON] = {
        "from": before.mode,
        "to": mode,
        "epoch": after.epoch,
        "proposal": proposal.id if proposal else None,
    }
    author = proposal.proposer if proposal else by.person
    entry = Entry(kind="mode-changed", actor=by.actor, facts=facts, payload={"reason": reason}, subject=author)
    log.append_in(connection, [entry])
    return after
