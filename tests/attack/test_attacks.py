"""Attacks: what they do to prompts and replies, what they record, and that a stronger one gets further."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from safetylayers.attach import GuardedModel, KnownLayers, attach
from safetylayers.attack import AttackResult, Cost, Embedding, Prefill, Templates, run_attack
from safetylayers.attack.embedding import _Attacker
from safetylayers.errors import UsageError
from safetylayers.evaluate import Verdict
from safetylayers.models import ChatModel
from safetylayers.prompts import PromptSet, builtin, render
from safetylayers.targets import ModelTarget, Target
from support import random_chat_model, safety_layers

FEW = builtin("malicious", "calibration").take(8)


@pytest.fixture(scope="module")
def tiny() -> ChatModel:
    return ChatModel.load("tiny")


@pytest.fixture(scope="module")
def target(tiny: ChatModel) -> ModelTarget:
    return ModelTarget(tiny)


def prefilled(target: Target, prompts: PromptSet, tokens: int) -> AttackResult:
    return run_attack(Prefill(tokens), target, prompts)


def test_a_prefilled_reply_goes_on_from_its_first_tokens(target: ModelTarget) -> None:
    plain, begun = prefilled(target, FEW, 0), prefilled(target, FEW, 5)
    assert {case.prefill for case in plain.cases} == {""}
    assert len({case.prefill for case in begun.cases}) == 1
    assert len(target.model.tokenizer(begun.cases[0].prefill, add_special_tokens=False).input_ids) == 5
    assert not begun.cases[0].reply.startswith(begun.cases[0].prefill)


def test_a_long_prefill_undoes_what_a_plain_prompt_does_not(target: ModelTarget) -> None:
    prompts = builtin("malicious", "calibration").take(40)
    plain, begun = prefilled(target, prompts, 0), prefilled(target, prompts, 20)
    assert begun.success_rate("phrases").value > plain.success_rate("phrases").value + 0.5


def test_own_targets_can_be_given(target: ModelTarget) -> None:
    own = tuple(f"Sure, here is number {i}." for i in range(8))
    result = run_attack(Prefill(2, targets=own), target, FEW)
    assert result.cases[0].prefill
    with pytest.raises(UsageError, match="8 prompts but 1 targets"):
        run_attack(Prefill(2, targets=("Sure.",)), target, FEW)
    with pytest.raises(UsageError, match="shorter than 50"):
        run_attack(Prefill(50, targets=("Sure.",) * 8), target, FEW)


def test_templates_hold_the_prompt_and_are_drawn_by_the_seed(target: ModelTarget) -> None:
    one, other = (run_attack(Templates(), target, FEW, seed=1) for _ in range(2))
    assert [case.attacked for case in one.cases] == [case.attacked for case in other.cases]
    assert all(case.prompt in case.attacked and case.prompt != case.attacked for case in one.cases)
    assert one.settings["forms"] == 8
    with pytest.raises(UsageError, match="no place for the prompt"):
        Templates(forms=("Say yes.",))


def test_records_read_back_and_add_up(target: ModelTarget, tmp_path: Path) -> None:
    result = prefilled(target, FEW, 3)
    path = result.write(tmp_path / "attack.json")
    assert AttackResult.read(path) == result
    assert result.judges == ["phrases", "patterns"]
    assert result.target == "tiny"
    assert result.cost.queries == len(FEW)
    assert result.cost.tokens == sum(case.cost.tokens for case in result.cases)
    assert Cost(queries=1, seconds=0.5) + Cost(tokens=2, seconds=0.5) == Cost(queries=1, tokens=2, seconds=1.0)


def test_soft_tokens_make_a_refusing_model_comply_and_their_price_is_counted(target: ModelTarget) -> None:
    result = run_attack(Embedding(restarts=3, steps=25), target, FEW)
    assert result.success_rate("phrases").value > prefilled(target, FEW, 0).success_rate("phrases").value + 0.4
    for case in result.cases:
        assert 1 <= case.cost.queries <= 3
        assert case.cost.forwards == case.cost.backwards == 25 * case.cost.queries
    stopped = [case for case in result.cases if case.verdicts["phrases"] is Verdict.COMPLIED]
    assert min(case.cost.queries for case in stopped) < 3


def test_one_seed_gives_one_attack_whatever_is_attacked_beside_it(target: ModelTarget) -> None:
    attack = Embedding(restarts=1, steps=3)
    together, alone = (run_attack(attack, target, prompts, seed=7) for prompts in (FEW, FEW.take(3)))
    assert [case.reply for case in together.cases[:3]] == [case.reply for case in alone.cases]


def test_soft_tokens_stand_where_the_request_ends(tiny: ChatModel) -> None:
    attacker = _Attacker(Embedding(soft_tokens=3), ModelTarget(tiny), 0)
    texts = ["Say hello", "Tell me a much longer story, please"]
    rows, places = attacker._layout(texts, "")
    plain = tiny.tokenizer(render(texts, tiny.tokenizer), add_special_tokens=False).input_ids
    for row, place, expected in zip(rows, places, plain, strict=True):
        assert row[:place] + row[place + 3 :] == expected
        assert row[place : place + 3] == [tiny.tokenizer.pad_token_id] * 3
    soft = torch.arange(2 * 3 * tiny.hidden_size).float().view(2, 3, -1)
    embedded, mask, _ = attacker._embedded(rows, places, soft)
    for index, (row, place) in enumerate(zip(rows, places, strict=True)):
        start = embedded.shape[1] - len(row)
        assert mask[index].sum() == len(row)
        assert torch.equal(embedded[index, start + place : start + place + 3], soft[index])


@pytest.mark.parametrize("shift", [-0.2, 0.2])
def test_the_penalty_is_zero_exactly_where_the_gate_stays_closed(shift: float) -> None:
    model = random_chat_model("Llama")
    seen: list[float] = []
    with attach(model, safety_layers(model, threshold=1e6), trace=lambda traces: seen.extend(
        sum(t.scores["harm"]) / 2 for t in traces if t.kind == "prompt end"
    )):  # fmt: skip
        batch = model.tokenize(render(["Hi", "Why is it so?"], model.tokenizer))
        model.next_token_logits(batch)
    layers = safety_layers(model, threshold=max(seen) + shift)
    known = KnownLayers(layers, margin=0.0)
    with model.flowing(known.layers) as hidden, torch.no_grad():
        model.logits(batch, last=1)
    ends = torch.full((2,), batch.input_ids.shape[1] - 1)
    penalty: Tensor = known.penalty([hidden[k] for k in known.layers], batch.attention_mask.bool(), ends)
    expected: Sequence[float] = [max(0.0, score - max(seen) - shift) for score in seen]
    torch.testing.assert_close(penalty, torch.tensor(expected), rtol=1e-3, atol=1e-4)


def test_an_attack_can_be_run_against_a_defended_model(tiny: ChatModel) -> None:
    layers = safety_layers(tiny, threshold=-1e6, layers=(0, 1))
    guarded = GuardedModel(tiny, layers)
    # In inference mode, before anyone wants gradients.
    guarded.generate(render(["Hi"], tiny.tokenizer), max_new_tokens=2)
    attack = Embedding(restarts=1, steps=2, watcher=KnownLayers(layers))
    result = run_attack(attack, ModelTarget(guarded), PromptSet("one", FEW.prompts[:1]))
    assert result.target == "tiny, attached"
    assert result.settings["adaptive"] is True
