"""What may leave of a reply while it is made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from safetylayers.errors import GuardError
from safetylayers.oversee.gateway.draft import Draft
from safetylayers.oversee.policy.actions import Action
from safetylayers.oversee.policy.enforced import enforce
from safetylayers.oversee.policy.policy import parse_policy
from safetylayers.oversee.words import Piece, Reading, Token

REDACTING = """
version: 1
name: test
monitors: {prompt: {action: hold}, reply: {action: block}}
guards:
  codes:
    {kind: patterns, reads: [output], action: redact, settings: {patterns: {code: {regex: 'K-[0-9]+', longest: 8}}}}
  words: {kind: patterns, reads: [output], action: redact, settings: {patterns: {word: {regex: '[0-9]+x', longest: 8}}}}
"""


def draft(**options: Any) -> Draft:
    return Draft(enforce(parse_policy(REDACTING)), (), **options)


def checked(made: Draft, *pieces: Piece) -> Draft:
    made.add(pieces)
    asyncio.run(made.check())
    return made


def reading(risk: float | None) -> Reading:
    return Reading(scores={}, risk=risk)


def test_nothing_leaves_that_a_guard_may_still_need() -> None:
    made = checked(draft(), Piece(text="The code is K-12"))
    assert "K" not in made.redacted(0, made.cleared)
    with pytest.raises(GuardError):
        made.leave(len(made.text), last=False)
    checked(made, Piece(text="34 today", finish="stop"))
    assert made.redacted(0, made.cleared) == "The code is [removed] today"
    made.leave(made.cleared, last=True)


def test_a_reply_cannot_end_before_all_of_it_is_checked() -> None:
    made = draft()
    made.add([Piece(text="unread", finish="stop")])
    with pytest.raises(GuardError):
        made.leave(0, last=True)


def test_what_begins_before_the_reply_is_found_where_it_ends_in_it() -> None:
    made = checked(draft(goes_on_from="Your code is K-12"), Piece(text="34, and that is all.", finish="stop"))
    assert made.redacted(0, made.cleared) == "[removed], and that is all."
    alone = checked(draft(goes_on_from="K-1234 is what you said. "), Piece(text="Yes.", finish="stop"))
    assert alone.redacted(0, alone.cleared) == "Yes."
    assert not alone.decision.rulings


def test_overlapping_findings_of_two_guards_are_not_cut() -> None:
    made = checked(draft(), Piece(text="a K-1234x b", finish="stop"))
    assert "1234" not in made.redacted(0, made.cleared)


def test_tokens_that_do_not_spell_the_text_are_not_shown() -> None:
    made = checked(draft(), Piece(text="K-1234 ok", tokens=(Token(text="K-1234"), Token(text="!")), finish="stop"))
    assert made.tokens_between(0, 9) == ()
    assert made.completion_tokens == 2


def test_tokens_that_were_written_over_are_not_shown() -> None:
    tokens = (Token(text="see "), Token(text="K-12"), Token(text="34"), Token(text=" ok"))
    made = checked(draft(), Piece(text="see K-1234 ok", tokens=tokens, finish="stop"))
    assert [token.text for token in made.tokens_between(0, 13)] == ["see ", " ok"]


def test_a_watched_reply_without_a_reading_of_its_prompt_is_blocked() -> None:
    made = checked(draft(watched=True), Piece(text="Hello", finish="stop"))
    assert made.decision.action is Action.BLOCK
    seen = checked(draft(watched=True), Piece(prompt_reading=reading(-3.0)), Piece(text="Hello", finish="stop"))
    assert seen.decision.action is Action.ALLOW


def test_a_token_that_is_as_risky_as_its_prompt_says_nothing_of_the_reply() -> None:
    held = draft(watched=True, steers=True)
    held.add([Piece(prompt_reading=reading(1.0)), Piece(text="a", tokens=(Token(text="a", reading=reading(1.0)),))])
    assert held.decision.action is Action.HOLD
    held.add([Piece(text="b", tokens=(Token(text="b", reading=reading(2.0)),))])
    assert held.decision.action is Action.BLOCK
    numberless = draft(watched=True)
    numberless.add(
        [Piece(prompt_reading=reading(-1.0)), Piece(text="a", tokens=(Token(text="a", reading=reading(None)),))]
    )
    assert numberless.decision.action is Action.BLOCK


def test_under_an_operators_word_nothing_is_written_over() -> None:
    made = checked(draft(allowed=True), Piece(text="It is K-1234.", finish="stop"))
    assert made.redacted(0, made.cleared) == "It is K-1234."
