"""Answers in the form of the OpenAI API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel

from safetylayers.oversee.gateway.reply import Ending
from safetylayers.oversee.words import Token


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """Any error."""

    error: ErrorDetail


class TopLogprob(BaseModel):
    """A token that was likely as well."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of the reply."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Log-probabilities of a chat's reply."""

    content: list[TokenLogprob]
    refusal: None = None


class CompletionLogprobs(BaseModel):
    """Log-probabilities of a completion, one list entry a token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Oversight(BaseModel):
    """What the gateway did; clients that do not know the field pass it over."""

    request_id: str
    policy: str
    action: str
    """The strictest thing that was done to the request or a reply."""
    by: list[str]
    """Guards, monitors and reviewers on whose account."""


class ReplyMessage(BaseModel):
    """The reply's message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One reply."""

    index: int
    message: ReplyMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Ending


class ChatCompletion(BaseModel):
    """Answer to a chat request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    safetylayers: Oversight


class Delta(BaseModel):
    """What is new in a streamed reply."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """A part of one streamed reply."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: Ending | None = None


class ChatChunk(BaseModel):
    """A part of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    safetylayers: Oversight | None = None


class TextChoice(BaseModel):
    """One completion, or a part of a streamed one."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Ending | None = None


class Completion(BaseModel):
    """Answer to a completion request, or a part of a streamed one."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None
    safetylayers: Oversight | None = None


class Model(BaseModel):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "safetylayers"


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]


class Moderation(BaseModel):
    """What the guards say of one text."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]


class ModerationAnswer(BaseModel):
    """What they say of all of them."""

    id: str
    model: str
    results: list[Moderation]


class Health(BaseModel):
    """Whether this replica answers, and in which mode."""

    status: Literal["ok", "unavailable"]
    mode: str


def chat_logprobs(tokens: Sequence[Token]) -> ChatLogprobs:
    """Return a chat's log-probabilities."""
    return ChatLogprobs(
        content=[
            TokenLogprob(
                **_token(token.text, token.logprob),
                top_logprobs=[TopLogprob(**_token(text, logprob)) for text, logprob in token.top],
            )
            for token in tokens
        ]
    )


def _token(text: str, logprob: float | None) -> dict[str, Any]:
    # The API has no way to say that there is no number; -9999 is what its authors' own servers send.
    return {"token": text, "logprob": -9999.0 if logprob is None else logprob, "bytes": list(text.encode())}


def completion_logprobs(tokens: Sequence[Token], *, offset: int = 0) -> CompletionLogprobs:
    """Return a completion's log-probabilities; offsets count characters from the text's beginning."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return CompletionLogprobs(
        tokens=[token.text for token in tokens],
        token_logprobs=[token.logprob for token in tokens],
        top_logprobs=[dict(token.top) if token.logprob is not None else None for token in tokens],
        text_offset=offsets,
    )
