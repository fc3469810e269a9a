"""Too much of it: long requests, long replies, and replies that go round in circles.

`SizeGuard` sees how many characters and messages there are, and holds nothing back. What gets past it: whatever is
within its limits; it counts no tokens.

`RepetitionGuard` sees whether a text ends, at any multiple of `STEP` characters, in one phrase over and over, character
for character; it holds back what lies behind the last multiple. What gets past it: repetition with changes (a counter
that counts up), phrases longer than `longest_phrase`, and an echo that stops in time. What was repeated before the
limit was reached has been let through by then.
"""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field

from safetylayers.oversee.guards.base import Finding, Passage, Verdict
from safetylayers.oversee.guards.settings import GuardSettings
from safetylayers.oversee.guards.threads import off_the_loop

STEP = 16
_TAIL = 32
"""Where a phrase repeats, so does this much of the text's end; its earlier places tell the possible periods."""


class SizeSettings(GuardSettings):
    """Settings of a `SizeGuard`. None is no limit."""

    request_characters: int | None = Field(default=100_000, ge=1)
    """All messages of a request together."""
    reply_characters: int | None = Field(default=100_000, ge=1)
    messages: int | None = Field(default=200, ge=1)
    """In a request."""


class SizeGuard:
    """Finds requests and replies that are too long, and requests of too many messages."""

    kinds: tuple[str, ...] = ("too-long", "too-many-messages")

    def __init__(self, name: str, settings: SizeSettings) -> None:
        self.name = name
        self._settings = settings

    async def check(self, passage: Passage) -> Verdict:
        """Count."""
        limits, length = self._settings, len(passage.text)
        findings = []
        if passage.stage == "input":
            if limits.request_characters is not None and length > limits.request_characters:
                reason = f"The request has {length} characters; {limits.request_characters} are allowed."
                findings.append(Finding("too-long", reason=reason))
            if limits.messages is not None and len(passage.messages) > limits.messages:
                reason = f"The request has {len(passage.messages)} messages; {limits.messages} are allowed."
                findings.append(Finding("too-many-messages", reason=reason))
        elif limits.reply_characters is not None and passage.start <= limits.reply_characters < length:
            reason = f"The reply has more than {limits.reply_characters} characters."
            findings.append(Finding("too-long", limits.reply_characters, limits.reply_characters + 1, reason=reason))
        return Verdict(length, tuple(findings))


class RepetitionSettings(GuardSettings):
    """Settings of a `RepetitionGuard`."""

    times: int = Field(default=8, ge=3)
    """So often in a row is a phrase said when it is a finding."""
    least_characters: int = Field(default=120, ge=2 * _TAIL)
    """So long is the whole repetition at least; dots and dashes in a row are common."""
    longest_phrase: int = Field(default=400, ge=1, le=4000)


class RepetitionGuard:
    """Finds replies that say one phrase over and over."""

    kinds: tuple[str, ...] = ("repetition",)

    def __init__(self, name: str, settings: RepetitionSettings | None = None) -> None:
        self.name = name
        self._settings = settings or RepetitionSettings()

    async def check(self, passage: Passage) -> Verdict:
        """Look at the text's end, at each step and at the very end; report where the limit is passed."""
        return await off_the_loop(len(passage.text) - passage.start, self._check, passage)

    def _check(self, passage: Passage) -> Verdict:
        text, start = passage.text, passage.start
        ends = [*range(start - start % STEP + STEP, len(text) + 1, STEP)]
        if passage.final and start < len(text) and len(text) % STEP:
            ends.append(len(text))
        findings, before = [], self._repeats(text, start)
        for begin, end in pairwise((start, *ends)):
            now = self._repeats(text, end)
            if now and not before:
                reason = "The text says one phrase over and over."
                findings.append(Finding("repetition", begin, end, reason=reason))
            before = now
        return Verdict(ends[-1] if ends else start, tuple(findings))

    def _repeats(self, text: str, end: int) -> bool:
        """Whether the text up to a place ends in a repetition.

        A text whose last n characters have period p has its last `_TAIL` characters p places earlier as well, so those
        places are the periods to try.
        """
        limits = self._settings
        if end < limits.least_characters:
            return False
        tail, before = text[end - _TAIL : end], end - 1
        while (place := text.rfind(tail, max(0, end - _TAIL - limits.longest_phrase), before)) >= 0:
            period = end - _TAIL - place
            length = max(limits.times * period, limits.least_characters)
            if length <= end and text[end - length : end - period] == text[end - length + period : end]:
                return True
            before = place + _TAIL - 1
        return False
