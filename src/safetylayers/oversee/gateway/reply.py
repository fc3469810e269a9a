"""One reply under the policy: made, checked, logged, and only then sent.

Whatever of the model's leaves (streamed or not, plain, redacted, edited by a reviewer) leaves through `_send`, which
refuses what was not checked, waits until the log has kept that it leaves, and looks at the mode once more after that.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from safetylayers.errors import EngineError, GuardError
from safetylayers.oversee.audit.entry import JSON, Entry
from safetylayers.oversee.gateway.case import Case
from safetylayers.oversee.gateway.draft import Draft
from safetylayers.oversee.gateway.pump import gathered, singly
from safetylayers.oversee.gateway.seeds import other_seed
from safetylayers.oversee.policy.actions import Action, strictest
from safetylayers.oversee.policy.decision import Ruling
from safetylayers.oversee.words import Ask, Finish, Piece, Token

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House

Ending = Finish | Literal["content_filter"]
MONITOR = "monitor:"
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """A part of a reply that may leave."""

    text: str = ""
    tokens: tuple[Token, ...] = ()
    echoed: tuple[Token, ...] = ()
    """In the first part, where asked for: the prompt's own tokens."""
    finish: Ending | None = None
    """In the last part."""
    prompt_tokens: int | None = None
    completion_tokens: int = 0


