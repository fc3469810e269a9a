"""Serving a case: the way from its admission to its last byte, the same for chats and completions."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from safetylayers.errors import SafetyLayersError
from safetylayers.oversee.audit.entry import JSON, Entry
from safetylayers.oversee.gateway import tracing
from safetylayers.oversee.gateway.admission import admit
from safetylayers.oversee.gateway.answers import Oversight, Usage
from safetylayers.oversee.gateway.case import Case
from safetylayers.oversee.gateway.errors import body_of, response_of
from safetylayers.oversee.gateway.merging import all_of, cancelled, merged, settled, with_signs_of_life
from safetylayers.oversee.gateway.reply import Cleared, Ending, Overseer
from safetylayers.oversee.policy.actions import Action, strictest
from safetylayers.oversee.policy.decision import Ruling
from safetylayers.oversee.words import Token

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House

logger = logging.getLogger(__name__)
ALIVE_SECONDS = 10.0
"""How long a connection is silent at most."""
LOOK_SECONDS = 0.5
"""How often to see whether the caller is still there."""
READER_SECONDS = 60.0
"""How long a caller may take to read what was sent."""
FAILED_SECONDS = 1.0
"""How long to try to log that a request failed."""
OPERATOR = "operator"
SSE = {"cache-control": "no-store", "x-accel-buffering": "no"}


@dataclass(slots=True)
class Whole:
    """One complete reply."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    echoed: tuple[Token, ...] = ()
    finish: Ending = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, part: Cleared) -> None:
        """Take in the next part."""
        self.text += part.text
        self.tokens += part.tokens
        self.echoed = part.echoed or self.echoed
        self.finish = part.finish or self.finish
        self.prompt_tokens = part.prompt_tokens or self.prompt_tokens
        self.completion_tokens = part.completion_tokens


class Shape(Protocol):
    """How one kind of answer is written."""

    def whole(self, case: Case, replies: Sequence[Whole], usage: Usage, oversight: Oversight) -> BaseModel:
        """Return the answer in one."""

    def opening(self, case: Case, place: int) -> BaseModel | None:
        """Return what a streamed reply begins with."""

    def part(self, case: Case, place: int, part: Cleared, offset: int) -> BaseModel:
        """Return a part of a streamed reply that begins so many characters into its text."""

    def closing(self, case: Case, usage: Usage, oversight: Oversight) -> BaseModel:
        """Return what a stream ends with, where the caller asked for usage."""


