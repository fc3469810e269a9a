"""The built-in sets keep their rules."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter

import pytest

from safetylayers.errors import UsageError
from safetylayers.prompts import BUILTIN_NAMES, SPLITS, builtin, load_prompts
from safetylayers.tiny.corpus.mixture import held_out_questions

REQUESTS = ("normal", "malicious", "borderline")
NEAR = 0.7
"""Share of words in common from which two prompts count as one."""


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def key(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_set_holds_forty_prompts_in_each_of_twelve_categories(name: str) -> None:
    counts = Counter(prompt.category for prompt in builtin(name))
    assert len(builtin(name)) == 480
    assert len(counts) == 12
    assert set(counts.values()) == {40}
    assert builtin(name).categories == list(counts)


@pytest.mark.parametrize("name", REQUESTS)
def test_every_category_is_split_twenty_ten_ten(name: str) -> None:
    counts = Counter((prompt.category, prompt.split) for prompt in builtin(name))
    expected = {"train": 20, "calibration": 10, "test": 10}
    assert counts == {(category, split): n for category in builtin(name).categories for split, n in expected.items()}
    assert [len(builtin(name, split)) for split in SPLITS] == [240, 120, 120]


@pytest.mark.parametrize("name", REQUESTS)
def test_ids_are_numbered_in_order(name: str) -> None:
    assert [prompt.id for prompt in builtin(name)] == [f"{name}-{number:03}" for number in range(1, 481)]


@pytest.mark.parametrize("name", REQUESTS)
def test_no_two_prompts_of_a_set_are_nearly_the_same(name: str) -> None:
    bags = [words(text) for text in builtin(name).texts]
    near = [(a, b) for a, b in itertools.combinations(bags, 2) if len(a & b) / len(a | b) >= NEAR]
    assert near == []


def test_no_prompt_is_in_two_sets() -> None:
    keys = [key(text) for name in BUILTIN_NAMES for text in builtin(name).texts if name != "questions"]
    questions = [prompt.text for prompt in builtin("questions")]
    assert len(set(keys)) == len(keys) == 1440
    assert len(set(questions)) == 240
    assert set(keys).isdisjoint(key(text) for text in questions)


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_texts_are_clean(name: str) -> None:
    for prompt in builtin(name):
        assert prompt.text == " ".join(prompt.text.split())
        assert prompt.text
        assert "{" not in prompt.text


def test_the_questions_are_those_that_the_practice_model_never_learns() -> None:
    drawn = [(question.text, question.answer, question.category) for question in held_out_questions(240)]
    assert [(prompt.text, prompt.answer, prompt.category) for prompt in builtin("questions")] == drawn


def test_an_unknown_set_and_an_unknown_split_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="'harmful'") as caught:
        builtin("harmful")
    assert "malicious" in caught.value.mend
    with pytest.raises(UsageError, match="no split 'dev'") as caught:
        load_prompts("malicious/dev")
    assert "calibration" in caught.value.mend


def test_a_set_is_loaded_by_name_whole_in_part_and_cut() -> None:
    assert load_prompts("malicious") == builtin("malicious")
    assert load_prompts("malicious/test") == builtin("malicious").split("test")
    assert load_prompts("normal", limit=3).texts == builtin("normal").texts[:3]


def test_samples_are_drawn_by_seed_and_keep_what_they_draw_from() -> None:
    whole = builtin("normal", "test")
    assert whole.sample(10, seed=1) == whole.sample(10, seed=1)
    assert whole.sample(10, seed=1) != whole.sample(10, seed=2)
    assert sorted(whole.sample(1000, seed=0).texts) == sorted(whole.texts)


def test_the_hash_is_of_the_content_alone() -> None:
    whole = builtin("questions")
    hashes = {whole.content_hash, whole.take(5).content_hash, whole.sample(240, seed=0).content_hash}
    assert len(hashes) == 3
    assert (whole.take(0) + whole).content_hash == whole.content_hash
    assert json.dumps(whole.content_hash).strip('"').isalnum()
