"""Requests in the form of the OpenAI API.

What would change the reply and is not supported is refused by name. Labels that callers put on their requests (name,
user, metadata) are taken and not used.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from safetylayers.oversee.gateway.errors import RequestError
from safetylayers.oversee.words import Message, Role, Sampling

LONGEST = 10_000_000
"""Characters of one message; the policy's limit on the body is far below."""


LONGEST_STOP = 200


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _must_not(value: bool) -> bool:
    if value:
        raise ValueError("not supported: leave it out, or give false")
    return value


def _whole(value: object) -> object:
    """Return a number without its ".0": JSON does not know integers, and some clients write all numbers like this."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
Body = TypeVar("Body", bound=_Request)


class TextPart(_Request):
    """A part of a message; only text can be checked, so only text is taken."""

    type: Literal["text"]
    text: str = Field(max_length=LONGEST)


class ChatMessage(_Request):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def message(self) -> Message:
        """Return the turn as the engines know it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        role: Role = "system" if self.role == "developer" else self.role
        return Message(role, text)


class StreamOptions(_Request):
    """What a stream tells besides text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class TextFormat(_Request):
    """The only format of replies there is."""

    type: Literal["text"] = "text"


class _Generation(_Request):
    """What both kinds of request share."""

    model: Annotated[str, Field(min_length=1, max_length=500)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128), Whole] | None = 1
    stop: Stop | Annotated[list[Stop], Field(max_length=8)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63), Whole] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=0, le=2**31), Whole] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    user: str | None = None

    @field_validator("presence_penalty", "frequency_penalty", mode="before")
    @classmethod
    def _none_or_zero(cls, value: object) -> object:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value != 0):
            raise ValueError("penalties are not supported: leave them out, or give 0")
        return None if value is None else 0

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end a reply."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def _sampling(self, *, max_tokens: int, logprobs: int | None) -> Sampling:
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            max_tokens=max_tokens,
            stop=self.stops,
            seed=self.seed,
            logprobs=logprobs,
        )


class ChatRequest(_Generation):
    """POST /v1/chat/completions."""

    # For the API's description: what `_agree` says.
    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["top_logprobs"], "properties": {"top_logprobs": {"type": "integer"}}},
            "then": {"required": ["logprobs"], "properties": {"logprobs": {"const": True}}},
        }
    )

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1, le=2**31), Whole] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31), Whole] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20), Whole] | None = None
    response_format: TextFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none"] | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    store: Annotated[bool, AfterValidator(_must_not), Field(json_schema_extra={"const": False})] | None = None

    @model_validator(mode="after")
    def _agree(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self

    def sampling(self, *, most: int, default: int) -> Sampling:
        """Return how tokens are chosen, within the policy's limits."""
        wanted = self.max_completion_tokens or self.max_tokens or default
        return self._sampling(
            max_tokens=min(wanted, most), logprobs=(self.top_logprobs or 0) if self.logprobs else None
        )


class CompletionRequest(_Generation):
    """POST /v1/completions."""

    # For the API's description: what `_agree` says.
    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["max_tokens"], "properties": {"max_tokens": {"const": 0}}},
            "then": {"required": ["echo"], "properties": {"echo": {"const": True}}},
        }
    )

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=128)]
    echo: bool | None = False
    logprobs: Annotated[int, Field(ge=0, le=20), Whole] | None = None
    best_of: Annotated[int, Field(ge=1, le=1), Whole] | None = None
    suffix: Literal[""] | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        if isinstance(value, list) and any(isinstance(part, int | list) for part in value):
            raise ValueError("token ids are not taken, because guards read text: send the text")
        return value

    @property
    def prompts(self) -> list[str]:
        """All of the prompts."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    def sampling(self, *, most: int, default: int) -> Sampling:
        """Return how tokens are chosen, within the policy's limits. No tokens at all score the prompt."""
        wanted = default if self.max_tokens is None else self.max_tokens
        return self._sampling(max_tokens=min(wanted, most), logprobs=self.logprobs)

    @model_validator(mode="after")
    def _agree(self) -> CompletionRequest:
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("no tokens and no echo: there would be nothing to answer")
        return self


class ModerationRequest(_Request):
    """POST /v1/moderations."""

    input: Annotated[str, Field(max_length=LONGEST)] | Annotated[list[str], Field(min_length=1, max_length=128)]
    model: str | None = None

    @property
    def texts(self) -> list[str]:
        """All of the texts."""
        return [self.input] if isinstance(self.input, str) else self.input


def parse(kind: type[Body], body: bytes) -> Body:
    """Read a request's body.

    Raises:
        RequestError: it is no JSON, or a field is unknown, missing or out of range; it says which.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or None
        said = first["msg"].removeprefix("Value error, ")
        message = f"{place}: {said}" if place else said
        if first["type"] == "extra_forbidden":
            message = f"{place}: not supported here."
        raise RequestError(message, param=place) from error
