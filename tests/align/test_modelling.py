"""A reward model learns several values at once, and reloads to the same scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetylayers.align.modelling import RewardModel, train_reward_model
from safetylayers.errors import DataError, UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import PairSet
from safetylayers.tiny import choices

pytest.importorskip("trl", reason="the extra 'align' is not installed")


@pytest.fixture(scope="module")
def pairs() -> PairSet:
    asked = choices.requests(300, seed=0)
    found = [choices.choose(asked, about=value, seed=seed) for seed, value in enumerate(("harmlessness", "courtesy"))]
    return PairSet("planted", tuple(pair for one in found for pair in one))


def right(model: RewardModel, pairs: PairSet) -> float:
    turns = [pair.messages for pair in pairs]
    chosen, rejected = (
        model.scores(turns, replies) for replies in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    )
    heads = [model.values.index(pair.value) for pair in pairs]
    return sum(chosen[n, h] > rejected[n, h] for n, h in enumerate(heads)) / len(pairs)


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_it_tells_choices_it_has_not_seen_and_reloads_to_the_last_bit(
    tiny: ChatModel, pairs: PairSet, tmp_path: Path, lora_rank: int
) -> None:
    before = tiny.fresh_weights_hash()
    settings = {"lora_rank": lora_rank, "learning_rate": 2e-3 if lora_rank else 5e-4, "steps": 30, "batch_size": 16}
    result = train_reward_model(tiny, pairs, output=tmp_path / "a", max_length=128, **settings)  # type: ignore[arg-type]
    assert result.plan.values == ("harmlessness", "courtesy")
    assert tiny.fresh_weights_hash() == before
    first, second = RewardModel.load(tmp_path / "a"), RewardModel.load(tmp_path / "a")
    asked = choices.requests(100, seed=1)
    test = PairSet("t", choices.choose(asked, about="courtesy", seed=1).pairs)
    assert right(first, test) > 0.7
    turns, said = [pair.messages for pair in test], [pair.chosen for pair in test]
    assert first.scores(turns, said).tobytes() == second.scores(turns, said).tobytes()
    again = train_reward_model(tiny, pairs, output=tmp_path / "a", max_length=128, **settings)  # type: ignore[arg-type]
    assert again == result


def test_another_runs_folder_is_left_alone(tiny: ChatModel, pairs: PairSet, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not from a reward-modelling run"):
        train_reward_model(tiny, pairs, output=tmp_path, steps=1)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_pairs_that_are_all_too_long_are_refused(tiny: ChatModel, pairs: PairSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No pair has at most 8 tokens"):
        train_reward_model(tiny, pairs, output=tmp_path, max_length=8)


def test_a_folder_without_one_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no reward model"):
        RewardModel.load(tmp_path)
