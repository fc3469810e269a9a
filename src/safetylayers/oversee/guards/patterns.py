"""The user's own regular expressions.

What it sees: the text as it stands; with `fold`, as `normal` folds it, so that zero-width characters and full-width
letters hide nothing. What it holds back: the last `longest` characters of unfinished text, and a match that touches its
end until it is decided. What gets past it: other words, other spellings; of a streamed reply, a match that takes more
than its `longest` characters, lookahead included, to be told (in whole texts it is found all the same).

Patterns are compiled with the `regex` package, which reads those of Python's `re`: its matching can be timed, and lets
other threads run meanwhile, which `re` does not. A pattern that backtracks without end (a "catastrophic" one) therefore
costs `seconds` at most and is then the guard's error. Whoever can write such a text can spend that time at every check;
only a better pattern helps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import regex  # type: ignore[import-untyped]  # it has no types
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from safetylayers.errors import GuardError
from safetylayers.oversee.guards.base import Finding, Passage, Verdict
from safetylayers.oversee.guards.normal import Normal, normal
from safetylayers.oversee.guards.settings import GuardSettings
from safetylayers.oversee.guards.spans import Span, settle
from safetylayers.oversee.guards.threads import off_the_loop


class Pattern(BaseModel):
    """One regular expression. In settings, a text alone stands for one with all defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    regex: str
    """In Python's syntax; flags go in front, as in "(?i)project x"."""
    longest: int = Field(default=200, ge=1, le=100_000)
    """So many characters a match may have, with what the pattern looks ahead at. They are held back in streams."""
    replacement: str | None = "[removed]"
    """What to write in place of a match when the policy says redact; none where it cannot be redacted."""

    @field_validator("regex")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            compiled = regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        if compiled.search("") is not None:
            raise ValueError("it matches the empty text, and so everywhere")
        return pattern


def _spelt_out(value: Any) -> Any:
    return {"regex": value} if isinstance(value, str) else value


class PatternSettings(GuardSettings):
    """Settings of a `PatternGuard`."""

    patterns: Mapping[str, Annotated[Pattern, BeforeValidator(_spelt_out)]] = Field(min_length=1)
    """Kind of finding -> what tells it."""
    fold: bool = False
    """Whether look-alikes and what cannot be seen are folded first. Patterns then meet "-" for every dash, and no
    accents that are characters of their own."""
    seconds: float = Field(default=0.1, gt=0)
    """So long one search may take."""


class PatternGuard:
    """Finds what matches the user's own regular expressions."""

    def __init__(self, name: str, settings: PatternSettings) -> None:
        self.name = name
        self.kinds = tuple(settings.patterns)
        self._settings = settings
        self._detectors = [
            _PatternDetector(name, kind, pattern, settings.seconds) for kind, pattern in settings.patterns.items()
        ]

    async def check(self, passage: Passage) -> Verdict:
        """Find all matches. Raises GuardError where a search takes too long."""
        return await off_the_loop(len(passage.text) - passage.start, self._check, passage)

    def _check(self, passage: Passage) -> Verdict:
        text = normal(passage.text, passage.start) if self._settings.fold else _as_it_is(passage)
        settled = settle(self._detectors, text.text, text.start, final=passage.final)
        findings = tuple(self._finding(text, span) for span in settled.spans)
        return Verdict(text.origin(settled.upto), findings)

    def _finding(self, text: Normal, span: Span) -> Finding:
        start, end = text.span(span.start, span.end)
        return Finding(
            span.kind,
            start,
            end,
            replacement=self._settings.patterns[span.kind].replacement,
            reason=f"The pattern of {span.kind} matches.",
        )


def _as_it_is(passage: Passage) -> Normal:
    return Normal(passage.text, range(len(passage.text)), len(passage.text), passage.start)


class _PatternDetector:
    """Searches for one pattern, within its time."""

    def __init__(self, guard: str, kind: str, pattern: Pattern, seconds: float) -> None:
        self._compiled = regex.compile(pattern.regex)
        self._guard, self._kind, self._longest, self._seconds = guard, kind, pattern.longest, seconds

    def find(self, text: str, start: int) -> Span | None:
        """Return the first match. Raises GuardError where that takes too long, or it is an empty one."""
        try:
            match = self._compiled.search(text, start, timeout=self._seconds)
        except TimeoutError as error:
            raise GuardError(
                f"{self._guard}: the pattern of {self._kind} took longer than {self._seconds} s on a text.",
                mend="Write it without repeats within repeats, such as (a+)+.",
            ) from error
        if match is None:
            return None
        if match.start() == match.end():
            raise GuardError(
                f"{self._guard}: the pattern of {self._kind} matches no characters at some place.",
                mend="Let it match at least one character.",
            )
        return Span(self._kind, match.start(), match.end())

    def pending(self, text: str, start: int) -> int:
        """Return where what is held back begins."""
        return max(start, len(text) - self._longest)
