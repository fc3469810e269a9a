"""Input perturbation as guards: perplexity, erase-and-check, and SmoothLLM's vote, on what users ask.

What they see: requests only, each message of a user by itself, as the methods are defined for one prompt; replies pass
unread. What they hold back of a stream: nothing. A guard cannot reach the served model, so each loads one of its
own: give the served model's folder for the methods as published, or a smaller one. What gets past them: jailbreaks in
plain language, and a request spread over several messages. Any score that is no number is the guard's error.

`perplexity` finds text that no person would type (arXiv 2308.14132). `erase-and-check` finds a request of which any
erasure asks for harm, by a safety map's probe (arXiv 2309.02705). `smoothllm` finds a request of which too few changed
copies are answered (arXiv 2310.03684); it blocks or lets pass, and the reply is the served model's own, to the request
as it was typed: a reply drawn from the majority is what `harden.perturb.SmoothLLM` gives.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from safetylayers.errors import GuardError
from safetylayers.oversee.guards.answering import LocalSettings
from safetylayers.oversee.guards.base import Finding, Passage, Verdict
from safetylayers.oversee.guards.settings import GuardSettings
from safetylayers.oversee.guards.threads import ModelThread

if TYPE_CHECKING:
    from safetylayers.models import ChatModel


class PerplexitySettings(GuardSettings):
    """Settings of a `PerplexityGuard`."""

    local: LocalSettings
    """The model whose surprise counts."""
    window: int = Field(default=10, ge=0)
    """Tokens; 0 takes the whole message as one."""
    threshold: float | None = Field(default=None, gt=0)
    """Nats a token. By itself it is calibrated on the built-in normal prompts when the model is loaded."""
    false_positives: float = Field(default=0.01, ge=0, lt=1)
    """Share of those prompts that may be found."""
    template: Literal["chat", "alpaca"] = "chat"


class EraseAndCheckSettings(GuardSettings):
    """Settings of an `EraseAndCheckGuard`."""

    local: LocalSettings
    """The model whose safety map it is."""
    map: Path
    """Folder of the safety map."""
    layer: int | None = Field(default=None, ge=0)
    """Whose probe is asked; by itself the best one's."""
    mode: Literal["suffix", "insertion", "infusion"] = "suffix"
    tokens: int = Field(default=20, ge=0)
    """Erased at most."""
    limit: int = Field(default=4096, ge=1)
    """A message with more erasures is found unread."""
    threshold: float | None = None
    """Log-odds. By itself it is calibrated on the built-in normal prompts when the model is loaded."""
    false_positives: float = Field(default=0.05, ge=0, lt=1)
    """Share of those prompts that may be found."""


class SmoothSettings(GuardSettings):
    """Settings of a `SmoothGuard`."""

    local: LocalSettings
    """The model that replies to the copies, all of them in one batch."""
    copies: int = Field(default=10, ge=1)
    rate: float = Field(default=0.1, ge=0, le=1)
    """Share of the characters that are changed."""
    change: Literal["swap", "insert", "patch"] = "swap"
    alphabet: Literal["printable", "letters"] = "printable"
    threshold: float = Field(default=0.5, ge=0, lt=1)
    """More than this share of the copies has to be answered."""
    max_new_tokens: int = Field(default=24, ge=1)
    """Of each copy's reply: enough to see whether it refuses."""
    template: Literal["chat", "alpaca"] = "chat"


class Seen(NamedTuple):
    """What a method says of one message."""

    found: bool
    score: float | None


Read = Callable[[list[str]], list[Seen]]
"""A method that is ready: reads messages, says of each what it finds."""


class PerturbationGuard:
    """What the three have in common: a model in a thread of its own, loaded when it is first needed, or by `open`."""

    def __init__(self, name: str, kind: str, reason: str, load: Callable[[], Read]) -> None:
        self.name = name
        self.kinds = (kind,)
        self._reason = reason
        self._thread: ModelThread[Read] = ModelThread(name, load)

    async def open(self) -> None:
        """Load the model, and calibrate, now. Raises what `check` would."""
        await self._thread.ask(lambda _read: None)

    async def check(self, passage: Passage) -> Verdict:
        """Read a request's messages by users; a reply is let through.

        Raises:
            GuardError: a score is no number.
            ModelError, MapError: the model or its map cannot be loaded.
        """
        messages = _messages(passage)
        if passage.stage == "output" or not messages:
            return Verdict(len(passage.text))
        texts = [passage.text[start:end] for start, end in messages]
        seen = await self._thread.ask(lambda read: read(texts))
        if any(each.score is not None and not math.isfinite(each.score) for each in seen):
            raise GuardError(f"{self.name}: the model gives no number.", mend="Its weights may be damaged.")
        findings = [
            Finding(self.kinds[0], start, end, each.score, reason=self._reason)
            for (start, end), each in zip(messages, seen, strict=True)
            if each.found
        ]
        return Verdict(len(passage.text), tuple(findings))

    async def aclose(self) -> None:
        """Let go of the model."""
        self._thread.close()