class Serving:
    """One case being served."""

    def __init__(self, house: House, case: Case, shape: Shape, *, tell_usage: bool) -> None:
        """Begin; `answer` does the work."""
        self.house, self.case, self.shape, self.tell_usage = house, case, shape, tell_usage
        self.overseers: list[Overseer] = []
        self.usage = Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)
        self.failed: str | None = None
        self._finishes: list[str] = []
        self._span = tracing.begin(house.tracer, case)

    async def answer(self, request: Request, release: Callable[[], None]) -> Response:
        """Serve; `release` is called when the last byte has left. What goes wrong before the first becomes an error."""
        going_on = False
        try:
            if await admit(self.house, self.case):
                self.overseers = [Overseer(self.house, self.case, ask) for ask in self.case.asks]
            response = self._stream(release) if self.case.stream else await self._whole_or_waiting(request, release)
            going_on = isinstance(response, Going)
            return response
        except SafetyLayersError as error:
            await self._failed(error)
            return response_of(error, request_id=self.case.id)
        except BaseException as error:
            self.failed = type(error).__name__
            raise
        finally:
            if not going_on:
                self._end(release)

    async def _failed(self, error: Exception) -> None:
        """Log that a request came to nothing, so that no entry is the last word on something that did not happen."""
        self.failed = type(error).__name__
        facts: dict[str, JSON] = {"request": self.case.id, "error": self.failed}
        with suppress(SafetyLayersError, TimeoutError):  # the error may be that nothing can be logged
            async with asyncio.timeout(FAILED_SECONDS):
                await self.house.log.append(Entry(kind="failed", actor=self.house.actor, facts=facts))

    def _stream(self, release: Callable[[], None]) -> Response:
        events = with_signs_of_life(self._events(), b": still here\n\n", every_seconds=ALIVE_SECONDS)
        headers = SSE | self._headers()
        return Going(self.house, events, lambda: self._end(release), media_type="text/event-stream", headers=headers)

    async def _whole_or_waiting(self, request: Request, release: Callable[[], None]) -> Response:
        """Return the whole answer; while it waits for a person, a response that shows signs of life until it comes."""
        work = asyncio.ensure_future(self._whole())
        going_on = False
        try:
            gone = await settled(work, or_gone=request.is_disconnected, or_when=self._waits, every_seconds=LOOK_SECONDS)
            if work.done():
                return Response(work.result(), media_type="application/json", headers=self._headers())
            if gone:
                return Response(status_code=499)
            going_on = True
            body = with_signs_of_life(self._late(work), b" ", every_seconds=ALIVE_SECONDS)
            headers = {"x-accel-buffering": "no"} | self._headers()

            def end() -> None:
                work.cancel()
                self._end(release)

            return Going(self.house, body, end, media_type="application/json", headers=headers)
        finally:
            if not going_on:
                await cancelled(work)

    def _waits(self) -> bool:
        """Return whether a person has had a while to decide and has not."""
        return any(overseer.held_for > ALIVE_SECONDS for overseer in self.overseers)

    async def _late(self, work: asyncio.Future[bytes]) -> AsyncGenerator[bytes]:
        """Yield an answer whose status was sent before it was known. What goes wrong now goes into the body."""
        try:
            yield await work
        except SafetyLayersError as error:
            await self._failed(error)
            replies = [self._blocked() for _ in self.case.asks]
            answer = self.shape.whole(self.case, replies, self.usage, self._oversight())
            yield json.dumps(answer.model_dump(mode="json") | body_of(error)).encode()
        finally:
            await cancelled(work)

    def _headers(self) -> dict[str, str]:
        return {"x-request-id": self.case.id}

    def _end(self, release: Callable[[], None]) -> None:
        release()
        tracing.end(self._span, self.usage, self._finishes, self._oversight(), self.failed)
        metrics = self.house.metrics
        metrics.steered.inc(sum(overseer.draft.steered_tokens for overseer in self.overseers))
        metrics.tokens.labels("prompt").inc(self.usage.prompt_tokens)
        metrics.tokens.labels("completion").inc(self.usage.completion_tokens)
        for ruling in self._rulings():
            metrics.rulings.labels(ruling.by.split(":")[0], ruling.kind, ruling.action, str(ruling.shadow)).inc()

    async def _whole(self) -> bytes:
        """Return the whole answer."""
        if self.overseers:
            replies = await all_of([_collected(overseer) for overseer in self.overseers])
        else:
            replies = [self._blocked() for _ in self.case.asks]
        self._count(replies)
        self.house.must_run()
        if any(ruling.by == OPERATOR for ruling in self.case.decision.rulings):
            replies = [self._blocked() for _ in replies]  # stopped after some of them were ready
        answer = self.shape.whole(self.case, replies, self.usage, self._oversight())
        return answer.model_dump_json().encode()

    async def _events(self) -> AsyncGenerator[bytes]:
        """Yield the answer as server-sent events. What goes wrong ends it with an error frame."""
        replies = [Whole() for _ in self.case.asks]
        try:
            for place in range(len(replies)):
                opening = self.shape.opening(self.case, place)
                if opening:
                    yield _event(opening)
            if not self.overseers:
                for place, reply in enumerate(replies):
                    yield self._part(place, reply, self._refused())
            else:
                async with aclosing(merged([overseer.run() for overseer in self.overseers])) as parts:
                    async for place, part in parts:
                        yield self._part(place, replies[place], part)
            self._count(replies)
            if self.tell_usage:
                yield _event(self.shape.closing(self.case, self.usage, self._oversight()))
            yield b"data: [DONE]\n\n"
        except SafetyLayersError as error:
            yield f"data: {json.dumps(body_of(error))}\n\n".encode()
            await self._failed(error)
        except Exception as error:
            logger.exception("a stream broke off")
            yield f"data: {json.dumps(body_of(SafetyLayersError('The gateway failed.')))}\n\n".encode()
            await self._failed(error)

    def _part(self, place: int, reply: Whole, part: Cleared) -> bytes:
        self.house.must_run()  # parts of several replies may have waited for each other
        offset = len(reply.text)
        reply.add(part)
        return _event(self.shape.part(self.case, place, part, offset))

    def _refused(self) -> Cleared:
        return Cleared(text=self.case.enforced.policy.blocked_text, finish="content_filter")

    def _blocked(self) -> Whole:
        reply = Whole()
        reply.add(self._refused())
        return reply

    def _count(self, replies: Sequence[Whole]) -> None:
        each = max(1, len(replies) // max(1, len(self.case.prompts)))  # replies to one prompt
        asked = sum(reply.prompt_tokens for reply in replies[::each])
        written = sum(reply.completion_tokens for reply in replies)
        self._finishes = [reply.finish for reply in replies]
        self.usage = Usage(prompt_tokens=asked, completion_tokens=written, total_tokens=asked + written)

    def _rulings(self) -> list[Ruling]:
        found = [*self.case.decision.rulings, *self.house.standing_rulings(self.case.enforced.policy)]
        for overseer in self.overseers:
            found += overseer.draft.decision.rulings
        return found

    def _oversight(self) -> Oversight:
        done = [ruling for ruling in self._rulings() if ruling.effective is not Action.ALLOW]
        action = Action.ALLOW if self.case.allowed_by else strictest([ruling.effective for ruling in done])
        return Oversight(
            request_id=self.case.id,
            policy=self.case.enforced.policy.name,
            action=action,
            by=sorted({ruling.by for ruling in done} | ({"override"} if self.case.allowed_by else set())),
        )


async def _collected(overseer: Overseer) -> Whole:
    reply = Whole()
    async with aclosing(overseer.run()) as parts:
        async for part in parts:
            reply.add(part)
    return reply


class Going(StreamingResponse):
    """A response that goes on after its handler has returned, and tells when it has ended, however that comes about.

    Text may wait here for its reader. A reader who takes too long is left, and at a stop so is everyone who does.
    """

    def __init__(
        self,
        house: House,
        body: AsyncGenerator[bytes],
        end: Callable[[], None],
        *,
        media_type: str,
        headers: Mapping[str, str],
    ) -> None:
        """Send a body; call `end` after it."""
        super().__init__(body, media_type=media_type, headers=headers)
        self._house, self._body, self._end = house, body, end
        self._sending: asyncio.Timeout | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, and end."""

        async def within_time(message: Message) -> None:
            async with asyncio.timeout(READER_SECONDS) as self._sending:
                await send(message)
            self._sending = None

        self._house.going.add(self._leave)
        try:
            with suppress(TimeoutError):
                await super().__call__(scope, receive, within_time)
        finally:
            self._house.going.discard(self._leave)
            try:
                await self._body.aclose()
            finally:
                self._end()

    def _leave(self) -> None:
        """End a wait for the reader. What is not sent by now is not sent any more."""
        if self._sending is not None:
            with suppress(RuntimeError):
                self._sending.reschedule(asyncio.get_running_loop().time())


def _event(answer: BaseModel) -> bytes:
    return b"data: " + answer.model_dump_json(exclude_unset=True).encode() + b"\n\n"


def created() -> int:
    """Return the time as the API counts it."""
    return int(time.time())
