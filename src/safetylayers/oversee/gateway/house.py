"""Everything that a running gateway has, in one place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from opentelemetry.trace import Tracer

from safetylayers.errors import BusyError, ModeError, StoreError
from safetylayers.oversee.gateway import tracing
from safetylayers.oversee.gateway.live import Live
from safetylayers.oversee.gateway.metrics import Metrics
from safetylayers.oversee.gateway.paces import Paces
from safetylayers.oversee.modes.mode import Mode
from safetylayers.oversee.policy.actions import Action
from safetylayers.oversee.policy.decision import Ruling
from safetylayers.oversee.review.held import Texts

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap
    from safetylayers.oversee.audit.entry import Entry
    from safetylayers.oversee.audit.log import AuditLog
    from safetylayers.oversee.engine.base import Engine
    from safetylayers.oversee.gateway.case import Case
    from safetylayers.oversee.gateway.draft import Draft
    from safetylayers.oversee.gateway.site import Site
    from safetylayers.oversee.identity.keys import Keys
    from safetylayers.oversee.identity.principal import Principal
    from safetylayers.oversee.modes.keeper import ModeKeeper
    from safetylayers.oversee.policy.policy import Policy
    from safetylayers.oversee.policy.shelf import PolicyShelf
    from safetylayers.oversee.review.held import Held, Outcome
    from safetylayers.oversee.review.overrides import Override, Overrides
    from safetylayers.oversee.review.queue import ReviewDesk
    from safetylayers.oversee.words import Ask

logger = logging.getLogger(__name__)
STORE_SECONDS = 6.0
"""How long a request waits for the store; a little longer than the store's own time-outs."""
CANARY_SECONDS = 30.0
"""How long the monitors may take to answer."""