def _messages(passage: Passage) -> list[tuple[int, int]]:
    """Return where the messages of users stand in a request's text; all of it, where the text is not the messages'."""
    whole = [(0, len(passage.text))]
    if "\n".join(message.content for message in passage.messages) != passage.text:
        places, users = whole, [True]
    else:
        places, users, start = [], [], 0
        for message in passage.messages:
            places.append((start, start + len(message.content)))
            users.append(message.role == "user")
            start += len(message.content) + 1
    return [place for place, user in zip(places, users, strict=True) if user and passage.text[slice(*place)].strip()]


def perplexity_guard(name: str, settings: PerplexitySettings) -> PerturbationGuard:
    """Return a guard that finds text which no person would type."""
    reason = "The message has a passage that is very unlikely as text."
    return PerturbationGuard(name, "unlikely-text", reason, partial(_perplexity, settings))


def erase_and_check_guard(name: str, settings: EraseAndCheckSettings) -> PerturbationGuard:
    """Return a guard that finds requests for harm behind added tokens."""
    reason = "The message, or part of it, asks for harm."
    return PerturbationGuard(name, "harm", reason, partial(_erase_and_check, settings))


def smooth_guard(name: str, settings: SmoothSettings) -> PerturbationGuard:
    """Return a guard that finds requests which are not answered once some characters are changed."""
    reason = "Too few copies of the message with changed characters are answered."
    return PerturbationGuard(name, "refused-when-changed", reason, partial(_smooth, settings))


def _model(settings: LocalSettings) -> ChatModel:
    from safetylayers.models import ChatModel

    return ChatModel.load(settings.source, device=settings.device)


def _perplexity(settings: PerplexitySettings) -> Read:
    from safetylayers.harden.perturb import PerplexityFilter, Surprise
    from safetylayers.prompts import builtin
    from safetylayers.targets import ModelTarget

    model = _model(settings.local)
    surprise = Surprise(model, settings.window, settings.template)
    threshold = settings.threshold
    if threshold is None:
        normal = builtin("normal", "calibration").texts
        target = ModelTarget(model, settings.template)
        threshold = PerplexityFilter.calibrated(
            target, surprise, normal, false_positives=settings.false_positives
        ).threshold

    def read(texts: list[str]) -> list[Seen]:
        return [Seen(not score <= threshold, score) for score, _ in surprise.of(texts)]

    return read


def _erase_and_check(settings: EraseAndCheckSettings) -> Read:
    from dataclasses import replace

    from safetylayers.harden.perturb import EraseAndCheck, ProbeCheck, token_ends
    from safetylayers.locate import SafetyMap
    from safetylayers.prompts import builtin
    from safetylayers.targets import ModelTarget

    model = _model(settings.local)
    check = ProbeCheck.of(model, SafetyMap.load(settings.map), layer=settings.layer)
    made = EraseAndCheck(
        ModelTarget(model, check.template), check, token_ends(model.tokenizer), "tokens", settings.mode,
        settings.tokens, settings.limit,
    )  # fmt: skip
    if settings.threshold is not None:
        made = replace(made, check=replace(check, threshold=settings.threshold))
    else:
        normal = builtin("normal", "calibration").texts
        made = made.calibrated(normal, false_positives=settings.false_positives)
    return lambda texts: [Seen(found.harmful, found.score) for found in made.inspect(texts)]


def _smooth(settings: SmoothSettings) -> Read:
    from safetylayers.harden.perturb import SmoothLLM
    from safetylayers.targets import ModelTarget

    target = ModelTarget(_model(settings.local), settings.template, settings.max_new_tokens)
    smooth = SmoothLLM(
        target, settings.copies, settings.rate, settings.change, settings.alphabet, settings.threshold,
        seed=secrets.randbits(63),
    )  # fmt: skip

    def read(texts: list[str]) -> list[Seen]:
        return [Seen(share <= settings.threshold, share) for share in smooth.complied(texts)]

    return read
