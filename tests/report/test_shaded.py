"""Words are shaded by their score, and whoever sees no colour or has no pointer reads it all the same."""

from __future__ import annotations

import math
from html import escape
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.sample import read
from report.test_page import HOSTILE
from report.test_style import SCHEMES, SEEN, STYLE, contrast, lab, linear
from safetylayers.errors import UsageError
from safetylayers.report import Page, Section, ShadedText, ShadedWord, render_page
from safetylayers.report.shaded import MAX_FOCUSABLE, STEPS, extent_of, shown, step_css, step_of
from safetylayers.report.text import visible

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
NEGATIVE, POSITIVE = ([f"{sign}{step}" for step in range(1, STEPS + 1)] for sign in "np")


def shaded(*words: tuple[str, float | None], **options: object) -> ShadedText:
    given = [ShadedWord(text, score) for text, score in words]
    return ShadedText("c", given, "for", "against", "nats", **options)  # type: ignore[arg-type]  # options differ


def html_of(text: ShadedText) -> str:
    return render_page(Page("T", sections=[Section("S", [text])], created="2026-01-31T12:00:00+00:00"))


@pytest.mark.parametrize(
    ("value", "step"),
    [(0, 0), (0.9, 0), (1.1, 1), (2.9, 1), (3.1, 2), (5.1, 3), (7.1, 4), (8.9, 4), (9.1, 5), (11, 5), (99, 5)],
)
def test_the_eleven_steps_are_equally_wide_and_symmetrical(value: float, step: int) -> None:
    assert step_of(value, 11) == step
    assert step_of(-value, 11) == -step


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_the_strongest_word_has_the_strongest_colour_and_steps_rise_with_scores(scores: list[float]) -> None:
    extent = extent_of(scores)
    steps = [step_of(score, extent) for score in sorted(scores)]
    assert steps == sorted(steps)
    assert max(map(abs, steps)) == (STEPS if any(scores) else 0)


def test_a_step_is_a_class() -> None:
    assert [step_css(step) for step in (-5, -1, 0, 1, 5)] == ["n5", "n1", "z", "p1", "p5"]


def test_words_carry_their_colour_and_number_and_plain_ones_none() -> None:
    reader = read(html_of(shaded(("<s>", None), ("bomb", 2.0), ("please", -1.0), ("a", 0.0))))
    words = reader.with_class("word")
    assert [word.attributes["class"] for word in words] == ["word p5", "word n3", "word z"]
    tips = [f"+2{SPACE}nats bomb", f"{MINUS}1{SPACE}nats please", f"0{SPACE}nats a"]
    assert [tip.text for tip in reader.with_class("tip")] == tips
    [plain] = reader.with_class("plain")
    assert plain.text == "<s>"
    assert "tabindex" not in plain.attributes


def test_words_stand_apart_and_tokens_bring_their_own_spaces() -> None:
    [apart] = read(html_of(shaded(("a", None), ("b", None)))).with_class("words")
    [joined] = read(html_of(shaded(("a", None), (" b", None), ("c\n", None), joined=True))).with_class("words")
    assert (apart.text, joined.text) == ("a b", "a bc\n")


def test_a_token_of_nothing_but_space_is_seen() -> None:
    assert [shown(text) for text in (" ", "\n\n", "\t", "", " a ")] == ["␣", "↵↵", "⇥", "∅", " a "]
    assert [piece.text for piece in shaded(("\n", 1), ("\n", None)).pieces] == ["↵\n", "\n"]


def test_every_number_has_the_decimals_of_the_greatest() -> None:
    assert [piece.number for piece in shaded(("a", 12.345), ("b", -0.01234)).pieces] == [
        f"+12.35{SPACE}nats",
        f"{MINUS}0.01{SPACE}nats",
    ]


