"""Forgetting what people wrote, in the log and beside it: what concerns one subject, or all that is older than a time.

What is still needed stays: replies that wait for a person, the places of overrides that hold, open proposals, and the
reason for the mode in force, which everybody who meets the mode is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import sleep

from sqlalchemy import ColumnElement

from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.gateway.site import Site
from safetylayers.oversee.identity.proposals import State
from safetylayers.oversee.identity.tables import proposals
from safetylayers.oversee.identity.times import utc_now
from safetylayers.oversee.review.replies import HeldReplies
from safetylayers.oversee.review.tables import overrides
from safetylayers.oversee.store.database import Database

LONGEST_DAYS = 36_500
"""A hundred years; more is taken for it."""
_SWEEPS = 5
_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much is gone."""

    log: int
    """Texts in the log."""
    review: int
    """Replies in the review queue, and decisions about them."""
    reasons: int
    """Reasons of overrides and proposals that are over."""
    swept: bool
    """Whether the database's files are rid of them. Somebody who was reading has kept them there, if not."""


def forget_subject(site: Site, subject: str, *, actor: str) -> Forgotten:
    """Make all that one subject wrote unreadable for ever. What a person's keys asked is that person's.

    Args:
        site: the deployment.
        subject: id of a key or person, as the log names it.
        actor: who wants it so.

    Raises:
        StoreError, AuditError: it cannot be done, or not be logged; what was logged up to then is done.
    """
    subjects = [subject, *(f"key-{key.id}" for key in site.keys.all(owner=subject))]
    log = sum(site.log.erase(one, actor) for one in subjects)
    review = _replies(site).forget_of(subject)
    reasons = _forget_reasons(
        site,
        actor,
        override=(overrides.c.by == subject) | (overrides.c.asked_by == subject),
        reason=proposals.c.proposer == subject,
        remark=proposals.c.decided_by == subject,
    )
    return Forgotten(log, review, reasons, _sweep(site.database))


def forget_before(site: Site, before: datetime, *, actor: str) -> Forgotten:
    """Make all that was written before a moment unreadable for ever. Arguments and errors are as above."""
    log = site.log.expire(before, actor)
    review = _replies(site).forget_before(before)
    old = proposals.c.decided < before
    reasons = _forget_reasons(site, actor, override=overrides.c.expires < before, reason=old, remark=old)
    return Forgotten(log, review, reasons, _sweep(site.database))


def days_ago(days: int) -> datetime:
    """Return the moment before which texts are older than so many days."""
    return datetime.now(UTC) - timedelta(days=min(days, LONGEST_DAYS))


def _forget_reasons(
    site: Site, actor: str, *, override: ColumnElement[bool], reason: ColumnElement[bool], remark: ColumnElement[bool]
) -> int:
    """Delete overrides that are over, and blank the other reasons; each condition says whose or which."""
    closed = proposals.c.state != State.OPEN
    changes = (
        overrides.delete().where(override, overrides.c.expires <= utc_now()),
        overrides.update().where(override, overrides.c.reason != "").values(reason=""),
        proposals.update().where(reason, closed, proposals.c.reason != "").values(reason=""),
        proposals.update().where(remark, closed, proposals.c.remark.is_not(None)).values(remark=None),
    )
    with site.database.write() as connection:
        count = sum(connection.execute(change).rowcount for change in changes)
        if count:
            site.log.append_in(connection, [Entry(kind="reasons-erased", actor=actor, facts={"count": count})])
    return count


def _sweep(database: Database) -> bool:
    """Have what was deleted vanish from the files as well; return whether it has."""
    for _ in range(_SWEEPS):
        if database.sweep():
            return True
        sleep(_PAUSE_S)
    return False


def _replies(site: Site) -> HeldReplies:
    return HeldReplies(site.database, site.log, site.secrets.vault)
