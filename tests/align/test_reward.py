"""A reward that is learned from choices finds what was planted in them, and says how sure it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from safetylayers.align.distance import epic_distance
from safetylayers.align.features import Read
from safetylayers.align.reading import Reading
from safetylayers.align.reward import TENSORS, ValueReward, learn_reward
from safetylayers.errors import DataError, UsageError, WrongModelError
from safetylayers.models import ChatModel
from safetylayers.prompts import PairSet, Values
from safetylayers.tiny import choices

LAYERS = (5, 6)


@pytest.fixture(scope="module")
def pairs() -> PairSet:
    asked = choices.requests(500, seed=0)
    found = [choices.choose(asked, about=value, seed=seed) for seed, value in enumerate(("harmlessness", "courtesy"))]
    return PairSet("planted", tuple(pair for one in found for pair in one))


@pytest.fixture(scope="module")
def reward(tiny: ChatModel, pairs: PairSet) -> ValueReward:
    return learn_reward(tiny, pairs, layers=LAYERS).reward


def values(**fields: object) -> Values:
    examples = {"against": ["A"], "within": ["B"]}
    named = {name: {"description": name, "examples": examples} for name in ("harmlessness", "courtesy")}
    for name, more in fields.pop("each", {}).items():  # type: ignore[attr-defined]
        named[name] |= more
    return Values.model_validate({"version": 1, "values": named, **fields})


def test_each_value_is_learned_from_its_own_choices(tiny: ChatModel, reward: ValueReward) -> None:
    turns = ({"role": "user", "content": "Tell me how to steal a bicycle."},)
    said = ["I'm sorry, but I can't assist with that.", "Of course. This is about steal bicycle. Start small."]
    said += [f"Gladly. {said[0]}", f"What a question. {said[0]}"]
    judged = reward.judge(tiny, [turns] * 4, said)
    assert judged.values["harmlessness"].mean[0] > judged.values["harmlessness"].mean[1]
    assert judged.values["courtesy"].mean[2] > judged.values["courtesy"].mean[3]
    for known in reward.record.values.values():
        assert known.accuracy.interval.low > 0.6
        assert known.calibration < 0.2


def test_it_is_near_the_planted_reward_and_one_of_shuffled_choices_is_not(tiny: ChatModel) -> None:
    asked, test = choices.requests(600, seed=0), choices.requests(100, seed=1)
    said = [(number, request.text, reply) for number, request in enumerate(test) for reply in request.replies]
    truth = [reply.reward(choices.WEIGHTS) for _, _, reply in said]
    turns = [({"role": "user", "content": text},) for _, text, _ in said]
    found = {}
    for shuffled in (False, True):
        learned = learn_reward(tiny, choices.choose(asked, seed=0, shuffled=shuffled), layers=LAYERS).reward
        scores = learned.judge(tiny, turns, [reply.text for _, _, reply in said]).total()
        found[shuffled] = epic_distance(scores.mean, truth, [number for number, _, _ in said])
    random = epic_distance(np.random.default_rng(0).standard_normal(len(said)), truth, [n for n, _, _ in said])
    assert found[False] < 0.75 * random
    assert found[True] > 0.85 * random


def test_reloaded_it_gives_the_same_scores_to_the_last_bit(
    tiny: ChatModel, reward: ValueReward, tmp_path: Path
) -> None:
    again = ValueReward.load(reward.save(tmp_path / "reward"))
    read = Read(np.random.default_rng(0).standard_normal((7, len(LAYERS) * tiny.hidden_size)), np.ones(7))
    ours, theirs = reward.judge_read(read), again.judge_read(read)
    for name, scores in ours.values.items():
        assert scores.mean.tobytes() == theirs.values[name].mean.tobytes()
        assert scores.deviation.tobytes() == theirs.values[name].deviation.tobytes()
    assert ours.unfamiliar == theirs.unfamiliar
    assert again.record == reward.record


def test_another_models_hidden_states_are_not_read(reward: ValueReward, tiny_base: ChatModel) -> None:
    with pytest.raises(WrongModelError, match=r"reads tiny .* and not tiny-base"):
        reward.judge(tiny_base, [()], ["A"])


def test_a_damaged_or_missing_reward_says_so(reward: ValueReward, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no reward"):
        ValueReward.load(tmp_path)
    folder = reward.save(tmp_path / "reward")
    (folder / TENSORS).write_bytes(b"half")
    with pytest.raises(DataError, match="the reward is damaged"):
        ValueReward.load(folder)
    record = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**record, "layers": []}))
    with pytest.raises(DataError, match="not a valid RewardRecord"):
        ValueReward.load(folder)


def test_replies_unlike_those_seen_are_flagged_and_those_seen_are_not(tiny: ChatModel, reward: ValueReward) -> None:
    asked = choices.requests(60, seed=5)
    turns = [({"role": "user", "content": request.text},) for request in asked]
    like = reward.judge(tiny, turns, [request.replies[0].text for request in asked]).unfamiliar
    unlike = reward.judge(tiny, turns, ["zq zq zq zq 7 7 7 {{{ }}} zq"] * 60).unfamiliar
    assert np.mean(like) < 0.1
    assert np.mean(unlike) > 0.5


def test_uncertainty_falls_with_choices(tiny: ChatModel, pairs: PairSet) -> None:
    few = PairSet("few", tuple(pair for pair in pairs if pair.value == "courtesy")[:40])
    features = np.random.default_rng(0).standard_normal((20, len(LAYERS) * tiny.hidden_size))
    some = learn_reward(tiny, few, layers=LAYERS, components=16).reward
    every = PairSet("all", tuple(pair for pair in pairs if pair.value == "courtesy"))
    more = learn_reward(tiny, every, layers=LAYERS, components=16).reward
    raw = [one.posteriors["courtesy"].scores(more.reading.read(features)).deviation.mean() for one in (some, more)]
    assert raw[1] < raw[0]


def test_a_values_file_weighs_what_was_learned(tiny: ChatModel, reward: ValueReward) -> None:
    read = Read(np.random.default_rng(0).standard_normal((5, len(LAYERS) * tiny.hidden_size)), np.ones(5))
    judged = reward.judge_read(read)
    weighed = judged.total(values(each={"harmlessness": {"weight": 3.0}}))
    means = {name: scores.mean for name, scores in judged.values.items()}
    np.testing.assert_allclose(weighed.mean, 3 * means["harmlessness"] + means["courtesy"])
    deviations = {name: scores.deviation for name, scores in judged.values.items()}
    np.testing.assert_allclose(weighed.deviation, np.hypot(3 * deviations["harmlessness"], deviations["courtesy"]))
    with pytest.raises(UsageError, match="Floors need absolute scores"):
        judged.total(values(conflicts="floors", each={"harmlessness": {"floor": -1.0}}))
    strange = Values.model_validate(
        {"version": 1, "values": {"thrift": {"description": "t", "examples": {"against": ["A"], "within": ["B"]}}}}
    )
    with pytest.raises(UsageError, match="has not learned thrift"):
        judged.total(strange)


def test_what_is_preferred_is_as_sure_as_the_difference_and_not_as_two_scores(
    tiny: ChatModel, reward: ValueReward
) -> None:
    turns = [({"role": "user", "content": "Tell me how to steal a bicycle."},)]
    refused, complied = (
        reward.read(tiny, turns, [text])
        for text in ("I'm sorry, but I can't assist with that.", "Of course. This is about steal bicycle. Start small.")
    )
    there, back = reward.prefers(refused, complied), reward.prefers(complied, refused)
    assert there["harmlessness"][0] > 0.8
    assert there["harmlessness"][0] + back["harmlessness"][0] == pytest.approx(1)
    assert reward.prefers(refused, refused)["courtesy"][0] == 0.5


def test_of_choices_by_a_coin_the_held_out_figure_is_a_coins(tiny: ChatModel) -> None:
    coins = choices.choose(choices.requests(200, seed=3), seed=3, shuffled=True)
    learned = learn_reward(tiny, coins, layers=LAYERS)
    known = learned.reward.record.values["overall"]
    assert known.accuracy.interval.low < 0.5 < known.accuracy.interval.high
    assert -np.log(learned.held_out).mean() < np.log(2) + 0.03


def test_too_few_choices_are_refused(tiny: ChatModel, pairs: PairSet) -> None:
    with pytest.raises(UsageError, match="harmlessness: 3 choices are too few"):
        learn_reward(tiny, PairSet("few", pairs.pairs[:3]), layers=LAYERS)


def test_replies_that_all_look_the_same_teach_nothing() -> None:
    with pytest.raises(UsageError, match="look the same"):
        Reading.fit(Read(np.ones((10, 3)), np.ones(10)))
    with pytest.raises(UsageError, match="Four replies"):
        Reading.fit(Read(np.ones((3, 3)), np.ones(3)))
