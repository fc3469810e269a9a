"""Rewards that a policy follows: lowered by what they are unsure of, whatever the shift of each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from safetylayers.align.bayes import Array, Scores
from safetylayers.align.modelling import RewardModel
from safetylayers.align.reward import ValueReward, learn_reward
from safetylayers.align.scoring import BayesianScorer, ModelsScorer, load_scorer, lower_bound
from safetylayers.errors import DataError, UsageError, WrongModelError
from safetylayers.models import ChatModel
from safetylayers.prompts.pairs import Turn
from safetylayers.prompts.values import Value, ValueExamples, Values
from safetylayers.tiny.choices import choose, requests

TURNS: list[tuple[Turn, ...]] = [({"role": "user", "content": text},) for text in ("a", "a", "b", "b")]


@dataclass(frozen=True)
class Fixed:
    """Says what it is told."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    content_hash: str = "fixed"

    def __call__(self, conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Scores:
        assert all(reply.strip() for reply in replies)
        assert len(conversations) == len(replies)
        return Scores(np.array(self.mean), np.array(self.deviation))


@dataclass(frozen=True)
class Heads:
    """A reward model that says what it is told."""

    rewards: Array
    values: tuple[str, ...] = ("overall",)

    def scores(self, conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Array:
        return self.rewards


def models(*rewards: list[list[float]], values: tuple[str, ...] = ("overall",)) -> tuple[RewardModel, ...]:
    return tuple(cast("RewardModel", Heads(np.array(each), values)) for each in rewards)


def test_the_bound_is_the_mean_less_so_many_deviations() -> None:
    found = lower_bound(Fixed((1.0, 2.0), (0.5, 2.0)), TURNS[:2], ["x", "y"], penalty=2.0)
    assert found.tolist() == [0.0, -2.0]


def test_a_reply_without_a_word_ranks_behind_all_others_to_its_prompt() -> None:
    found = lower_bound(Fixed((1.0, -3.0), (0.0, 0.0)), TURNS[:3], ["x", "  \n", "y"], penalty=1.0)
    assert found.tolist() == [1.0, 0.0, -3.0]
    found = lower_bound(Fixed((1.0, -3.0), (0.0, 0.0)), TURNS, ["x", "y", "", ""], penalty=1.0)
    assert found.tolist() == [1.0, -3.0, -4.0, -4.0]


def test_where_no_reply_has_a_word_all_are_alike() -> None:
    found = lower_bound(Fixed((), ()), TURNS[:2], ["", ""], penalty=1.0)
    assert found[0] == found[1] < 0


def test_one_reward_model_is_never_unsure() -> None:
    found = ModelsScorer(models([[1.0], [2.0]]))(TURNS[:2], ["x", "y"])
    assert found.mean.tolist() == [1.0, 2.0]
    assert found.deviation.tolist() == [0.0, 0.0]


def test_models_that_differ_by_a_shift_a_prompt_agree() -> None:
    one = [[1.0], [2.0], [5.0], [4.0]]
    other = [[11.0], [12.0], [-5.0], [-6.0]]
    found = ModelsScorer(models(one, other))(TURNS, ["w", "x", "y", "z"])
    assert found.deviation == pytest.approx(np.zeros(4))
    assert found.mean[1] - found.mean[0] == pytest.approx(1.0)


def test_models_that_rank_replies_otherwise_are_unsure() -> None:
    found = ModelsScorer(models([[0.0], [2.0]], [[2.0], [0.0]]))(TURNS[:2], ["x", "y"])
    assert found.deviation == pytest.approx([1.0, 1.0])
    assert found.mean[0] == pytest.approx(found.mean[1])


def test_a_values_file_weighs_the_heads() -> None:
    examples = ValueExamples(against=("a",), within=("b",))
    values = Values(
        version=1,
        values={
            "kind": Value(description="d", weight=2.0, examples=examples),
            "true": Value(description="d", weight=1.0, examples=examples),
        },
    )
    found = ModelsScorer(models([[1.0, 10.0]], values=("true", "kind")), values)(TURNS[:1], ["x"])
    assert found.mean.tolist() == [21.0]
    with pytest.raises(UsageError, match="no head for kind"):
        ModelsScorer(models([[1.0]], values=("true",)), values)(TURNS[:1], ["x"])


@pytest.fixture(scope="module")
def folder(tiny: ChatModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("reward")
    learn_reward(tiny, choose(requests(60, seed=0)), layers=(5,)).reward.save(found)
    return found


def test_a_saved_reward_is_read_by_the_model_that_it_was_learned_on(
    tiny: ChatModel, tiny_base: ChatModel, folder: Path
) -> None:
    scorer = load_scorer([folder], policy=tiny)
    assert isinstance(scorer, BayesianScorer)
    assert scorer.reader is tiny
    elsewhere = load_scorer([folder], policy=tiny_base)
    assert isinstance(elsewhere, BayesianScorer)
    assert elsewhere.reader.weights_hash == tiny.weights_hash
    turns = [({"role": "user", "content": "Hi"},)]
    assert scorer(turns, ["Hello."]).mean == elsewhere(turns, ["Hello."]).mean
    with pytest.raises(WrongModelError):
        load_scorer([folder], policy=tiny, reader=tiny_base)


def test_what_a_scorer_is_known_by_is_what_was_learned_and_not_when(tiny: ChatModel, folder: Path) -> None:
    one = ValueReward.load(folder)
    again = learn_reward(tiny, choose(requests(60, seed=0)), layers=(5,)).reward
    known = BayesianScorer(one, tiny).content_hash
    assert known == BayesianScorer(again, tiny).content_hash
    name, posterior = next(iter(one.posteriors.items()))
    other = replace(one, posteriors={name: replace(posterior, mean=-posterior.mean)})
    assert known != BayesianScorer(other, tiny).content_hash


def test_floors_are_refused_by_reward_models_too() -> None:
    examples = ValueExamples(against=("a",), within=("b",))
    floors = Values(
        version=1, conflicts="floors", values={"kind": Value(description="d", floor=0.5, examples=examples)}
    )
    with pytest.raises(UsageError, match="Floors need absolute scores"):
        ModelsScorer(models([[1.0]], values=("kind",)), floors)(TURNS[:1], ["x"])


def test_several_rewards_count_together_only_as_reward_models(tiny: ChatModel, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Several rewards"):
        load_scorer([folder, folder], policy=tiny)
    with pytest.raises(UsageError, match="No reward is given"):
        load_scorer([], policy=tiny)
    with pytest.raises(DataError, match="holds no reward"):
        load_scorer([tmp_path], policy=tiny)
