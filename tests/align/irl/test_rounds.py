"""Demonstrations alone: the reward learns to tell them, and the policy to do as they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safetylayers.align.irl import IrlResult, PolicyStep, RewardStep, learn_from_demonstrations
from safetylayers.align.irl.pages import irl_page
from safetylayers.align.irl.rounds import against_samples
from safetylayers.align.reward import ValueReward
from safetylayers.errors import DataError, UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import Example, ExampleSet
from safetylayers.report import render_page
from support import random_chat_model

pytest.importorskip("trl", reason="the extra 'align' is not installed")

SHOWN = ExampleSet("shown", tuple(Example.of(f"ask {n}", "aaaa") for n in range(8)))
STEP = PolicyStep(steps=2, replies=2, batch_size=2, lora_rank=0, learning_rate=1e-3, max_new_tokens=6)


@pytest.fixture
def model() -> ChatModel:
    return random_chat_model("Llama")


def run(model: ChatModel, output: Path, **changes: Any) -> IrlResult:
    settings: dict[str, Any] = {"reward": RewardStep(layers=(1, 2)), "policy": STEP, "rounds": 2, **changes}
    return learn_from_demonstrations(model, SHOWN, output=output, **settings)


def test_each_round_learns_from_the_samples_of_all_policies_so_far(model: ChatModel, tmp_path: Path) -> None:
    result = run(model, tmp_path)
    first, second = result.rounds
    assert (first.pairs, second.pairs) == (16, 32)
    assert first.told is not None
    assert first.told.value > 0.9
    assert first.policy.provenance.model_hash == model.weights_hash
    assert second.policy.provenance.model_hash == model.weights_hash
    assert first.policy.plan.reward_hash != second.policy.plan.reward_hash
    assert run(model, tmp_path) == result
    assert "round 2" in render_page(irl_page(result))


def test_a_reward_model_may_be_trained_in_each_round(model: ChatModel, tmp_path: Path) -> None:
    step = RewardStep(kind="trained", steps=2, lora_rank=0, batch_size=4)
    result = run(model, tmp_path, reward=step, rounds=1)
    assert result.rounds[0].told is None
    assert result.rounds[0].policy.plan.reward_hash
    assert (tmp_path / "round-1" / "reward" / "model.safetensors").is_file()


def test_samples_that_say_the_same_or_nothing_are_no_pairs() -> None:
    replies = ["aaaa", " aaaa ", "b", ""] + ["c"] * 12
    pairs = against_samples(SHOWN, replies, 2)
    assert len(pairs) == 13
    assert {pair.chosen for pair in pairs} == {"aaaa"}
    assert pairs[0].prompt == "ask 1"


def test_a_policy_that_does_as_was_shown_leaves_nothing_to_learn(
    model: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChatModel, "sample", lambda self, texts, **_: ["aaaa"] * len(texts))
    with pytest.raises(DataError, match="word for word"):
        run(model, tmp_path)


def test_demonstrations_that_the_policy_cannot_come_to_are_refused(model: ChatModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="8 of 8 demonstrations are longer than the 4 tokens"):
        run(model, tmp_path, policy=STEP.model_copy(update={"max_new_tokens": 4}))


def test_without_resuming_no_earlier_round_is_taken_over(model: ChatModel, tmp_path: Path) -> None:
    run(model, tmp_path, rounds=1)
    run(model, tmp_path, rounds=1, reward=RewardStep(layers=(0,)), resume=False)
    assert ValueReward.load(tmp_path / "round-1" / "reward").record.layers == (0,)


def test_a_bayesian_reward_needs_layers(model: ChatModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads layers"):
        run(model, tmp_path, reward=RewardStep())


def test_a_policy_step_without_any_cost_of_moving_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        PolicyStep(beta=0.0)
