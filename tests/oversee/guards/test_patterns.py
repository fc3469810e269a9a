from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from oversee.guards.streaming import CUTS, assert_cuts_change_nothing, found_in, held
from safetylayers.errors import GuardError
from safetylayers.oversee.guards import Passage
from safetylayers.oversee.guards.patterns import PatternGuard, PatternSettings


def _guard(*, fold: bool = False, **patterns: object) -> PatternGuard:
    return PatternGuard("mine", PatternSettings.model_validate({"patterns": patterns, "fold": fold}))


PROJECT = _guard(project={"regex": r"(?i)\bproject\s{1,3}falcon\b", "longest": 20, "replacement": "[project]"})
OVERLAPPING = _guard(
    fold=True,
    pair={"regex": "aa", "longest": 2},
    triple={"regex": "a(?:aa|ba)", "longest": 3},
    word={"regex": r"\bb{1,3}\b", "longest": 4},
    ahead={"regex": "b(?=a)", "longest": 2},
)


def test_a_match_is_found_with_its_place_and_its_replacement() -> None:
    [finding] = asyncio.run(PROJECT.check(Passage("input", "About Project  Falcon."))).findings
    assert (finding.kind, finding.start, finding.end) == ("project", 6, 21)
    assert finding.replacement == "[project]"
    assert "Falcon" not in finding.reason


@settings(deadline=None)
@given(st.text("ab \u200b", max_size=30), CUTS)
@example("a\u200ba\u200ba b", [0.2, 0.5, 0.8])
def test_cuts_change_nothing(text: str, cuts: list[float]) -> None:
    assert_cuts_change_nothing(OVERLAPPING, text, cuts)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["project", "falcon", "Project Falcon", " ", "s", "\n"])).map("".join), CUTS)
def test_cuts_change_nothing_in_prose(text: str, cuts: list[float]) -> None:
    assert_cuts_change_nothing(PROJECT, text, cuts)


def test_the_longest_match_is_held_back_and_no_more() -> None:
    assert held(PROJECT, "x" * 50) == "x" * 20
    assert held(PROJECT, "x" * 50 + " project falcon") == ("x" * 50 + " project falcon")[-20:]


def test_a_match_that_still_grows_is_held_back_whole() -> None:
    guard = _guard(digits={"regex": r"\d+", "longest": 5})
    assert held(guard, "n: 12345678") == "12345678"
    assert found_in(guard, "n: 12345678") == [("digits", "12345678")]


def test_folding_finds_what_cannot_be_seen() -> None:
    assert found_in(_guard(fold=True, word="secret"), "s\u200becrｅt!") == [("word", "s\u200becrｅt")]
    assert found_in(_guard(word="secret"), "s\u200becrｅt!") == []


def test_a_catastrophic_pattern_costs_its_time_and_is_an_error() -> None:
    guard = _guard(bad=r"(?:a|aa)+b")
    begun = time.monotonic()
    with pytest.raises(GuardError, match="pattern of bad took longer"):
        asyncio.run(guard.check(Passage("output", "a" * 60)))
    assert time.monotonic() - begun < 1


def test_other_work_goes_on_while_a_long_text_is_searched() -> None:
    guard = PatternGuard("mine", PatternSettings.model_validate({"patterns": {"bad": r"(?:a|aa)+b"}, "seconds": 0.4}))

    async def count() -> int:
        ticks = 0
        checking = asyncio.create_task(guard.check(Passage("input", "a" * 5000)))
        while not checking.done():
            await asyncio.sleep(0.01)
            ticks += 1
        with pytest.raises(GuardError):
            checking.result()
        return ticks

    assert asyncio.run(count()) > 5


def test_a_match_of_no_characters_is_an_error() -> None:
    with pytest.raises(GuardError, match="no characters"):
        found_in(_guard(nothing="(?=x)"), "x")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patterns": {}}, "at least 1 item"),
        ({"patterns": {"a": "("}}, "no regular expression"),
        ({"patterns": {"a": "x*"}}, "empty text"),
        ({"patterns": {"a": {"regex": "x", "longest": 0}}}, "greater than or equal to 1"),
        ({"patterns": {"a": {"regex": "x", "long": 3}}}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PatternSettings.model_validate(wrong)