def test_the_table_begins_with_the_strongest_word() -> None:
    table = shaded(("a", 0.5), ("<s>", None), ("b", -2.5), ("c", 0.5)).numbers()
    assert [list(row[:2]) for row in table.rows] == [["b", 3], ["a", 1], ["c", 4]]
    assert list(table.header) == ["Word", "Place in the text", "Score"]
    noted = ShadedText("c", [ShadedWord("a", 1, "half a word"), ShadedWord("b", 2)], "for", "against", "")
    assert [list(row) for row in noted.numbers().rows] == [["b", 2, "+2", ""], ["a", 1, "+1", "half a word"]]


def test_the_legend_says_what_each_sign_means_and_how_far_it_goes() -> None:
    assert [item.name for item in shaded(("a", 2.5), ("b", -1)).legend()] == [
        f"for: up to +2.50{SPACE}nats",
        f"against: down to {MINUS}1.00{SPACE}nats",
    ]
    assert [item.name for item in shaded(("a", 0)).legend()] == ["for: none here", "against: none here"]


def test_a_text_without_scores_has_neither_legend_nor_table() -> None:
    reader = read(html_of(shaded(("a", None))))
    assert not reader.with_class("legend")
    assert not reader.all("table")


@pytest.mark.parametrize(("count", "stops"), [(MAX_FOCUSABLE, True), (MAX_FOCUSABLE + 1, False)])
def test_the_tab_key_stops_at_words_where_there_are_not_too_many(count: int, stops: bool) -> None:
    words = read(html_of(shaded(("<s>", None), *[("a", 1.0)] * count))).with_class("word")
    assert {"tabindex" in word.attributes for word in words} == {stops}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("joined", [True, False])
def test_hostile_words_add_no_element_and_no_attribute(text: str, joined: bool) -> None:
    def page(said: str) -> str:
        words = [ShadedWord(said, 1.0, said), ShadedWord(said, None), ShadedWord(said, -1.0)]
        return html_of(ShadedText(said, words, said, said, said, said, joined))

    plain, hostile = (
        [(e.name, sorted(e.attributes)) for e in read(page(said)).elements if e.name != "code"]
        for said in ("plain", text)
    )
    assert hostile == plain
    assert escape(visible(text), quote=False) in page(text).replace("&#34;", '"').replace("&#39;", "'")


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused(score: float) -> None:
    with pytest.raises(UsageError, match="the score of word 1 is") as caught:
        shaded(("a", 1), ("b", score))
    assert "measurement" in caught.value.mend


def test_a_text_without_words_is_refused() -> None:
    with pytest.raises(UsageError, match="no words"):
        shaded()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_words_can_be_read_on_every_shade_and_the_strongest_is_seen_on_paper(scheme: str) -> None:
    colours = SCHEMES[scheme]
    assert all(contrast(colours["ink"], colours[shade]) > 4.5 for shade in [*NEGATIVE, *POSITIVE])
    assert all(contrast(colours["paper"], colours[side[-1]]) > 3 for side in (NEGATIVE, POSITIVE))


@pytest.mark.parametrize("sight", SEEN)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_signs_and_steps_stay_apart_for_every_sight(scheme: str, sight: str) -> None:
    def distance(one: str, other: str) -> float:
        a, b = (lab(np.array(SEEN[sight]) @ linear(SCHEMES[scheme][name])) for name in (one, other))
        return float(np.linalg.norm(a - b))

    assert min(distance(n, p) for n, p in zip(NEGATIVE, POSITIVE, strict=True)) > 15
    assert min(distance(a, b) for side in (NEGATIVE, POSITIVE) for a, b in pairwise(["sunk", *side])) > 5


def test_the_sign_is_told_without_colour_too() -> None:
    assert ".word:is(.p1, .p2, .p3, .p4, .p5) { border-bottom-color: var(--ink); }" in STYLE
    assert ".word:is(.n1, .n2, .n3, .n4, .n5) { border-bottom: 2px dotted var(--ink); }" in STYLE
