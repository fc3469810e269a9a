from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oversee.guards.streaming import CUTS, assert_cuts_change_nothing, found_in, held
from safetylayers.oversee.guards import Passage
from safetylayers.oversee.guards.limits import STEP, RepetitionGuard, RepetitionSettings, SizeGuard, SizeSettings
from safetylayers.oversee.words import Message

SIZE = SizeGuard("size", SizeSettings(request_characters=10, reply_characters=20, messages=2))
REPETITION = RepetitionGuard("loop", RepetitionSettings(times=4, least_characters=64, longest_phrase=60))


def _kinds(text: str, messages: int) -> list[str]:
    asked = tuple(Message("user", "x") for _ in range(messages))
    return [finding.kind for finding in asyncio.run(SIZE.check(Passage("input", text, messages=asked))).findings]


def test_requests_are_counted_in_characters_and_messages() -> None:
    assert _kinds("x" * 10, 2) == []
    assert _kinds("x" * 11, 2) == ["too-long"]
    assert _kinds("x", 3) == ["too-many-messages"]
    assert _kinds("x" * 11, 3) == ["too-long", "too-many-messages"]


def test_a_reply_is_too_long_from_the_first_character_too_many() -> None:
    assert found_in(SIZE, "x" * 20) == []
    assert found_in(SIZE, "x" * 20 + "yz") == [("too-long", "y")]
    assert held(SIZE, "x" * 15) == ""


def test_no_limit_is_no_limit() -> None:
    assert found_in(SizeGuard("size", SizeSettings(reply_characters=None)), "x" * 200_000) == []


@settings(deadline=None)
@given(st.integers(0, 40).map(lambda length: "x" * length), CUTS)
def test_cuts_change_nothing_for_size(text: str, cuts: list[float]) -> None:
    assert_cuts_change_nothing(SIZE, text, cuts)


@pytest.mark.parametrize(
    "phrase", ["ha ", "I am sorry. I am sorry, but no. ", "x", "The cat and the dog and the cat sat.\n"]
)
def test_a_phrase_over_and_over_is_found_once(phrase: str) -> None:
    assert [kind for kind, _ in found_in(REPETITION, "Well, here is the reply: " + phrase * 70)] == ["repetition"]


@pytest.mark.parametrize(
    "text",
    [
        "No. " * 3,
        "-" * 60 + "\nA heading between dashes, and prose that says something new in every line it has.\n" + "-" * 60,
        "".join(f"Item {number}: another thing. " for number in range(40)),
        "The cat and the dog and the cat sat. " * 3,
        ("A phrase that is longer than the guard looks for, with many words in it, all of them needed. " * 10),
    ],
)
def test_what_repeats_a_little_is_no_finding(text: str) -> None:
    assert found_in(REPETITION, text) == []


def test_repetition_is_found_soon_after_the_limit_and_again_when_it_begins_anew() -> None:
    prose = "Now for something else that has not been said here before, at some length. "
    text = "ha " * 40 + prose + "no " * 40
    first, second = asyncio.run(REPETITION.check(Passage("output", text))).findings
    assert 64 <= first.end <= 64 + STEP
    assert len("ha " * 40 + prose) + 64 <= second.end <= len("ha " * 40 + prose) + 64 + STEP


def test_less_than_a_step_is_held_back() -> None:
    assert held(REPETITION, "x" * (3 * STEP + 5)) == "x" * 5


PARTS = st.lists(
    st.tuples(st.sampled_from(["ha ", "x", "one two ", "Something new. "]), st.integers(1, 40)), max_size=6
)


@settings(deadline=None)
@given(PARTS.map(lambda parts: "".join(phrase * times for phrase, times in parts)), CUTS)
@example("x" * 100, [0.1, 0.63, 0.64, 0.65])
def test_cuts_change_nothing_for_repetition(text: str, cuts: list[float]) -> None:
    assert_cuts_change_nothing(REPETITION, text, cuts)


def test_long_replies_are_cheap() -> None:
    # The hardest text there is: the tail is everywhere, and no period fits.
    text = ("a" * 300 + "b") * 300
    begun = time.monotonic()
    found_in(RepetitionGuard("loop"), text)
    assert time.monotonic() - begun < 3
