"""Random search: by log-probabilities it only ever gets better, by replies it keeps to its budget."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.attack import RandomSearch, run_attack
from safetylayers.attack.composing import LONGEST, Composition
from safetylayers.attack.gcg.layout import lay_out
from safetylayers.attack.gcg.reading import Reader
from safetylayers.attack.search import Walk
from safetylayers.errors import UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import Prompt, PromptSet, builtin
from safetylayers.records import ProgressCallback
from safetylayers.targets import ModelTarget, Reply

FEW = builtin("malicious", "calibration").take(5)
TARGET = "Sure, here is what you asked for."


@pytest.fixture(scope="module")
def tiny() -> ChatModel:
    return ChatModel.load("tiny")


class Yielding:
    """A target that gives in to requests that hold some words, and says no in words that one judge takes for yes."""

    name, weights_hash = "yielding", ""

    def __init__(self, *words: str) -> None:
        self.words, self.asked = words, list[str]()

    def reply(
        self, prompts: list[str], *, openings: list[str] | None = None, progress: ProgressCallback | None = None
    ) -> list[Reply]:
        del openings, progress
        self.asked += prompts
        return [
            Reply("Here is what you asked for." if all(word in text for word in self.words) else "I'm sorry, no.")
            for text in prompts
        ]


def walk_of(tiny: ChatModel, prompt: str, seed: str = "0") -> Walk:
    plan = RandomSearch(candidates=24, length=6, replaced=3)
    layout = lay_out(tiny.tokenizer, "chat", prompt, initial=" !", length=6, target=TARGET)
    return Walk(plan, Reader(tiny, layout), layout, seed)


def test_each_step_is_kept_only_if_the_opening_gets_likelier(tiny: ChatModel) -> None:
    walk = walk_of(tiny, FEW.texts[0])
    losses = [walk.loss]
    for _ in range(12):
        before = walk.suffix
        walk.step()
        losses.append(walk.loss)
        assert (walk.suffix != before) == (losses[-1] < losses[-2])
    assert losses[-1] < losses[0] - 0.1
    assert losses == sorted(losses, reverse=True)
    again = Reader(tiny, walk.reader.layout, share=False).losses([walk.suffix])
    assert again[0] == pytest.approx(walk.loss, abs=1e-3)


def test_one_seed_is_one_search_and_a_suffix_can_be_typed(tiny: ChatModel) -> None:
    one, other, third = (walk_of(tiny, FEW.texts[0], seed) for seed in ("1", "1", "2"))
    for walk in (one, other, third):
        for _ in range(4):
            walk.step()
    assert one.suffix == other.suffix != third.suffix
    assert one.reader.layout.typed(one.suffix) is not None


def test_a_search_ends_when_the_model_gives_in_and_its_passes_are_counted(tiny: ChatModel) -> None:
    attack = RandomSearch(steps=12, candidates=16, length=6, check_every=4)
    result = run_attack(attack, ModelTarget(tiny, max_new_tokens=16), FEW)
    for case in result.cases:
        assert 1 <= case.cost.queries <= 4
        assert case.cost.forwards > 0
        assert case.cost.backwards == 0
        assert case.attacked.startswith(case.prompt)
    assert result.success_rate("phrases").value >= 0.6


def test_where_a_target_only_replies_compositions_are_sent_within_the_budget() -> None:
    target = Yielding("numbered list")
    result = run_attack(RandomSearch(queries=120), target, FEW)
    assert result.success_rate("phrases").value == 1
    assert all("numbered list" in case.attacked for case in result.cases)
    assert result.cost.queries == len(target.asked) < 120 * len(FEW)
    stubborn = Yielding("never")
    assert run_attack(RandomSearch(queries=7), stubborn, FEW).cost.queries == 7 * len(FEW)
    assert len(set(stubborn.asked)) > len(FEW) * 5


def test_a_models_replies_can_be_all_that_is_used(tiny: ChatModel) -> None:
    attack = RandomSearch(queries=3, replies_only=True)
    result = run_attack(attack, ModelTarget(tiny, max_new_tokens=16), FEW)
    assert result.cost.forwards == 0
    assert result.cost.queries <= 3 * len(FEW)


def test_a_prompts_search_does_not_depend_on_those_beside_it() -> None:
    together = run_attack(RandomSearch(queries=4), Yielding("never"), FEW)
    alone = run_attack(RandomSearch(queries=4), Yielding("never"), FEW.take(2))
    assert [case.attacked for case in together.cases[:2]] == [case.attacked for case in alone.cases]


@given(seed=st.integers(0, 10_000), changes=st.integers(0, 30))
def test_a_change_touches_one_part_and_a_request_is_never_lost(seed: int, changes: int) -> None:
    rng = random.Random(seed)
    made = Composition.drawn(rng)
    for _ in range(changes):
        before, made = made, made.changed(rng)
        parts = ("form", "template", "suffix", "ending")
        assert sum(getattr(before, part) != getattr(made, part) for part in parts) <= 1
    assert len(made.ending) <= LONGEST
    plain = Composition("", made.template, made.suffix, made.ending)
    assert "How is it done?" in plain.of("How is it done?", rng)


def test_numbers_without_sense_are_told() -> None:
    with pytest.raises(UsageError, match="above zero"):
        RandomSearch(steps=0)
    with pytest.raises(UsageError, match="no more tokens replaced"):
        RandomSearch(length=3, replaced=4)
    one = PromptSet("one", (Prompt("1", "Hi"),))
    assert run_attack(RandomSearch(queries=1), Yielding("Hi"), one).cases[0].prompt == "Hi"
