"""Policies follow their reward, stay near the reference, and hold still what they must."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from safetylayers.align.bayes import Scores
from safetylayers.align.policy import PolicyResult, align_policy
from safetylayers.align.policy.data import rows_for
from safetylayers.align.policy.watch import Watch
from safetylayers.errors import DataError, NonFiniteLossError, UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import Example, ExampleSet, Pair, PairSet, Prompt, PromptSet
from safetylayers.prompts.pairs import Turn
from support import random_chat_model

pytest.importorskip("trl", reason="the extra 'align' is not installed")

PROMPTS = PromptSet("asked", tuple(Prompt(str(n), text) for n, text in enumerate(("one", "two", "three", "four"))))
WATCHED = PromptSet("watched", (Prompt("w", "five"), Prompt("x", "six")))
PAIRS = PairSet("pairs", tuple(Pair.of(prompt.text, "yes", "no") for prompt in PROMPTS))
EXAMPLES = ExampleSet("shown", tuple(Example.of(prompt.text, "yes") for prompt in PROMPTS))
QUICK: dict[str, Any] = {
    "lora_rank": 0, "learning_rate": 1e-3, "steps": 3, "batch_size": 2, "replies": 2, "max_new_tokens": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Letters:
    """Likes certain letters: by their share of a reply's characters."""

    liked: str = string.ascii_letters
    deviation: float = 0.0

    @property
    def content_hash(self) -> str:
        return f"share of {self.liked}"

    def __call__(self, conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Scores:
        found = np.array([sum(letter in self.liked for letter in reply) / len(reply) for reply in replies])
        return Scores(found, np.full(len(found), self.deviation))


def any_length(turns: Sequence[Turn]) -> bool:
    return True


@pytest.fixture
def model() -> ChatModel:
    return random_chat_model("Llama")


def run(model: ChatModel, output: Path, method: str, **changes: Any) -> PolicyResult:
    data = {"sft": EXAMPLES, "dpo": PAIRS}.get(method, PROMPTS)
    reward = Letters() if method in ("grpo", "rloo") else None
    return align_policy(model, data, output=output, method=method, **{"reward": reward, **QUICK, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo", "rloo"])
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_every_method_trains_a_copy_and_leaves_the_model_alone(
    model: ChatModel, tmp_path: Path, method: str, lora_rank: int
) -> None:
    before = model.fresh_weights_hash()
    result = run(model, tmp_path, method, lora_rank=lora_rank, watch=WATCHED, watch_every=2)
    made = ChatModel.load(tmp_path)
    assert model.fresh_weights_hash() == before
    assert "forward" not in vars(model.model)
    assert made.weights_hash != before
    assert len(result.losses) == 3
    assert [look.step for look in result.looks] == [0, 2, 3]
    assert result.looks[0].kl == pytest.approx(0.0, abs=1e-4)
    assert not (tmp_path / "checkpoints").exists()
    assert run(model, tmp_path, method, lora_rank=lora_rank, watch=WATCHED, watch_every=2) == result


@pytest.mark.parametrize("hold", ["map", "others"])
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_what_is_held_stays_to_the_last_bit_and_the_rest_moves(
    model: ChatModel, tmp_path: Path, hold: str, lora_rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safetylayers.align.policy.training.block_of", lambda *_: (1, 2))
    result = run(model, tmp_path, "dpo", hold=hold, lora_rank=lora_rank)
    made = ChatModel.load(tmp_path)
    moved = {
        layer
        for layer in range(model.n_layers)
        for one, other in zip(model.layers[layer].parameters(), made.layers[layer].parameters(), strict=True)
        if not torch.equal(one, other)
    }
    assert moved == ({0, 3} if hold == "map" else {1, 2})
    assert result.held


def test_holding_without_a_map_says_what_is_missing(model: ChatModel, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes a safety map"):
        run(model, tmp_path, "dpo", hold="map")
    assert not any(tmp_path.iterdir())


def test_grpo_raises_what_it_is_rewarded_for(model: ChatModel, tmp_path: Path) -> None:
    result = run(
        model, tmp_path, "grpo", steps=40, replies=16, batch_size=4, learning_rate=3e-3, beta=0.001,
        watch=WATCHED, watch_every=40, max_new_tokens=6,
    )  # fmt: skip
    first, last = result.looks[0], result.looks[-1]
    assert first.proxy is not None
    assert last.proxy is not None
    assert last.proxy > first.proxy + 0.2
    assert last.kl > 1.0


def test_a_high_cost_of_moving_keeps_the_policy_near(model: ChatModel, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"steps": 12, "learning_rate": 3e-3, "replies": 8, "watch": WATCHED, "watch_every": 12}
    near = run(model, tmp_path / "near", "grpo", beta=10.0, **settings)
    far = run(model, tmp_path / "far", "grpo", beta=0.0, **settings)
    assert near.looks[-1].kl < far.looks[-1].kl


def test_a_run_beyond_its_kl_stops_and_keeps_the_last_weights_within(model: ChatModel, tmp_path: Path) -> None:
    result = run(model, tmp_path, "sft", steps=30, learning_rate=3e-3, watch=WATCHED, watch_every=1, max_kl=1.0)
    assert "exceeds 1" in result.stopped
    assert result.steps < 30
    kept = next(look for look in result.looks if look.step == result.kept_step)
    assert kept.kl <= 1.0 < result.looks[-1].kl
    assert result.kept_step == result.steps - 1


def test_a_run_stops_where_gold_falls_and_keeps_the_best_weights(model: ChatModel, tmp_path: Path) -> None:
    class Falling(Letters):
        calls = 0

        def __call__(self, conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Scores:
            Falling.calls += 1
            return Scores(np.full(len(replies), -float(Falling.calls)), np.zeros(len(replies)))

    result = run(model, tmp_path, "sft", steps=30, watch=WATCHED, watch_every=2, gold=Falling(), patience=2)
    assert (result.kept_step, result.steps) == (0, 4)
    assert "gold reward has not risen" in result.stopped
    assert ChatModel.load(tmp_path).weights_hash == model.weights_hash


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo", "rloo"])
def test_an_interrupted_run_goes_on_and_ends_like_one_that_was_not(
    model: ChatModel, tmp_path: Path, method: str
) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    # Four rows, two a step: the run is cut in its third pass over them.
    settings: dict[str, Any] = {"steps": 7, "save_every": 4, "watch": WATCHED, "watch_every": 1}
    whole = run(model, tmp_path / "whole", method, **settings)
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path / "cut", method, progress=interrupt, **settings)
    cut = run(model, tmp_path / "cut", method, **settings)
    assert [look.step for look in cut.looks] == list(range(8))
    assert cut.losses == whole.losses
    assert ChatModel.load(tmp_path / "cut").weights_hash == ChatModel.load(tmp_path / "whole").weights_hash


def test_a_run_that_had_stopped_learns_nothing_more_when_its_end_is_made_up(
    model: ChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "steps": 30, "learning_rate": 3e-3, "watch": WATCHED, "watch_every": 1, "max_kl": 1.0, "save_every": 1,
    }  # fmt: skip
    whole = run(model, tmp_path / "whole", "sft", **settings)
    with monkeypatch.context() as broken:
        broken.setattr("safetylayers.align.policy.training._Run.finish", full_disk)
        with pytest.raises(OSError, match="full"):
            run(model, tmp_path / "cut", "sft", **settings)
    cut = run(model, tmp_path / "cut", "sft", **settings)
    assert (cut.stopped, cut.steps, cut.kept_step) == (whole.stopped, whole.steps, whole.kept_step)
    assert ChatModel.load(tmp_path / "cut").weights_hash == ChatModel.load(tmp_path / "whole").weights_hash


def full_disk(*_: object) -> None:
    raise OSError("full")


def test_fewer_requests_than_a_step_takes_are_asked_more_than_once(model: ChatModel, tmp_path: Path) -> None:
    alone = PromptSet("alone", PROMPTS.prompts[:1])
    result = align_policy(model, alone, output=tmp_path, method="grpo", reward=Letters(), **QUICK)
    assert (result.rows, result.steps) == (1, 3)


def test_a_reward_that_is_not_a_number_ends_the_run(model: ChatModel, tmp_path: Path) -> None:
    class Broken(Letters):
        def __call__(self, conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Scores:
            return Scores(np.full(len(replies), np.nan), np.zeros(len(replies)))

    with pytest.raises(NonFiniteLossError, match="reward of a reply"):
        run(model, tmp_path / "grpo", "grpo", reward=Broken())
    with pytest.raises(NonFiniteLossError, match="reward of a reply"):
        run(model, tmp_path / "dpo", "dpo", reward=Broken())


def test_a_policy_that_has_become_nothing_ends_the_run(model: ChatModel, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError):
        run(model, tmp_path, "sft", steps=20, learning_rate=1e30, watch=WATCHED, watch_every=1)


def test_silence_is_watched_as_the_worst_that_can_be_said(model: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    end = model.ends_of_text[0]
    drawn = [[end], [70, 71, end], [end], [72, 73, 74]]
    monkeypatch.setattr(ChatModel, "sample_tokens", lambda self, texts, **_: drawn)
    asked = [[{"role": "user", "content": text}] for text in ("a", "b")]
    look = Watch(model, model, asked, 3, 0, proxy=Letters(), gold=Letters()).look(0)
    assert (look.silent, look.cut) == (0.5, 0.25)
    assert look.gold == pytest.approx(0.5)  # of the two that speak alone it were 1
    assert look.kl == 0.0


def test_what_is_too_long_is_left_out_and_counted(model: ChatModel, tmp_path: Path) -> None:
    long = ExampleSet("long", (*EXAMPLES.examples, Example.of("a" * 200, "yes")))
    result = align_policy(model, long, output=tmp_path, method="sft", max_length=64, **QUICK)
    assert (result.rows, result.left_out) == (4, 1)


def test_a_reply_to_nothing_is_refused_with_its_row(model: ChatModel, tmp_path: Path) -> None:
    bare = ExampleSet("bare", (*EXAMPLES.examples, Example(({"role": "assistant", "content": "yes"},))))
    with pytest.raises(DataError, match="bare, row 5: nothing is asked"):
        align_policy(model, bare, output=tmp_path, method="sft", **QUICK)


def test_half_precision_is_trained_in_full_and_saved_in_half(tmp_path: Path) -> None:
    model = random_chat_model("Llama")
    model.model.to(torch.bfloat16)
    run(model, tmp_path, "sft", learning_rate=1e-4)
    made = ChatModel.load(tmp_path, dtype="bfloat16")
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    moved = [
        not torch.equal(one, other)
        for one, other in zip(model.model.parameters(), made.model.parameters(), strict=True)
    ]
    assert sum(moved) > len(moved) / 2


def test_another_run_is_not_gone_on_with(model: ChatModel, tmp_path: Path) -> None:
    first, written = run(model, tmp_path, "sft"), (tmp_path / "result.json").stat().st_mtime_ns
    again = run(model, tmp_path, "sft", resume=False)
    assert again.losses == first.losses
    assert (tmp_path / "result.json").stat().st_mtime_ns > written
    with pytest.raises(UsageError, match="steps was 3, is 4"):
        run(model, tmp_path, "sft", steps=4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "ppo"}, "no method 'ppo'"),
        ({"method": "grpo", "reward": None}, "needs a reward"),
        ({"method": "sft", "reward": Letters()}, "takes no reward"),
        ({"method": "dpo", "data": PROMPTS}, "dpo learns from pairs"),
        ({"method": "sft", "data": PROMPTS}, "these are requests alone"),
        ({"method": "sft", "gold": Letters()}, "nothing is watched"),
        ({"method": "sft", "max_kl": 1.0}, "nothing is watched"),
        ({"method": "sft", "watch": PAIRS}, "learned from as well"),
        ({"method": "sft", "learning_rate": 0.0}, "learning_rate of 0.0 makes no sense"),
        ({"method": "sft", "replies": 1}, "replies of 1 makes no sense"),
    ],
)
def test_what_a_method_lacks_or_does_not_take_is_said(
    model: ChatModel, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    given: dict[str, Any] = {"data": PAIRS, **changes}
    with pytest.raises(UsageError, match=said):
        align_policy(model, given.pop("data"), output=tmp_path, **given)


def test_a_reward_chooses_anew_and_leaves_out_what_it_is_not_sure_of() -> None:
    pairs = PairSet("p", (Pair.of("a", "xx", "ee"), Pair.of("b", "eeee", "eeex"), Pair.of("c", "e", "e!")))
    rows = rows_for("dpo", pairs, Letters("e"), 1.0, any_length).rows
    assert [row["chosen"][0]["content"] for row in rows] == ["ee", "eeee", "e"]
    # Scores' deviations add up to 0.8: more than the gap of a quarter, less than that of one.
    unsure = rows_for("dpo", pairs, Letters("e", deviation=0.4), 1.0, any_length)
    assert [row["chosen"][0]["content"] for row in unsure.rows] == ["ee"]
    assert unsure.left_out == 2
    with pytest.raises(DataError, match="nothing is left"):
        rows_for("dpo", pairs, Letters("e", deviation=9.0), 1.0, any_length)


def test_online_methods_ask_each_request_once() -> None:
    twice = PromptSet("twice", (*PROMPTS.prompts, *PROMPTS.prompts))
    rows = rows_for("grpo", twice, Letters(), 0.0, any_length).rows
    assert [row["prompt"] for row in rows] == [[{"role": "user", "content": prompt.text}] for prompt in PROMPTS]
    assert json.dumps(rows)
