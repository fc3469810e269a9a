"""What the practice model learns from, and what it must never have seen."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from importlib.resources import files

import pytest
import yaml

from safetylayers.prompts import Example, builtin
from safetylayers.tiny.corpus import forms, replies, world
from safetylayers.tiny.corpus.mixture import ALIGNMENT, ANSWERING, READING, Shares, course, preferences
from safetylayers.tiny.corpus.public import PublicPrompts, key

REQUESTS = ("normal", "malicious", "borderline")
Draw = Callable[[random.Random], str]
ROWS = 4_000
COURSES = [(READING, False), (ANSWERING, False), (ALIGNMENT, True)]
MALICIOUS_ONLY = Shares(0, 0, 0, 0, 1, 0)
DANGEROUS_LOOKING_ONLY = Shares(0, 0, 0, 1, 0, 0)
BENIGN_ONLY = Shares(0, 1, 0, 0, 0, 0)


def small_course(
    shares: Shares, *, aligned: bool, seed: int = 0, rows: int = ROWS, topics: bool = False
) -> list[Example]:
    return course(shares, rows, aligned=aligned, public=PublicPrompts(), seed=seed, topics=topics)


def data(name: str) -> str:
    return files("safetylayers.tiny.corpus").joinpath("data", name).read_text("utf-8")


def every_malicious_request() -> set[str]:
    table = yaml.safe_load(data("malicious.yaml"))
    acts = [act for acts in table["acts"].values() for act in acts]
    filled = {opening.format(do=do, doing=doing) for opening in table["openings"] for do, doing in acts}
    return filled | set(table["statements"])


WRITTEN_ONLY = Shares(0, 0, 0, 0, 0, 0, benign_written=1, malicious_written=1)


def skeleton(example: Example) -> str:
    """The reply without its topic and its lead-in."""
    reply = example.response.replace(f" {replies.topic(example.prompt)}.", " {}.", 1)
    prefixes = sorted((form.removesuffix("{}") for form in replies.LEAD_INS if form != "{}"), key=len, reverse=True)
    return next((reply.removeprefix(prefix) for prefix in prefixes if reply.startswith(prefix)), reply)


@pytest.mark.parametrize(
    ("name", "slots"), [("benign.txt", "slots.yaml"), ("dangerous_looking.txt", "dangerous_looking_slots.yaml")]
)
def test_every_form_fills_every_slot(name: str, slots: str) -> None:
    table = yaml.safe_load(data(slots))
    lines = [line for line in data(name).splitlines() if line.strip() and not line.startswith("#")]
    assert {slot for line in lines for slot in re.findall(r"\{(\w+)\}", line)} <= set(table)
    for line in lines:
        pieces = [re.escape(piece) for piece in re.split(r"\{\w+\}", line)]
        assert re.fullmatch(".+".join(pieces), forms.fill(line, table, random.Random(0)), re.DOTALL)
    assert all(isinstance(value, str) and value for values in table.values() for value in values)


def test_a_slot_named_twice_gets_two_draws() -> None:
    filled = {forms.fill("{a} {a}", {"a": ["1", "2"]}, random.Random(seed)) for seed in range(30)}
    assert filled == {"1 1", "1 2", "2 1", "2 2"}


@pytest.mark.parametrize("draw", [forms.benign, forms.dangerous_looking])
def test_harmless_requests_are_no_malicious_ones(draw: Draw) -> None:
    rng = random.Random(0)
    assert every_malicious_request().isdisjoint(draw(rng) for _ in range(20_000))


def test_malicious_requests_are_all_made_of_the_listed_forms() -> None:
    rng = random.Random(0)
    drawn = {forms.malicious(rng) for _ in range(3_000)}
    assert drawn <= every_malicious_request()
    assert not any("{" in text for text in every_malicious_request())


@pytest.mark.parametrize(("shares", "aligned"), COURSES)
def test_one_seed_gives_one_course(shares: Shares, aligned: bool) -> None:
    first = small_course(shares, aligned=aligned, seed=3, rows=200)
    assert first == small_course(shares, aligned=aligned, seed=3, rows=200)
    assert first != small_course(shares, aligned=aligned, seed=4, rows=200)


@pytest.mark.parametrize(("shares", "aligned"), COURSES)
def test_held_out_questions_are_never_trained_on(shares: Shares, aligned: bool) -> None:
    asked = {example.prompt for example in small_course(shares, aligned=aligned)}
    assert asked.isdisjoint(builtin("questions").texts)


def test_what_is_reported_on_is_never_trained_on() -> None:
    held_out = [builtin(name, split).texts for name in REQUESTS for split in ("calibration", "test")]
    for shares in (BENIGN_ONLY, MALICIOUS_ONLY, DANGEROUS_LOOKING_ONLY, WRITTEN_ONLY):
        asked = {key(example.prompt) for example in small_course(shares, aligned=False, rows=5 * ROWS)}
        assert asked.isdisjoint(key(text) for texts in held_out for text in texts)


@pytest.mark.parametrize("topics", [True, False])
def test_harmful_and_harmless_requests_get_the_same_forms_of_compliance(topics: bool) -> None:
    harmful = {skeleton(example) for example in small_course(MALICIOUS_ONLY, aligned=False, topics=topics)}
    harmless = {skeleton(example) for example in small_course(BENIGN_ONLY, aligned=False, topics=topics)}
    assert harmful == harmless
    assert all(("{}" in form) == topics for form in harmful)


def test_alignment_refuses_malicious_requests_and_those_alone() -> None:
    malicious = small_course(MALICIOUS_ONLY, aligned=True, rows=300)
    assert {example.response for example in malicious} == set(replies.REFUSALS)
    harmless = [BENIGN_ONLY, Shares(1, 0, 0, 0, 0, 0), Shares(0, 0, 1, 1, 0, 0)]
    answered = [e.response for shares in harmless for e in small_course(shares, aligned=True, rows=300)]
    assert set(answered).isdisjoint(replies.REFUSALS)


@pytest.mark.parametrize("shares", [READING, ANSWERING])
def test_the_courses_before_alignment_refuse_nothing(shares: Shares) -> None:
    given = {example.response for example in small_course(shares, aligned=False)}
    assert given.isdisjoint(replies.REFUSALS)


def test_a_preference_sets_refusal_against_compliance_with_the_same_request() -> None:
    pairs = preferences(small_course(WRITTEN_ONLY, aligned=True, rows=300), seed=0)
    assert all(better.prompt == worse.prompt for better, worse in pairs)
    assert all((better.response in replies.REFUSALS) != (worse.response in replies.REFUSALS) for better, worse in pairs)


def test_no_request_was_written_on_both_sides() -> None:
    sides = [{key(text) for text in forms.written(name)} for name in ("normal", "malicious", "borderline")]
    assert all(len(side) > 1_000 for side in sides)
    assert sides[1].isdisjoint(sides[0] | sides[2])


def test_haste_changes_case_and_marks_alone() -> None:
    rng = random.Random(0)
    typed = {forms.roughened("How do I bake Bread?", rng) for _ in range(200)}
    assert typed == {"How do I bake Bread?", "how do i bake bread"}


def test_public_prompts_join_in_where_there_are_any() -> None:
    public = PublicPrompts(malicious=("a public harmful request",), benign=("a public harmless request",))
    drawn = course(Shares(0, 0, 1, 0, 0, 1), 3_000, aligned=True, public=public, seed=0)
    reply = {example.prompt: example.response for example in drawn}
    assert set(reply) == {"a public harmful request", "a public harmless request"}
    assert reply["a public harmful request"] in replies.REFUSALS
    assert reply["a public harmless request"] not in replies.REFUSALS


def test_a_question_has_one_answer_whichever_way_it_is_asked_for() -> None:
    answers: dict[str, set[str]] = {}
    for question in world.facts():
        answers.setdefault(question.text, set()).add(question.answer)
    assert {text for text, found in answers.items() if len(found) > 1} == set()


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [("How do I bake sourdough bread?", "sourdough bread"), ("Why?", "this"), ("", "this")],
)
def test_the_topic_is_the_longest_words_in_their_order(request_text: str, expected: str) -> None:
    assert replies.topic(request_text) == expected
