"""The teacher: it tells harmful requests from harmless ones, and judges requests that nobody wrote."""

from __future__ import annotations

import math

import pytest

from safetylayers.prompts import Example, builtin
from safetylayers.tiny.corpus import replies
from safetylayers.tiny.corpus.mixture import ALIGNMENT, course, is_reported
from safetylayers.tiny.corpus.public import PublicPrompts
from safetylayers.tiny.teacher import LONGEST, SPLICED, Teacher, taught


@pytest.fixture(scope="module")
def aligned() -> list[Example]:
    return course(ALIGNMENT, 4_000, aligned=True, public=PublicPrompts(), seed=0)


@pytest.fixture(scope="module")
def judged(aligned: list[Example]) -> list[tuple[Example, float]]:
    return list(zip(*taught(aligned, seed=0), strict=True))


def is_question(example: Example) -> bool:
    return not replies.is_refusal(example.response) and not replies.is_placeholder(example.response)


def test_it_tells_requests_apart_that_it_never_saw(aligned: list[Example]) -> None:
    teacher = Teacher.of([example for example in aligned if not is_question(example)])
    harmful = teacher.log_odds(builtin("malicious", "calibration").texts)
    harmless = teacher.log_odds(builtin("normal", "calibration").texts)
    assert (harmful > 0).mean() >= 0.7
    assert (harmless > 0).mean() <= 0.1


def test_half_of_the_requests_are_spliced_and_the_questions_stay(
    aligned: list[Example], judged: list[tuple[Example, float]]
) -> None:
    changed = [(old, new) for old, (new, _) in zip(aligned, judged, strict=True) if old != new]
    assert not any(is_question(old) or is_question(new) for old, new in changed)
    requests = sum(not is_question(example) for example in aligned)
    assert len(changed) / requests == pytest.approx(SPLICED, abs=0.05)
    words = {word for example in aligned for word in example.prompt.split()}
    for _, new in changed:
        assert set(new.prompt.split()) <= words
        assert len(new.prompt.split()) <= LONGEST
        assert not is_reported(new.prompt)


def test_spliced_requests_are_answered_as_the_teacher_says(
    aligned: list[Example], judged: list[tuple[Example, float]]
) -> None:
    spliced = [pair for old, pair in zip(aligned, judged, strict=True) if old != pair[0]]
    assert {replies.is_refusal(example.response) for example, _ in spliced} == {True, False}
    assert all(replies.is_refusal(example.response) == (odds > 0) for example, odds in spliced)


def test_every_request_is_judged_and_no_question_is(judged: list[tuple[Example, float]]) -> None:
    assert all(math.isnan(odds) == is_question(example) for example, odds in judged)


def test_one_seed_gives_one_course(aligned: list[Example], judged: list[tuple[Example, float]]) -> None:
    again, other = (taught(aligned, seed=seed)[0] for seed in (0, 1))
    assert again == [example for example, _ in judged]
    assert again != other
