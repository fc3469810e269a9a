"""Waiting for a person, wherever that person is: on this replica, or on another one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from safetylayers.errors import AuditError, OversightError, StoreError
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.audit.vault import Vault
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.times import Clock, utc_now
from safetylayers.oversee.review.held import Held, Outcome, State, Texts
from safetylayers.oversee.review.replies import HeldReplies
from safetylayers.oversee.store.database import Database


class ReviewDesk:
    """Holds replies for requests that wait here. Use it in one event loop."""

    def __init__(
        self, database: Database, log: AuditLog, vault: Vault, *, clock: Clock = utc_now, poll_s: float = 0.25
    ) -> None:
        """Work on a database, and look at it every `poll_s` while anything waits."""
        self.replies = HeldReplies(database, log, vault, clock=clock)
        self._poll_s = poll_s
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        self._news = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def hold(
        self,
        texts: Texts,
        *,
        request: str,
        conversation: str | None,
        asker: Principal,
        findings: Sequence[Mapping[str, Any]],
        wait: timedelta,
    ) -> Held:
        """Keep a reply until a person has decided; see `HeldReplies.hold`."""
        return await asyncio.to_thread(
            self.replies.hold,
            texts,
            request=request,
            conversation=conversation,
            asker=asker,
            findings=findings,
            wait=wait,
        )

    async def wait(self, held: Held, *, patience_s: float = 10.0) -> Outcome:
        """Wait until a person has decided, or the deadline is past. Whoever stops waiting closes the reply.

        Args:
            held: what is waited for.
            patience_s: how much longer than its deadline, where the store cannot be reached.

        Raises:
            StoreError: the store could not be asked what became of it; nothing may leave.
            AuditError: what was decided does not open.
        """
        future = self._waiting[held.id] = asyncio.get_running_loop().create_future()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            seconds = (held.deadline - held.created).total_seconds() if held.deadline else 0.0
            return await asyncio.wait_for(future, seconds + patience_s)
        except TimeoutError as error:
            raise StoreError(
                "The store does not say what became of a held reply.", mend="See that it can be reached."
            ) from error
        except asyncio.CancelledError:
            with contextlib.suppress(OversightError):
                await asyncio.to_thread(self.replies.abandon, held.id)
            raise
        finally:
            del self._waiting[held.id]

    async def decide(
        self, held: str, decision: State, *, by: Principal, reason: str = "", text: str | None = None
    ) -> Held:
        """Decide about a reply, and tell who waits for it; see `HeldReplies.decide`."""
        decided = await asyncio.to_thread(self.replies.decide, held, decision, by=by, reason=reason, text=text)
        self._news.set()
        return decided

    async def _look(self) -> None:
        """Look at the store for all that wait here at once, for as long as any do."""
        while self._waiting:
            self._news.clear()
            try:
                self._hand_out(await asyncio.to_thread(self.replies.outcomes, list(self._waiting)))
            except StoreError:
                pass  # it may come back before the deadlines
            except Exception as error:
                self._fail(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._poll_s)

    def _hand_out(self, outcomes: Mapping[str, Outcome | AuditError]) -> None:
        for held, outcome in outcomes.items():
            future = self._waiting.get(held)
            if future is None or future.done():
                continue
            if isinstance(outcome, AuditError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _fail(self, error: Exception) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
