"""What each model answered, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from safetylayers.report.checks import require

Tone = Literal["good", "bad", "neutral"]


@dataclass(frozen=True)
class Reply:
    """One model's answer and how it was judged."""

    model: str
    text: str
    verdict: str = ""
    """As "refused"; nothing for no badge."""
    tone: Tone = "neutral"
    """Whether the verdict is what one wants here: a refusal is good for a harmful prompt, bad for another."""

    def __post_init__(self) -> None:
        require(self.tone in get_args(Tone), f"A verdict's tone is good, bad or neutral, not {self.tone!r}.")


@dataclass(frozen=True)
class Replies:
    """A prompt and the replies to it."""

    prompt: str
    replies: Sequence[Reply]
    kind: str = ""
    """Of the prompt, as "harmful" or "harmless, looks dangerous"."""

    def __post_init__(self) -> None:
        require(bool(self.replies), f"There is no reply to show for {self.prompt[:60]!r}.")