@dataclass(kw_only=True)
class House:
    """A running gateway."""

    replica: str
    site: Site
    engine: Engine
    keeper: ModeKeeper
    desk: ReviewDesk
    overrides: Overrides
    live: Live = field(default_factory=Live)
    metrics: Metrics = field(default_factory=Metrics)
    paces: Paces = field(default_factory=Paces)
    tracer: Tracer = tracing.NONE
    safety_map: SafetyMap | None = None
    """The model's map, where one was given."""
    monitors_dead: str | None = None
    """What the last canary saw, while the monitors inside the model do not answer as they should."""
    active: int = 0
    """Requests being served."""
    going: set[Callable[[], None]] = field(default_factory=set)
    """Ends responses that wait for their readers; a stop does so."""
    _waiting: set[asyncio.Timeout] = field(default_factory=set)
    _sampling: set[asyncio.Task[Held]] = field(default_factory=set)

    @property
    def log(self) -> AuditLog:
        """The audit log."""
        return self.site.log

    @property
    def shelf(self) -> PolicyShelf:
        """The policies."""
        return self.site.shelf

    @property
    def keys(self) -> Keys:
        """Programs' keys."""
        return self.site.keys

    @property
    def actor(self) -> str:
        """The replica, as the log names it."""
        return f"replica:{self.replica}"

    @asynccontextmanager
    async def patience(self, seconds: float | None = STORE_SECONDS) -> AsyncIterator[None]:
        """Within the block, wait for the store, but not for ever, and no longer than until a stop.

        Args:
            seconds: how long; None for as long as the gateway runs.

        Raises:
            ModeError: the gateway was stopped meanwhile.
            StoreError: the store does not answer.
        """
        try:
            async with asyncio.timeout(seconds) as waiting:
                self._waiting.add(waiting)
                try:
                    self.must_run()
                    yield
                finally:
                    self._waiting.discard(waiting)
        except TimeoutError as error:
            self.must_run()
            raise StoreError("The database does not answer.", mend="See that it runs and can be reached.") from error

    def hurry(self) -> None:
        """End all waiting for the store: the gateway was stopped. Call it in the event loop."""
        for waiting in list(self._waiting):
            with suppress(RuntimeError):  # it is ending by itself at this moment
                waiting.reschedule(asyncio.get_running_loop().time())
        for end in list(self.going):
            end()

    async def keep(self, entry: Entry) -> None:
        """Return once an entry is in the log. Raises AuditError, StoreError, ModeError."""
        async with self.patience():
            await self.log.append(entry)

    async def authenticate(self, token: str) -> Principal:
        """Return whose key this is. Raises AccessError, StoreError."""
        if self.keys.knows(token):  # it was looked up a moment ago, so nothing has to be waited for
            return self.keys.authenticate(token)
        async with self.patience():
            return await asyncio.to_thread(self.keys.authenticate, token)

    def must_run(self) -> None:
        """Raise ModeError while nothing may leave."""
        state = self.keeper.state
        if state.mode is Mode.STOPPED:
            raise ModeError(f"The gateway is stopped: {state.reason}", mend="Two people can let it run again.")

    def take_slot(self) -> Callable[[], None]:
        """Let one more request be served; what is returned ends that, however often it is called.

        Raises:
            BusyError: there are too many at once.
        """
        if self.active >= self.shelf.current.policy.limits.concurrent:
            raise BusyError("Too many requests at once.", mend="Ask again in a moment.")
        self.active += 1
        taken = [True]

        def release() -> None:
            if taken:
                taken.clear()
                self.active -= 1

        return release

    async def override_for(self, case: Case) -> Override | None:
        """Return an operator's word that holds for a request, whatever is found. Raises StoreError."""
        find = partial(
            self.overrides.find,
            request=case.retry_of or case.id,
            conversation=case.conversation,
            asked_by=case.principal.person,
        )
        if self.overrides.is_fresh:
            found = find()
        else:
            async with self.patience():
                found = await asyncio.to_thread(find)
        if found is None or found.request is None:
            return found
        async with self.patience():  # it is for one request, and so for one use
            return found if await asyncio.to_thread(self.overrides.use, found) else None

    async def review(self, case: Case, draft: Draft, reply: str) -> Outcome:
        """Let a reply wait for a person.

        Raises:
            StoreError: the store cannot keep it, or does not say what became of it.
            AuditError: what was decided does not open.
        """
        rulings = [*case.decision.facts(), *draft.decision.facts()]
        async with self.patience():
            held = await self.desk.hold(
                Texts(prompt=case.text, reply=reply),
                request=case.id,
                conversation=case.conversation,
                asker=case.principal,
                findings=rulings,
                wait=timedelta(seconds=case.enforced.policy.review.hold_seconds),
            )
        with self.metrics.waiting.track_inprogress():
            async with self.patience(None):
                return await self.desk.wait(held)

    def sample(self, case: Case, ask: Ask, draft: Draft) -> None:
        """Keep a share of the replies that have left, for people to look at afterwards. No caller waits for it."""
        share = case.enforced.policy.review.sample
        if _fraction(ask.id) >= share:
            return
        texts = Texts(prompt=case.text, reply=draft.redacted(0, len(draft.text)))
        task = asyncio.create_task(
            asyncio.to_thread(
                self.desk.replies.sample,
                texts,
                request=case.id,
                conversation=case.conversation,
                asker=case.principal,
                findings=draft.decision.facts(),
            )
        )
        self._sampling.add(task)
        task.add_done_callback(self._sampled)

    def _sampled(self, task: asyncio.Task[Held]) -> None:
        self._sampling.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a sample could not be kept (%s)", type(task.exception()).__name__)

    def timed(self, guard: str, seconds: float) -> None:
        """Take note of how long a guard took."""
        self.metrics.guard_seconds.labels(guard).observe(seconds)

    def standing_rulings(self, policy: Policy) -> list[Ruling]:
        """Return what holds for every request now.

        Restricted mode, an approved policy that cannot be enforced here, or monitors that do not answer.
        """
        rulings = []
        if self.keeper.state.mode is Mode.RESTRICTED:
            rulings.append(Ruling("mode", "restricted", Action(policy.restricted)))
        if self.shelf.behind is not None:
            rulings.append(Ruling("policy", "behind", Action(policy.restricted)))
        if self.monitors_dead:
            rulings.append(Ruling("canary", "monitors-dead", Action(policy.restricted)))
        if self.engine.watched_by is None and policy.monitors.unwatched != "allow":
            rulings.append(Ruling("monitors", "unwatched", Action(policy.monitors.unwatched)))
        return rulings

    async def watch_monitors(self) -> None:
        """Ask the canary at intervals, for as long as the gateway runs; dead monitors restrict it."""
        while True:
            await self.ask_canary()
            await asyncio.sleep(self.shelf.current.policy.monitors.canary_seconds)

    async def ask_canary(self) -> None:
        """Ask the canary once. What it raises counts as dead."""
        if self.engine.watched_by is None:
            return
        try:
            async with asyncio.timeout(CANARY_SECONDS):
                canary = await self.engine.canary()
            alive, detail = canary.alive, canary.detail
        except Exception as error:
            logger.exception("the canary could not be asked")
            alive, detail = False, type(error).__name__
        self.metrics.monitors_alive.set(alive)
        if not alive and self.monitors_dead is None:
            logger.error("the monitors inside the model do not answer as they should: %s", detail)
        self.monitors_dead = None if alive else detail


def _fraction(name: str) -> float:
    """Return a number from 0 up to 1 that a name always has and nobody can choose."""
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big") / 2**64
