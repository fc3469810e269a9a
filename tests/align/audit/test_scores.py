"""A reward scores by draws of what it may mean; scores that are none are refused."""

from __future__ import annotations

import numpy as np
import pytest

from align.audited import PLANTED, World, asked, provenance
from safetylayers.align.audit import RewardScorer, Scored, audit, infer
from safetylayers.align.reward import ValueReward, learn_reward
from safetylayers.errors import UsageError, WrongModelError
from safetylayers.models import ChatModel
from safetylayers.tiny import choices


@pytest.fixture(scope="module")
def reward(tiny: ChatModel) -> ValueReward:
    pairs = choices.choose(choices.requests(60, seed=0), about="courtesy", seed=0)
    return learn_reward(tiny, pairs, layers=(5,), components=8).reward


def test_a_reward_scores_by_draws_around_its_judgement(tiny: ChatModel, reward: ValueReward) -> None:
    turns, replies = [({"role": "user", "content": "Why?"},)] * 2, ["Gladly. It rains.", "What a question. It rains."]
    drawn = np.asarray(RewardScorer(reward, tiny, draws=4000)(turns, replies)["courtesy"])
    judged = reward.judge(tiny, turns, replies).values["courtesy"]
    assert drawn.shape == (4000, 2)
    assert drawn.mean(axis=0) == pytest.approx(judged.mean)
    assert drawn.std(axis=0) == pytest.approx(judged.deviation, rel=0.1)


def test_an_audit_names_the_reward_and_counts_what_it_does_not_know(
    tiny: ChatModel, tiny_base: ChatModel, reward: ValueReward
) -> None:
    record = audit(tiny, tiny_base, asked(5), RewardScorer(reward, tiny, draws=3), replies=1, max_new_tokens=6)
    assert set(record.provenance.data) == {"asked", "reward"}
    assert 0 <= record.unfamiliar <= 2 * record.pairs
    with pytest.raises(WrongModelError, match="reads tiny"):
        audit(tiny, tiny_base, asked(5), RewardScorer(reward, tiny_base), replies=1, max_new_tokens=2)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": [1.0, 2.0]}, "scores of"),
        ({"a": [float("nan")] * 480}, "is no number"),
        ({"a": ["much"] * 480}, "have to be numbers"),
        ({}, "have to be numbers"),
        ({"a": [0.0] * 480, "b": [0.0] * 3}, "as many of each value"),
    ],
)
def test_scores_that_are_none_are_refused(scores: dict[str, list[float]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        infer(World(PLANTED, seed=0).samples, Scored(scores), provenance(), base=("base", "b"))
