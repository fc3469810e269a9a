"""Moves of the residual stream: within their bound, at the prompt alone, and stronger the farther they may go."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.attack import Residual, run_attack
from safetylayers.attack.residual import _Attacker, bounded, norms_of, unit
from safetylayers.errors import UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin, render
from safetylayers.targets import ModelTarget
from support import random_chat_model

FEW = builtin("malicious", "calibration").take(12)


@pytest.fixture(scope="module")
def target() -> ModelTarget:
    return ModelTarget(ChatModel.load("tiny"), max_new_tokens=16)


def rate(target: ModelTarget, epsilon: float) -> float:
    attack = Residual(epsilon=epsilon, restarts=1, steps=12, layers=(0, 1))
    return run_attack(attack, target, FEW).success_rate("phrases").value


def test_moves_make_the_model_comply_and_no_move_does_not(target: ModelTarget) -> None:
    assert rate(target, 0.3) >= rate(target, 0.0) + 0.5


def asked_of(model: ChatModel) -> list[list[int]]:
    ids: list[list[int]] = model.tokenizer(render(["Hi", "Tell me why"], model.tokenizer)).input_ids
    return ids


def test_moves_keep_their_bound_and_pads_stay() -> None:
    model = random_chat_model("Llama")
    attacker = _Attacker(Residual(epsilon=0.2, steps=5, target="Yes"), ModelTarget(model), (0, 2), 0)
    asked = asked_of(model)
    moves = attacker.optimise([0, 1], asked, 0)
    batch = model.batch_of(asked)
    with model.capture((0, 2)) as found:
        model.next_token_logits(batch)
    for layer, move in zip((0, 2), moves, strict=True):
        radius = 0.2 * norms_of(found[layer]) * batch.attention_mask[..., None]
        assert bool((norms_of(move) <= radius * 1.001).all())
        assert bool((norms_of(move) > 0.5 * radius)[batch.attention_mask.bool()].any())


@pytest.mark.parametrize("architecture", ["Llama", "Gemma2", "GptOss"])
def test_steps_make_the_target_likelier_and_moves_leave_no_trace(architecture: str) -> None:
    model = random_chat_model(architecture)
    attacker = _Attacker(Residual(epsilon=0.3, steps=15, target="Yes"), ModelTarget(model), (0, 1), 0)
    asked = asked_of(model)
    wanted = model.tokenizer("Yes").input_ids
    batch = model.batch_of([[*ids, *wanted] for ids in asked])

    def likelihood() -> float:
        logprobs = model.next_logprobs(batch, len(wanted) + 1)[:, :-1]
        return float(logprobs[:, range(len(wanted)), wanted].sum())

    plain = likelihood()
    with attacker.moved(attacker.optimise([0, 1], asked, 0)):
        assert likelihood() > plain + 0.5
    assert likelihood() == plain


def test_a_reply_is_not_moved_only_the_prompt_is() -> None:
    model = random_chat_model("Llama")
    attacker = _Attacker(Residual(), ModelTarget(model), (1,), 0)
    batch = model.batch_of(asked_of(model))
    width = batch.input_ids.shape[1]
    with attacker.moved([torch.ones(2, width, 32)]), model.capture((1,)) as found:
        model.model(input_ids=batch.input_ids[:, :1])
        one = found[1]
    with model.capture((1,)) as found:
        model.model(input_ids=batch.input_ids[:, :1])
    assert torch.equal(one, found[1])


def test_a_prompts_moves_do_not_depend_on_those_beside_it() -> None:
    model = random_chat_model("Llama")
    attacker = _Attacker(Residual(epsilon=0.2, steps=1), ModelTarget(model), (0,), 0)
    wide, narrow = torch.ones(2, 9, 1), torch.ones(1, 4, 1)
    together, alone = attacker._start([3, 5], wide, 1), attacker._start([5], narrow, 1)
    torch.testing.assert_close(together[1, -4:], alone[0])
    assert not torch.equal(attacker._start([5], narrow, 2), alone)


@given(seed=st.integers(0, 1000), radius=st.floats(0, 10))
def test_bounded_moves_are_no_longer_than_allowed_and_point_where_they_did(seed: int, radius: float) -> None:
    moves = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed))
    found = bounded(moves, torch.full((3, 1), radius))
    assert bool((found.norm(dim=-1) <= radius * 1.0001 + 1e-6).all())
    if radius > 0.01:
        torch.testing.assert_close(unit(found), unit(moves))


def test_layers_of_another_model_and_numbers_without_sense_are_told(target: ModelTarget) -> None:
    with pytest.raises(UsageError, match="no layers"):
        run_attack(Residual(layers=(4, 40)), target, FEW)
    with pytest.raises(UsageError, match="above zero"):
        Residual(steps=0)
