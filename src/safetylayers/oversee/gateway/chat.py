"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.oversee.gateway.answers import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChunkChoice,
    Delta,
    Oversight,
    ReplyMessage,
    Usage,
    chat_logprobs,
)
from safetylayers.oversee.gateway.case import Case
from safetylayers.oversee.gateway.generation import Whole, created
from safetylayers.oversee.gateway.reply import Cleared
from safetylayers.oversee.gateway.requests import seeded
from safetylayers.oversee.gateway.schemas import ChatRequest
from safetylayers.oversee.words import Ask, Message, Sampling


class ChatShape:
    """How answers to chat requests are written."""

    def __init__(self, *, logprobs: bool) -> None:
        """Begin an answer."""
        self._created = created()
        self._logprobs = logprobs

    def whole(self, case: Case, replies: Sequence[Whole], usage: Usage, oversight: Oversight) -> ChatCompletion:
        """Return the answer in one."""
        choices = [
            ChatChoice(
                index=place,
                message=ReplyMessage(content=reply.text),
                logprobs=chat_logprobs(reply.tokens) if self._logprobs else None,
                finish_reason=reply.finish,
            )
            for place, reply in enumerate(replies)
        ]
        return ChatCompletion(
            id=case.id, created=self._created, model=case.model, choices=choices, usage=usage, safetylayers=oversight
        )

    def opening(self, case: Case, place: int) -> ChatChunk:
        """Return the reply's role."""
        return self._chunk(
            case, [ChunkChoice(index=place, delta=Delta(role="assistant", content=""), finish_reason=None)]
        )

    def part(self, case: Case, place: int, part: Cleared, offset: int) -> ChatChunk:  # noqa: ARG002 - a chat has no offsets
        """Return a part of a reply."""
        delta = Delta(content=part.text) if part.text else Delta()
        choice = ChunkChoice(index=place, delta=delta, finish_reason=part.finish)
        if self._logprobs:
            choice = choice.model_copy(update={"logprobs": chat_logprobs(part.tokens)})
        return self._chunk(case, [choice])

    def closing(self, case: Case, usage: Usage, oversight: Oversight) -> ChatChunk:
        """Return usage and what the gateway did."""
        chunk = self._chunk(case, [])
        return chunk.model_copy(update={"safetylayers": oversight, "usage": usage})

    def _chunk(self, case: Case, choices: list[ChunkChoice]) -> ChatChunk:
        return ChatChunk(
            id=case.id, object="chat.completion.chunk", created=self._created, model=case.model, choices=choices
        )


def messages_of(body: ChatRequest) -> tuple[Message, ...]:
    """Return the conversation."""
    return tuple(message.message() for message in body.messages)


def chat_ask(name: str, place: int, body: ChatRequest, messages: tuple[Message, ...], sampling: Sampling) -> Ask:
    """Return what one of the replies is asked by."""
    return Ask(id=name, model=body.model, messages=messages, sampling=seeded(sampling, place), stream=bool(body.stream))
