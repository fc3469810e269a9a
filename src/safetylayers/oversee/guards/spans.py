"""Spans found in text that is still being written: the same ones, however the text came in pieces.

A detector tries every place of the text, from left to right, and goes on behind each span that it found. What it finds
at a place depends on the text around that place alone, so the search can begin anew at any place that no span covers.
It says as well where the first try begins that more text could still change. `settle` reports what lies before that
place for every detector, and moves it back where it would cut a span.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Span(NamedTuple):
    """A part of a text, and what it is."""

    kind: str
    start: int
    end: int


class Detector(Protocol):
    """Finds spans of one kind."""

    def find(self, text: str, start: int) -> Span | None:
        """Return the first span, never an empty one, at or behind a place that no span covers."""

    def pending(self, text: str, start: int) -> int:
        """Return the first place at or behind `start` where more text could change the outcome; the end for none."""


class Settled(NamedTuple):
    """What is certain, whatever text follows."""

    spans: tuple[Span, ...]
    """All that begin before `upto`, by their places. None of them reaches behind it."""
    upto: int


def settle(detectors: Sequence[Detector], text: str, start: int, *, final: bool) -> Settled:
    """Find all spans from `start` on that more text cannot change.

    Args:
        detectors: what is looked for.
        text: all so far, or at least as much before `start` as the detectors look back on.
        start: the end of the text already settled, 0 or an earlier `upto`.
        final: whether no more text will follow.
    """
    found: list[Span] = []
    upto = len(text)
    for detector in detectors:
        spans, place = _settle_one(detector, text, start, final=final)
        found += spans
        upto = min(upto, place)
    while cut := [span.start for span in found if span.start < upto < span.end]:
        upto = min(cut)
    settled = [span for span in found if span.start < upto]
    return Settled(tuple(sorted(settled, key=lambda span: (span.start, span.end, span.kind))), upto)


def _settle_one(detector: Detector, text: str, start: int, *, final: bool) -> tuple[list[Span], int]:
    spans: list[Span] = []
    pending = len(text) if final else detector.pending(text, start)
    while (span := detector.find(text, start)) and span.start < pending:
        if span.end == len(text) and not final:  # it may grow
            return spans, span.start
        spans.append(span)
        start = span.end
        if pending < start:  # tries within a span do not count
            pending = detector.pending(text, start)
    return spans, pending


def without_overlaps(spans: Sequence[Span], kinds: Sequence[str]) -> list[Span]:
    """Keep, of spans that overlap, the one whose kind comes first in `kinds`."""
    kept: list[Span] = []  # by their places
    for span in sorted(spans, key=lambda span: (kinds.index(span.kind), span.start)):
        place = bisect_left(kept, span.start, key=lambda other: other.start)
        before, after = kept[place - 1 : place], kept[place : place + 1]
        if all(other.end <= span.start for other in before) and all(span.end <= other.start for other in after):
            kept.insert(place, span)
    return kept
