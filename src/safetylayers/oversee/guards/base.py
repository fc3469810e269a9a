"""What reads requests and replies: the interface of every guard, built in or plugged in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from safetylayers.oversee.words import Message

Stage = Literal["input", "output"]


@dataclass(frozen=True, slots=True)
class Passage:
    """Text to check. Of a reply that is being written, all of it so far."""

    stage: Stage
    text: str
    start: int = 0
    """What lies before this place has been checked by this guard already; it is there for context."""
    final: bool = True
    """Whether no more text will follow."""
    messages: tuple[Message, ...] = ()
    """The conversation that the reply answers; for a request, the request itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a guard found."""

    kind: str
    """What it is, as policies name it: email, iban, harm, too-long."""
    start: int = 0
    end: int = 0
    """Where in the passage's text; equal where it concerns the whole."""
    score: float | None = None
    replacement: str | None = None
    """What to write in its place when the policy says redact; None where it cannot be redacted."""
    reason: str = ""
    """One sentence for people. Never the found text itself."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a guard says of a passage."""

    checked: int
    """All text before this place has been read with enough context; what lies behind has to be shown once more."""
    findings: tuple[Finding, ...] = ()
    """All within the checked text or reaching into it, none reported before."""


class Guard(Protocol):
    """One guard. It may keep no state between passages: many replies are read at once."""

    @property
    def name(self) -> str:
        """As policies and the log name it."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of finding it can report."""

    async def check(self, passage: Passage) -> Verdict:
        """Read a passage. Whatever it raises counts as its error, and the policy says what follows."""


def held_back(text: str, *, final: bool, characters: int) -> int:
    """Return how far text is checked by a guard that has to see so many characters more of what is unfinished."""
    return len(text) if final else max(0, len(text) - characters)
