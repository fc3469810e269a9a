from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.oversee.guards.normal import CONTEXT, normal

ANY = st.text(st.one_of(st.characters(), st.sampled_from("\u200b\u0301\u00ad１٣–\u00a0a1 ")), max_size=80)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("４１１１", "4111"),
        ("٤١١١ ४", "4111 4"),
        ("4\u200b1\u00ad1\u20601", "4111"),
        ("1\ufe0f\u20e32\ufe0f\u20e3", "12"),
        ("1\u20132\u22123\uff0d4", "1-2-3-4"),
        ("a\u00a0b\u2009c\u3000d", "a b c d"),
        ("ａ＠ｂ．ｃｏｍ", "a@b.com"),
        ("e\u0301 é", "e é"),
        ("\U000e0041\u3164x", "x"),
        ("ﬁ ½", "ﬁ ½"),
    ],
)
def test_look_alikes_become_plain_and_what_is_not_seen_goes(text: str, plain: str) -> None:
    assert normal(text).text == plain


@given(ANY)
def test_every_character_knows_where_it_came_from(text: str) -> None:
    folded = normal(text)
    assert [normal(text[place]).text for place in folded.origins] == list(folded.text)
    assert list(folded.origins) == sorted(set(folded.origins))
    assert folded.origin(len(folded.text)) == len(text)


@given(ANY, ANY)
def test_text_that_grows_only_grows_in_its_normal_form(text: str, more: str) -> None:
    assert normal(text + more).text == normal(text).text + normal(more).text


@given(ANY, st.floats(0, 1))
def test_a_part_has_the_context_before_it_and_the_places_of_the_whole(text: str, share: float) -> None:
    start = int(share * len(text))
    part, everything = normal(text, start), normal(text)
    before = len(normal(text[:start]).text)
    assert part.start == min(before, CONTEXT)
    assert part.text == everything.text[before - part.start :]
    assert [part.origin(place) for place in range(len(part.text))] == list(everything.origins)[before - part.start :]


@given(st.characters(min_codepoint=128))
def test_one_character_becomes_one_or_none(character: str) -> None:
    folded = normal(character).text
    assert len(folded) <= 1
    assert not unicodedata.category(folded or "a").startswith("Cf")
