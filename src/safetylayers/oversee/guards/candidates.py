"""A detector made of two regular expressions and a judge.

The first expression tells where a try can succeed, the judge whether it does and where the span ends; it may look no
farther than the expression could. The second one matches unfinished text from a place to its end where more text could
still change the outcome of a try at that place; it may match too often, never too seldom.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from safetylayers.oversee.guards.spans import Span

Judge = Callable[[str, re.Match[str]], int | None]
"""Given the text and a candidate, says where the span ends; None where it is none."""


def whole(_text: str, match: re.Match[str]) -> int:
    """Judge every candidate to be what it looks like."""
    return match.end()


@dataclass(frozen=True, slots=True)
class CandidateDetector:
    """Finds one kind of thing in normal text."""

    kind: str
    candidate: re.Pattern[str]
    unfinished: re.Pattern[str]
    """Ends with the end of the text."""
    longest: int
    """No try looks at more characters than that, its own place and the one behind its end included."""
    judge: Judge = whole

    def find(self, text: str, start: int) -> Span | None:
        """Return the first span at or behind a place that no span covers."""
        while match := self.candidate.search(text, start):
            end = self.judge(text, match)
            if end is not None:
                return Span(self.kind, match.start(), end)
            start = match.start() + 1
        return None

    def pending(self, text: str, start: int) -> int:
        """Return where the first try begins that more text could change; the end for none."""
        match = self.unfinished.search(text, max(start, len(text) - self.longest))
        return match.start() if match else len(text)
