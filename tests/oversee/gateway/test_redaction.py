"""Writing over findings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.errors import GuardError
from safetylayers.oversee.gateway.redaction import redact, redact_messages
from safetylayers.oversee.guards.base import Finding
from safetylayers.oversee.words import Message


def finding(start: int, end: int, text: str = "#") -> Finding:
    return Finding(kind="x", start=start, end=end, replacement=text)


def test_findings_are_written_over_in_place() -> None:
    assert redact("write to a@b.c today", 0, 20, [finding(9, 14, "[email]")]) == "write to [email] today"


def test_overlapping_findings_are_written_over_once_and_nothing_of_either_stays() -> None:
    assert redact("0123456789", 0, 10, [finding(2, 6), finding(4, 8), finding(8, 9, "!")]) == "01#!9"


def test_a_finding_that_reaches_out_of_the_stretch_is_an_error() -> None:
    with pytest.raises(GuardError):
        redact("0123456789", 3, 10, [finding(2, 6)])


def test_each_message_is_redacted_in_its_own_place() -> None:
    messages = (Message("system", "abc"), Message("user", "defgh"))
    assert redact_messages(messages, [finding(1, 2), finding(4, 6)]) == (
        Message("system", "a#c"),
        Message("user", "#fgh"),
    )


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=5))
def test_no_character_of_a_finding_is_left_and_every_other_one_is(text: str, spans: list[tuple[int, int]]) -> None:
    text = text.replace("\0", "x")
    found = [finding(a, b, "\0") for a, b in spans if a < b <= len(text)]
    covered = {place for item in found for place in range(item.start, item.end)}
    left = redact(text, 0, len(text), found).replace("\0", "")
    assert left == "".join(character for place, character in enumerate(text) if place not in covered)
