"""A reward is tested on choices that it has not learned from, and on those alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from safetylayers.align.asked import Asked
from safetylayers.align.baselines import transferred_baselines
from safetylayers.align.charts import left_out
from safetylayers.align.evaluation import evaluate_reward, fresh
from safetylayers.align.folds import prompt_keys
from safetylayers.align.pages import reward_page
from safetylayers.align.reward import Learned, ValueReward, learn_reward
from safetylayers.errors import UsageError, WrongModelError
from safetylayers.models import ChatModel
from safetylayers.prompts import Pair, PairSet, Values
from safetylayers.report import render_page
from safetylayers.tiny import choices

LAYER = (5,)


@pytest.fixture(scope="module")
def pairs() -> PairSet:
    asked = choices.requests(120, seed=0)
    people = ("ann", "bob", "ann", "cem")
    found = choices.choose(asked, about="courtesy", seed=0).pairs
    return PairSet("planted", tuple(replace(pair, by=people[n % 4]) for n, pair in enumerate(found)))


@pytest.fixture(scope="module")
def learned(tiny: ChatModel, pairs: PairSet) -> Learned:
    return learn_reward(tiny, pairs, layers=LAYER, components=32)


@pytest.fixture(scope="module")
def others(pairs: PairSet) -> PairSet:
    """Choices of which some are about prompts that were learned from, and some about another value."""
    new = choices.choose(choices.requests(120, seed=9), about="courtesy", seed=9).pairs
    known = set(prompt_keys(pairs))
    unseen = [pair for pair, key in zip(new, prompt_keys(PairSet("", new)), strict=True) if key not in known]
    strange = replace(unseen[0], value="thrift")
    return PairSet("others", (*unseen, *pairs.pairs[:7], strange, strange))


def values(*names: str, conflicts: str = "weights") -> Values:
    examples = {"against": ["A"], "within": ["B"]}
    floor = {"floor": -1.0} if conflicts == "floors" else {}
    named = {name: {"description": name, "weight": 2.0, "examples": examples, **floor} for name in names}
    return Values.model_validate({"version": 1, "conflicts": conflicts, "values": named})


def test_what_was_learned_from_and_what_was_not_learned_is_left_out_and_counted(
    tiny: ChatModel, learned: Learned, pairs: PairSet, others: PairSet
) -> None:
    test = evaluate_reward(learned.reward, tiny, others, learned=pairs)
    assert (test.seen, test.unknown) == (7, 2)
    assert test.accuracy.total == len(others) - 9
    assert test.accuracy.interval.low > 0.6
    assert test.values == {"courtesy": test.accuracy}
    assert sum(rate.total for rate in test.categories.values()) == test.accuracy.total
    assert set(test.categories) == {"malicious", "normal", "question"}
    assert test.unfamiliar is not None
    assert test.unfamiliar.value < 0.2
    assert set(test.baselines) == {"length", "words"}
    assert test.provenance.data == {"others": others.content_hash}
    assert "Left out, about prompts that were learned from: 7." in left_out(test)


def test_a_reward_knows_after_reloading_what_it_has_learned_from(
    tiny: ChatModel, learned: Learned, others: PairSet, tmp_path: Path
) -> None:
    again = ValueReward.load(learned.reward.save(tmp_path / "reward"))
    assert again.prompts == learned.reward.prompts
    with pytest.raises(UsageError, match=r"nothing to test on: 7 choices are about prompts that were learned from"):
        evaluate_reward(again, tiny, PairSet("old", others.pairs[-9:]))


def test_another_models_reward_is_not_tested(tiny_base: ChatModel, learned: Learned, others: PairSet) -> None:
    with pytest.raises(WrongModelError):
        evaluate_reward(learned.reward, tiny_base, others)


def test_the_page_shows_categories_tests_reliability_values_and_people(
    tiny: ChatModel, learned: Learned, pairs: PairSet, others: PairSet
) -> None:
    test = evaluate_reward(learned.reward, tiny, others)
    record = learned.reward.record.model_copy(update={"tests": {"others": test}})
    record = record.with_asked(Asked.of(values("courtesy", "honesty"), pairs, name="values.yaml"))
    html = render_page(reward_page(learned._replace(reward=replace(learned.reward, record=record)), pairs))
    for said in ("Right by category", "malicious (", "Other choices: others", "less what was foreseen"):
        assert said in html
    assert "No choices are about honesty" in html
    assert "3 people. All choices count alike" in html
    assert record.provenance.data["values.yaml"] == values("courtesy", "honesty").content_hash


def test_what_a_values_file_asks_for_is_held_against_the_choices(pairs: PairSet) -> None:
    both = Asked.of(values("courtesy", "honesty"), pairs, name="v")
    assert (both.lacking, both.total, both.beside) == (["honesty"], "", ())
    assert both.values["courtesy"].choices == len(pairs)
    assert Asked.of(values("courtesy"), pairs, name="v").total == "2 x courtesy"
    assert Asked.of(values("honesty"), pairs, name="v").beside == ("courtesy",)
    with pytest.raises(UsageError, match="Floors need absolute scores"):
        Asked.of(values("courtesy", conflicts="floors"), pairs, name="v")


def test_people_are_weighed_and_one_who_guesses_counts_less(tiny: ChatModel, pairs: PairSet) -> None:
    coins = np.random.default_rng(0).random(len(pairs)) < 0.5
    swapped = tuple(
        replace(pair, chosen=pair.rejected, rejected=pair.chosen) if pair.by == "cem" and coin else pair
        for pair, coin in zip(pairs, coins, strict=True)
    )
    found = learn_reward(tiny, PairSet("p", swapped), layers=LAYER, components=16, weigh_people=True).reward.record
    choosers = found.values["courtesy"].choosers
    assert found.people == 3
    assert set(choosers) == {"ann", "bob", "cem"}
    assert choosers["cem"].reliability == min(each.reliability for each in choosers.values())
    assert choosers["cem"].reliability < 0.7


def test_people_are_not_told_apart_where_nobody_or_one_alone_is_named(tiny: ChatModel, pairs: PairSet) -> None:
    nameless = PairSet("p", (*pairs.pairs[:20], replace(pairs.pairs[20], by="")))
    with pytest.raises(UsageError, match="1 of 21 choices do not say who made them"):
        learn_reward(tiny, nameless, layers=LAYER, weigh_people=True)
    alone = PairSet("p", tuple(replace(pair, by="ann") for pair in pairs.pairs[:20]))
    with pytest.raises(UsageError, match="one person's"):
        learn_reward(tiny, alone, layers=LAYER, weigh_people=True)


def test_baselines_judge_each_value_by_what_they_learned_of_it_elsewhere() -> None:
    def of(value: str, n: int, first: str, second: str) -> Pair:
        return replace(Pair.of(f"{n}?", f"{first} {n}", f"{second} {n}"), value=value)

    said = {"a": ("yes", "no"), "b": ("no", "yes")}
    learned = PairSet("l", tuple(of(value, n, *words) for n in range(20) for value, words in said.items()))
    test = PairSet("t", (of("b", 50, "no", "yes"), of("a", 51, "yes", "no"), of("a", 52, "no", "yes")))
    found = transferred_baselines(learned, test)
    assert (found["words"] > 0.5).tolist() == [True, True, False]
    assert (found["length"] > 0.5).tolist() == [True, True, False]


def test_choices_that_name_no_value_are_about_the_whole() -> None:
    asked = PairSet("p", (Pair.of("A?", "b", "c"), replace(Pair.of("D?", "e", "f"), value="overall")))
    assert fresh(asked, (), ("overall",)) == (asked, 0, 0)
