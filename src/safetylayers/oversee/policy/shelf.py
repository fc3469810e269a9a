"""The policy in force, on all replicas: the last one in the database.

The first policy is put there by whoever starts the first gateway; every later one takes two people. A replica looks
for a newer one every second and makes its guards before it takes it: one whose guards cannot be made is not taken, and
the replica says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import unified_diff
from typing import Any

from sqlalchemy import Connection, Row, func, select, text

from safetylayers.errors import PolicyError, StoreError
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.proposals import Kind, Proposal, Proposals
from safetylayers.oversee.identity.times import Clock, utc_now
from safetylayers.oversee.policy.enforced import Enforced, Timed, enforce
from safetylayers.oversee.policy.policy import Policy, default_policy, parse_policy
from safetylayers.oversee.policy.tables import policies
from safetylayers.oversee.store.database import Database

logger = logging.getLogger(__name__)
LOOK_SECONDS = 1.0
RETRY_LOOKS = 30
"""How many looks later a policy that failed is tried again: making guards may be expensive."""
RETIRE_SECONDS = 900.0
"""How long requests that came under an earlier policy may still need its guards."""


@dataclass(frozen=True, slots=True)
class Shelved:
    """One policy that is or was in force."""

    number: int
    """1 for the first."""
    policy: Policy
    since: datetime


class PolicyShelf:
    """All policies there were, and the one in force at work."""

    def __init__(self, database: Database, log: AuditLog, *, clock: Clock = utc_now) -> None:
        """Work on a database; `open` before anything else."""
        self._database, self._log, self._clock = database, log, clock
        self._number = 0
        self._current: Enforced | None = None
        self._retired: list[Enforced] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._failed = 0
        """The last policy that could not be put to work here."""
        self._patience = 0
        self._timed: Timed = lambda _guard, _seconds: None
        self.behind: str | None = None
        """Why the newest policy is not in force here; None while it is."""

    @property
    def current(self) -> Enforced:
        """The policy in force here. Raises PolicyError before `open`."""
        if self._current is None:
            raise PolicyError("No policy is in force yet.")
        return self._current

    @property
    def number(self) -> int:
        """Which one it is."""
        return self._number

    def tell_times(self, timed: Timed) -> None:
        """Let somebody be told how many seconds guards take, under this policy and all later ones."""
        self._timed = self.current.timed = timed

    def open(self, first: Policy | None = None) -> None:
        """Take the policy in force; where there is none yet, put `first` there, or the default one.

        Raises:
            PolicyError: another policy than `first` is in force already, or its guards cannot be made.
            StoreError: the database cannot be used.
        """
        with self._database.write() as connection:
            if not self._database.is_sqlite:  # there is no row yet that could be locked, and other replicas begin too
                connection.execute(text("LOCK TABLE policies IN SHARE ROW EXCLUSIVE MODE"))
            newest = _newest(connection)
            if newest is None:
                newest = self._put(connection, first or default_policy(), actor="machine", proposal=None)
        if first is not None and newest.policy.hash != first.hash:
            raise PolicyError(
                f"Another policy is in force already ({newest.policy.name!r}, number {newest.number}).",
                mend="Leave --policy out, and propose the file: safetylayers policy propose FILE.",
            )
        self._take(newest, enforce(newest.policy))

    def newest(self) -> Shelved:
        """Return the last policy. Raises PolicyError where there is none."""
        with self._database.read() as connection:
            found = _newest(connection)
        if found is None:
            raise PolicyError("No policy was ever put in force.", mend="Start a gateway: safetylayers serve MODEL.")
        return found

    def propose(self, proposals: Proposals, policy: Policy, *, reason: str, by: Principal) -> Proposal:
        """Propose a policy.

        Raises:
            PolicyError: it is the one in force already, or its guards cannot be made.
            AccessError: no right to.
        """
        before = self.newest()
        if policy.hash == before.policy.hash:
            raise PolicyError("This policy is in force already.")
        enforce(policy)
        content = {"policy": policy.as_yaml(), "before": before.number, "difference": difference(before.policy, policy)}
        return proposals.propose(Kind.POLICY, content, reason=reason, by=by)

    def apply(self, connection: Connection, proposal: Proposal) -> None:
        """Put an approved policy in force, in the transaction that approves it.

        Raises:
            PolicyError: another policy came in between; what was compared is no longer what would change.
        """
        if proposal.kind is not Kind.POLICY:
            raise PolicyError("The proposal is not about the policy.", mend="Approve it where it belongs.")
        before = _newest(connection)
        if before is None or before.number != proposal.content["before"]:
            raise PolicyError("Another policy has come into force since the proposal.", mend="Propose it anew.")
        policy = parse_policy(proposal.content["policy"])
        self._put(connection, policy, actor=f"{proposal.decided_by}", proposal=proposal.id)

    def _put(self, connection: Connection, policy: Policy, *, actor: str, proposal: str | None) -> Shelved:
        last = connection.execute(select(func.max(policies.c.number))).scalar() or 0
        shelved = Shelved(last + 1, policy, self._clock())
        values = {
            "number": shelved.number,
            "hash": policy.hash,
            "text": policy.as_yaml(),
            "since": shelved.since,
            "proposal": proposal,
        }
        connection.execute(policies.insert().values(values))
        facts: Mapping[str, Any] = {"number": shelved.number, "hash": policy.hash, "proposal": proposal}
        entry = Entry(kind="policy", actor=actor, facts=facts, payload={"policy": policy.as_yaml()})
        self._log.append_in(connection, [entry])
        return shelved

    async def follow(self) -> None:
        """Look for newer policies for as long as the gateway runs."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take the newest policy if it is not in force here. Why one cannot be is logged and kept in `behind`."""
        try:
            number = await asyncio.to_thread(self._last)
        except StoreError:
            return  # it says nothing about the policy, and a replica without its store stops when its lease is over
        if number == self._number or self._is_too_soon(number):
            return
        try:
            newest = await asyncio.to_thread(self.newest)
            self._take(newest, await _ready(newest.policy))
        except Exception as error:  # a plug-in may raise anything, and the next policy is looked for all the same
            if number != self._failed:
                logger.exception("the newest policy is not in force here")
            self.behind = str(error) or type(error).__name__
            self._failed, self._patience = number, RETRY_LOOKS

    def _last(self) -> int:
        with self._database.read() as connection:
            return int(connection.execute(select(func.max(policies.c.number))).scalar() or 0)

    def _is_too_soon(self, number: int) -> bool:
        """Whether this policy failed a while ago; another one is not made to wait for it."""
        self._patience -= 1
        return number == self._failed and self._patience > 0

    def _take(self, shelved: Shelved, made: Enforced) -> None:
        if self._current is not None:
            self._retire(self._current)
        made.timed = self._timed
        self._current, self._number, self.behind = made, shelved.number, None

    def _retire(self, enforced: Enforced) -> None:
        """Let go of a policy's guards once no request can need them."""
        self._retired.append(enforced)

        async def later() -> None:
            await asyncio.sleep(RETIRE_SECONDS)
            self._retired.remove(enforced)
            await enforced.close()

        task = asyncio.get_running_loop().create_task(later())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Let go of what all guards hold."""
        for task in list(self._closing):
            task.cancel()
        for enforced in (*self._retired, *([self._current] if self._current else [])):
            await enforced.close()


def difference(before: Policy, after: Policy) -> str:
    """Return what changes, line by line, with all defaults written out."""
    lines = unified_diff(
        before.as_yaml().splitlines(), after.as_yaml().splitlines(), "in force", "proposed", lineterm="", n=3
    )
    return "\n".join(lines)


async def _ready(policy: Policy) -> Enforced:
    """Make a policy's guards ready; where one cannot be, let go of the others."""
    made = await asyncio.to_thread(enforce, policy)
    try:
        await made.open()
    except BaseException:
        await made.close()
        raise
    return made


def _newest(connection: Connection) -> Shelved | None:
    row: Row[Any] | None = connection.execute(select(policies).order_by(policies.c.number.desc()).limit(1)).first()
    return None if row is None else Shelved(row.number, parse_policy(row.text), row.since)
