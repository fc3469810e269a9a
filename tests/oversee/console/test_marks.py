"""Drawing scores over a reply's text."""

from __future__ import annotations

import pytest

from safetylayers.oversee.console.marks import MOST_TOKENS, PASSED, drawn, level_of
from safetylayers.oversee.words import Reading, Token


def token(text: str, risk: float | None = -9.0, **fields: object) -> Token:
    return Token(text=text, reading=Reading(scores={"harm": 1.0}, risk=risk, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("risk", "level"), [(-9.0, 0), (-6.0, 1), (-4.0, 2), (-2.0, 3), (-0.01, 3), (0.0, 4), (2.0, 5), (99.0, 5)]
)
def test_the_colour_grows_with_the_risk_and_tells_what_passed_the_threshold(risk: float, level: int) -> None:
    assert level_of(Reading(scores={}, risk=risk)) == level
    assert (level >= PASSED) is (risk >= 0)


def test_no_number_looks_like_the_worst_one() -> None:
    [stretch] = drawn("x", [token("x", None)], 1)
    assert stretch.level == 5
    assert "no number" in stretch.label


def test_a_reply_is_drawn_whole_and_cut_where_its_release_ends() -> None:
    tokens = [token("Hello "), token("wor"), token("ld", 1.5, open=True, strength=0.25)]
    found = drawn("Hello world", tokens, 8)
    assert [(stretch.text, stretch.released) for stretch in found] == [
        ("Hello ", True),
        ("wo", True),
        ("r", False),
        ("ld", False),
    ]
    assert [stretch.steered for stretch in found] == [False, False, False, True]
    assert found[-1].label == "risk +1.50 (harm +1.00); gate open at 0.25"


def test_a_reply_without_tokens_is_drawn_without_scores() -> None:
    found = drawn("Hello world", [], 5)
    assert [(stretch.text, stretch.level, stretch.released) for stretch in found] == [
        ("Hello", None, True),
        (" world", None, False),
    ]
    assert drawn("", [], 0) == []


def test_of_a_long_reply_the_end_is_drawn_token_by_token() -> None:
    tokens = [token("a ") for _ in range(MOST_TOKENS + 50)]
    text = "a " * len(tokens)
    found = drawn(text, tokens, 0)
    assert "".join(stretch.text for stretch in found) == text
    assert len(found) == MOST_TOKENS + 1
    assert (found[0].text, found[0].level) == ("a " * 50, None)


def test_text_that_no_token_owns_is_drawn_too() -> None:
    found = drawn("Hello world", [token("Hello")], 0)
    assert [stretch.text for stretch in found] == ["Hello", " world"]
    assert drawn("Hel", [token("Hello")], 0)[0].text == "Hel"
