"""What is asked of a model and what comes back, in the words that engines, guards and the gateway share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    """Texts that end the reply; they are left out of it."""
    seed: int | None = None
    """One seed, one reply, whatever else is in the batch."""
    logprobs: int | None = None
    """None for none; otherwise how many likely alternatives to name at each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One reply that is asked for."""

    id: str
    """Unique; orders and traces name it."""
    model: str
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    """Raw text to go on from, in place of messages."""
    sampling: Sampling = field(default_factory=Sampling)
    echo: bool = False
    """Whether the prompt's own tokens come first, with their log-probabilities."""
    steered: bool = True
    """Whether the gate may correct this reply; otherwise it only observes."""
    refuse: bool = False
    """Whether the gate is ordered open from the first token."""
    shift: float = 0.0
    """Added to the gate's thresholds, in log-odds; below zero it opens sooner."""
    stream: bool = False
    """Whether pieces are wanted as they come; a server upstream is asked likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the monitors inside the model saw at one token."""

    scores: Mapping[str, float]
    """Head -> its mean score over the attached layers, before calibration."""
    risk: float | None
    """Log-odds above the nearest threshold; at 0 it is passed. None: no number came, which counts as passed."""
    open: bool = False
    """Whether the gate changed this token."""
    strength: float = 0.0
    """By how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token of a prompt or reply."""

    text: str
    id: int | None = None
    logprob: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    """Likely alternatives and their log-probabilities, the likeliest first."""
    reading: Reading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of a reply, in the order of its making. A reply's first piece has no text and tells of the prompt."""

    text: str = ""
    tokens: tuple[Token, ...] = ()
    """Those whose text this is. Engines that do not see tokens leave them out."""
    prompt_tokens: int | None = None
    """In the first piece: how many tokens the prompt has, where that is known."""
    prompt_reading: Reading | None = None
    """In the first piece: what the monitors saw at the prompt's end."""
    echoed: tuple[Token, ...] = ()
    """In the first piece, where asked for: the prompt's own tokens."""
    finish: Finish | None = None
    """In the last piece."""
    completion_tokens: int | None = None
    """In the last piece, from engines that do not show tokens: how many the reply has."""
