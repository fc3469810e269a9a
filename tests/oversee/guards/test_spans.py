from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from safetylayers.oversee.guards.candidates import CandidateDetector
from safetylayers.oversee.guards.spans import Span, settle, without_overlaps

SPANS = st.lists(
    st.builds(
        lambda kind, start, length: Span(kind, start, start + length),
        st.sampled_from("abc"), st.integers(0, 30), st.integers(1, 6),
    ),
    max_size=12,
)  # fmt: skip


def _detector(kind: str, pattern: str, unfinished: str) -> CandidateDetector:
    return CandidateDetector(kind, re.compile(pattern), re.compile(rf"(?:{unfinished})\Z"), longest=8)


# Matches of these overlap, and each depends on where the one before it ended.
DETECTORS = [
    _detector("pair", "aa", "a"),
    _detector("triple", "a(?:aa|ba)", "ab?|aa"),
    _detector("greedy", "ba{1,3}", "ba{0,3}"),
    _detector("ahead", "b(?!b)", "b"),
]


@given(st.text("ab", max_size=30), st.lists(st.integers(0, 30), max_size=6))
def test_pieces_give_the_spans_of_the_whole(text: str, cuts: list[int]) -> None:
    start, found = 0, []
    for end in sorted(min(cut, len(text)) for cut in cuts):
        spans, upto = settle(DETECTORS, text[:end], start, final=False)
        assert all(start <= span.start < span.end <= upto for span in spans)
        start, found = upto, found + list(spans)
    found += settle(DETECTORS, text, start, final=True).spans
    assert sorted(found) == sorted(settle(DETECTORS, text, 0, final=True).spans)


def test_only_what_can_still_become_a_span_is_held_back() -> None:
    assert settle(DETECTORS[:1], "ccacc", 0, final=False).upto == 5
    assert settle(DETECTORS[:1], "cca", 0, final=False).upto == 2
    assert settle(DETECTORS[:1], "cca", 0, final=True).upto == 3


@given(SPANS)
def test_of_overlapping_spans_the_first_kind_stays(spans: list[Span]) -> None:
    kept = without_overlaps(spans, "abc")
    assert kept == sorted(kept, key=lambda span: span.start)
    assert all(one.end <= other.start for one, other in pairwise(kept))
    for span in spans:
        if span not in kept:
            rivals = [other for other in kept if other.start < span.end and span.start < other.end]
            assert any(other.kind <= span.kind for other in rivals)