class Overseer:
    """Sees one reply through."""

    def __init__(self, house: House, case: Case, ask: Ask) -> None:
        """Begin; `run` does the work."""
        self.house, self.case, self.ask = house, case, ask
        self.policy = case.enforced.policy
        self.draft = self._new_draft()
        self._attempt_no = 0
        self._again: Ask | None = None
        self._sent = False
        self._ruled = 0
        self._held_since: float | None = None

    @property
    def held_for(self) -> float:
        """How many seconds the reply has waited for a person; 0 where it does not."""
        return 0.0 if self._held_since is None else time.monotonic() - self._held_since

    def _new_draft(self) -> Draft:
        last = self.case.messages[-1] if self.case.messages else None
        given = last.content if last and last.role == "assistant" else ""
        engine = self.house.engine
        return Draft(
            self.case.enforced,
            self.case.messages,
            goes_on_from=given if self.ask.prompt is None else self.ask.prompt,
            watched=engine.watched_by is not None,
            steers=engine.steers,
            allowed=self.case.allowed_by is not None,
        )

    async def run(self) -> AsyncGenerator[Cleared]:
        """Yield the reply's parts as they may leave; the last one has a `finish`.

        Raises:
            EngineError: the reply cannot be made, or broke off.
            GuardError: a guard gave no verdict, and the policy blocks then.
            ModeError: the gateway was stopped.
            AuditError, StoreError: what leaves cannot be logged.
        """
        ask: Ask | None = self.ask
        with self.house.live.following(self):
            self.house.must_run()  # counted first and looked at then, so that no stop overlooks this reply
            while ask is not None:
                self._attempt_no += 1
                try:
                    async with aclosing(self._attempt(ask)) as parts:
                        async for part in parts:
                            yield part
                except EngineError:
                    self.house.must_run()  # a stop ends the engine's replies: callers are told of the stop
                    raise
                ask, self._again = self._again, None
                if ask is not None:
                    self.draft, self._ruled = self._new_draft(), 0

    async def _attempt(self, ask: Ask) -> AsyncGenerator[Cleared]:
        """Make the reply once."""
        draft = self.draft
        deadline = asyncio.get_running_loop().time() + self.policy.limits.reply_seconds
        async with aclosing(self._pieces(ask)) as batches:
            while draft.finish is None:
                pieces = await _next(batches, deadline)
                draft.add(pieces)
                self.house.must_run()
                action = self._action()
                if draft.finish is not None or (ask.stream and action is not Action.BLOCK):
                    await draft.check()
                    action = self._action()
                if action is Action.BLOCK:
                    yield await self._withhold()
                    return
                if action is Action.REGENERATE:
                    self._again = self._next_ask(ask)
                    await self._log("regenerate", draft.text)
                    return
                if action is not Action.HOLD and (ask.stream or draft.finish is not None):
                    part = await self._release()
                    if part is not None:
                        yield part
        if action is Action.HOLD:
            yield await self._review()
        else:
            self.house.sample(self.case, self.ask, draft)

    def _pieces(self, ask: Ask) -> AsyncGenerator[list[Piece]]:
        """Return what the engine makes. Only a stream is checked before its end, while the engine goes on."""
        pieces = self.house.engine.reply(ask)
        return gathered(pieces) if ask.stream else singly(pieces)

    def _action(self) -> Action:
        """Return what is to be done now; of a steered reply nothing, for the gate inside the model sees to it."""
        found = () if self.case.allowed_by else (*self.case.decision.rulings, *self.draft.decision.rulings)
        actions = [self._flow(ruling) for ruling in (*found, *self.house.standing_rulings(self.policy))]
        action = strictest(actions)
        if action is Action.REGENERATE and not self._may_differ():
            return Action.BLOCK
        return action

    def _may_differ(self) -> bool:
        """Whether another attempt is allowed and can make another reply."""
        if self.draft.released or self._attempt_no >= self.policy.attempts:
            return False
        return self.ask.sampling.temperature != 0 or self._is_to_steer()

    def _is_to_steer(self) -> bool:
        """Whether something found in this reply asks for the gate to be open from its first token."""
        return any(
            ruling.effective is Action.STEER and not ruling.by.startswith(MONITOR)
            for ruling in self.draft.decision.rulings
        )

    def _flow(self, ruling: Ruling) -> Action:
        """Return what a ruling means for this reply's text."""
        action = ruling.effective
        if action is not Action.STEER:
            return action
        if ruling.by.startswith(MONITOR) or ruling in self.case.decision.rulings:
            return Action.ALLOW  # the gate is open, or was ordered open from the first token
        # What is found in a reply that was steered already cannot be steered away.
        return Action.REGENERATE if self.house.engine.steers and not self.ask.refuse else Action.BLOCK

    def _next_ask(self, ask: Ask) -> Ask:
        """Return the request for another attempt: with another seed, or with the gate ordered open."""
        seed = None if ask.sampling.seed is None else other_seed(ask.sampling.seed, "again")
        again = replace(
            ask,
            id=f"{self.ask.id}+{self._attempt_no}",
            refuse=ask.refuse or self._is_to_steer(),
            sampling=replace(ask.sampling, seed=seed),
        )
        self.ask = replace(self.ask, refuse=again.refuse)
        return again

    async def _release(self) -> Cleared | None:
        """Send what all guards have cleared; None where there is nothing new."""
        draft = self.draft
        end = draft.cleared
        if end <= draft.released and draft.finish is None:
            return None
        return await self._send(draft.redacted(draft.released, end), end, draft.finish)

    async def _send(self, text: str, end: int, finish: Ending | None, *, review: str | None = None) -> Cleared:
        """Log a part, look at the mode, and let it go."""
        draft, start = self.draft, self.draft.released
        if review is None:
            draft.leave(end, last=finish is not None)
        draft.released = end
        await self._log("release", text, start=start, end=end, finish=finish, review=review)
        self.house.must_run()
        if self._action() is Action.BLOCK:  # an operator stopped it meanwhile, or the monitors died
            return await self._withhold(review=review)
        first, self._sent = not self._sent, True
        return Cleared(
            text=text,
            tokens=draft.tokens_between(start, end) if review is None else (),
            echoed=draft.echoed if first else (),
            finish=finish,
            prompt_tokens=draft.prompt_tokens,
            completion_tokens=draft.completion_tokens,
        )

    async def _withhold(self, *, review: str | None = None) -> Cleared:
        """End the reply without the rest of it. What is said instead is the policy's own text.

        Raises:
            GuardError: nothing was found, but a guard gave no verdict: that is an error and no verdict on the text.
        """
        draft = self.draft
        await self._log("withhold", draft.text[draft.released :], review=review)
        self.house.must_run()
        if draft.decision.failed and review is None:
            raise no_verdict(draft.decision.failed)
        return Cleared(
            text="" if draft.released else self.policy.blocked_text,
            finish="content_filter",
            prompt_tokens=draft.prompt_tokens,
            completion_tokens=draft.completion_tokens,
        )

    async def _review(self) -> Cleared:
        """Let a person decide, and do what they say."""
        draft = self.draft
        remainder = draft.redacted(draft.released, len(draft.text))
        self._held_since = time.monotonic()
        verdict = await self.house.review(self.case, draft, remainder)
        self._held_since = None
        if verdict.text is None or self._action() is Action.BLOCK:  # an operator may have stopped it meanwhile
            return await self._withhold(review=verdict.id)
        return await self._send(verdict.text, len(draft.text), draft.finish, review=verdict.id)

    async def _log(
        self,
        kind: str,
        text: str,
        *,
        start: int = 0,
        end: int = 0,
        finish: Ending | None = None,
        review: str | None = None,
    ) -> None:
        """Keep what is about to happen; returns when it is kept. Raises AuditError, StoreError."""
        draft, policy = self.draft, self.policy
        facts: dict[str, JSON] = {
            "request": self.case.id,
            "reply": self.ask.id,
            "attempt": self._attempt_no,
            "policy": policy.hash[:16],
            "start": start,
            "end": end,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "finish": finish,
            "checked": draft.checked,
            "rulings": draft.decision.facts()[self._ruled :],
            "steered": {"tokens": draft.steered_tokens, "strength": draft.strongest},
            "review": review,
            "override": self.case.allowed_by,
        }
        self._ruled = len(draft.decision.rulings)  # what is in the log already need not be there again
        payload = {"text": text} if policy.log_texts else None
        await self.house.keep(
            Entry(kind=kind, actor=self.house.actor, facts=facts, payload=payload, subject=self.case.principal.id)
        )


def no_verdict(guard: str) -> GuardError:
    """Return what callers are told when a guard gave no verdict."""
    return GuardError(f"The guard {guard!r} gave no verdict, so nothing can be sent.", mend="Ask again later.")


async def _next(items: AsyncGenerator[Item], deadline: float) -> Item:
    """Wait for the next item, but not beyond the deadline.

    Raises:
        EngineError: the deadline has passed, or there is no next item: the reply never ended.
    """
    try:
        async with asyncio.timeout_at(deadline):
            return await anext(items)
    except TimeoutError as error:
        raise EngineError("The reply took longer than the policy allows.", mend="Ask for fewer tokens.") from error
    except StopAsyncIteration as error:
        raise EngineError("The reply broke off.", mend="Ask again.") from error
