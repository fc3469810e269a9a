"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import Sequence

from safetylayers.oversee.gateway.answers import (
    Completion,
    CompletionLogprobs,
    Oversight,
    TextChoice,
    Usage,
    completion_logprobs,
)
from safetylayers.oversee.gateway.case import Case
from safetylayers.oversee.gateway.generation import Whole, created
from safetylayers.oversee.gateway.reply import Cleared
from safetylayers.oversee.gateway.requests import seeded
from safetylayers.oversee.gateway.schemas import CompletionRequest
from safetylayers.oversee.words import Ask, Sampling, Token

ENDED = Token(text="")
"""Stands for what ended a scored text. Tools that score a text ask for one token more and leave out the last entry:
where the model ends instead, without this one they would leave out the text's own last token."""


class CompletionShape:
    """How answers to completion requests are written."""

    def __init__(self, *, logprobs: bool, echo: bool) -> None:
        """Begin an answer."""
        self._created = created()
        self._logprobs, self._echo = logprobs, echo

    def whole(self, case: Case, replies: Sequence[Whole], usage: Usage, oversight: Oversight) -> Completion:
        """Return the answer in one."""
        choices = [self._choice(case, place, reply) for place, reply in enumerate(replies)]
        return Completion(
            id=case.id, created=self._created, model=case.model, choices=choices, usage=usage, safetylayers=oversight
        )

    def _choice(self, case: Case, place: int, reply: Whole) -> TextChoice:
        prompt = (case.asks[place].prompt or "") if self._echo and case.admitted else ""
        return TextChoice(
            index=place,
            text=prompt + reply.text,
            logprobs=self._told(reply, offset=len(prompt)) if self._logprobs else None,
            finish_reason=reply.finish,
        )

    def _told(self, part: Whole | Cleared, *, offset: int) -> CompletionLogprobs | None:
        """Return what is told of tokens whose text begins so many characters into the answer, or with the prompt.

        None for a withheld reply: empty lists would be added up to 0, which is certainty.
        """
        if part.finish == "content_filter":
            return None
        ended = (ENDED,) if self._echo and part.finish == "stop" else ()
        return completion_logprobs((*part.echoed, *part.tokens, *ended), offset=0 if part.echoed else offset)

    def opening(self, case: Case, place: int) -> Completion | None:
        """Return the prompt, where it is to be echoed."""
        prompt = case.asks[place].prompt
        if not (self._echo and prompt and case.admitted):
            return None
        return self._chunk(case, [TextChoice(index=place, text=prompt)])

    def part(self, case: Case, place: int, part: Cleared, offset: int) -> Completion:
        """Return a part of a completion."""
        choice = TextChoice(index=place, text=part.text, finish_reason=part.finish)
        if self._logprobs:
            begin = len(case.asks[place].prompt or "") if self._echo else 0
            choice = choice.model_copy(update={"logprobs": self._told(part, offset=begin + offset)})
        return self._chunk(case, [choice])

    def closing(self, case: Case, usage: Usage, oversight: Oversight) -> Completion:
        """Return usage and what the gateway did."""
        chunk = self._chunk(case, [])
        return chunk.model_copy(update={"safetylayers": oversight, "usage": usage})

    def _chunk(self, case: Case, choices: list[TextChoice]) -> Completion:
        return Completion(
            id=case.id, object="text_completion", created=self._created, model=case.model, choices=choices
        )


def completion_ask(name: str, place: int, body: CompletionRequest, sampling: Sampling) -> Ask:
    """Return what one of the completions is asked by; each prompt has n of them, one after another."""
    prompt = body.prompts[place // (body.n or 1)]
    return Ask(
        id=name,
        model=body.model,
        prompt=prompt,
        sampling=seeded(sampling, place % (body.n or 1)),
        echo=bool(body.echo),
        stream=bool(body.stream),
    )
