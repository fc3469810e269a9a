"""Texts that end a reply are found wherever they stand, and nothing of them leaves."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from safetylayers.oversee.engine.outlet import Outlet
from safetylayers.oversee.words import Token


def let_out(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    """What leaves of pieces, and whether one of the texts came."""
    outlet, text = Outlet(stops), ""
    for piece in pieces:
        text += "".join(token.text for token in outlet.add(Token(text=piece)))
        if outlet.stopped:
            return text, True
    return text + "".join(token.text for token in outlet.close("")), outlet.stopped


def test_without_such_texts_every_token_leaves_at_once() -> None:
    outlet = Outlet([])
    assert [token.text for token in outlet.add(Token(text="a"))] == ["a"]


def test_a_text_that_spans_tokens_is_kept_in() -> None:
    assert let_out(["END"], ["a ", "E", "N", "D", "b"]) == ("a ", True)
    assert let_out(["END"], ["a xEN", "Dy", "b"]) == ("a x", True)


def test_what_may_be_its_beginning_waits_and_leaves_when_it_is_not() -> None:
    outlet = Outlet(["END"])
    assert outlet.add(Token(text="xE")) == []
    assert [token.text for token in outlet.add(Token(text="Nd"))] == ["xE", "Nd"]


def test_what_waits_leaves_at_the_end_of_the_reply() -> None:
    assert let_out(["END"], ["a", "EN"]) == ("aEN", False)


def test_the_token_in_which_it_begins_is_cut_and_those_behind_are_left_out() -> None:
    outlet = Outlet(["END"])
    outlet.add(Token(text="abE", id=1))
    found = outlet.add(Token(text="NDc", id=2))
    assert [(token.text, token.id) for token in found] == [("ab", 1)]


def test_a_token_that_ends_within_a_character_waits_for_the_next() -> None:
    outlet = Outlet([])
    assert outlet.add(Token(text="", id=1), whole=False) == []
    assert [token.id for token in outlet.add(Token(text="é", id=2))] == [1, 2]


def test_the_rest_of_the_text_goes_with_the_last_token_and_is_searched_as_well() -> None:
    outlet = Outlet(["?"])
    outlet.add(Token(text="", id=1), whole=False)
    assert [token.text for token in outlet.close("x")] == ["x"]
    outlet = Outlet(["?"])
    outlet.add(Token(text="a", id=1), whole=False)
    assert [token.text for token in outlet.close("b?")] == ["ab"]
    assert outlet.stopped


TEXTS = st.text(alphabet="abc", max_size=12)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 12)), stop=st.text(alphabet="abc", min_size=1, max_size=4))
def test_however_a_text_is_cut_what_stands_before_the_end_leaves(text: str, cuts: list[int], stop: str) -> None:
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert let_out([stop], pieces) == (text.split(stop, maxsplit=1)[0], stop in text)


@given(pieces=st.lists(TEXTS), stops=st.lists(st.text(alphabet="abc", min_size=1, max_size=4)))
def test_of_several_such_texts_none_leaves(pieces: list[str], stops: list[str]) -> None:
    text, stopped = let_out(stops, pieces)
    assert "".join(pieces).startswith(text)
    assert not any(stop in text for stop in stops)
    assert stopped or text == "".join(pieces)
