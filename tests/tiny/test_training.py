"""Batches of fixed shapes, and a training that goes on where it was interrupted."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from safetylayers.errors import DataError, NonFiniteLossError, UsageError
from safetylayers.prompts import Example
from safetylayers.tiny import training
from safetylayers.tiny.architecture import Shape, build_model
from safetylayers.tiny.batches import IGNORED, PAIR_SHAPE, SHAPES, Batch, make_batches, make_pair_batches
from safetylayers.tiny.corpus.mixture import preferences
from safetylayers.tiny.corpus.replies import REFUSALS
from safetylayers.tiny.losses import DistillationLoss, PreferenceLoss, first_tokens, likelihood_loss
from safetylayers.tiny.training import Schedule, train

SHAPE = Shape(hidden_size=32, layers=2, heads=2, intermediate_size=48)
SCHEDULE = Schedule(1e-2, 2)
STEPS = 5


@pytest.fixture(scope="module")
def batches(examples: list[Example], tokenizer: PreTrainedTokenizerFast) -> list[Batch]:
    return make_batches(examples, tokenizer, steps=STEPS, reply_only=True, seed=0)


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return build_model(SHAPE, tokenizer, seed=0)


def same_weights(first: LlamaForCausalLM, second: LlamaForCausalLM) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_batches_have_one_of_two_shapes(examples: list[Example], tokenizer: PreTrainedTokenizerFast) -> None:
    found = make_batches(examples, tokenizer, steps=40, reply_only=False, seed=0)
    assert len(found) == 40  # the course is gone over several times
    for batch in found:
        assert tuple(batch.input_ids.shape) in SHAPES
        assert batch.input_ids.shape == batch.labels.shape


def test_without_reply_only_all_tokens_are_learnt(examples: list[Example], tokenizer: PreTrainedTokenizerFast) -> None:
    for batch in make_batches(examples, tokenizer, steps=3, reply_only=False, seed=0):
        padding = batch.input_ids == tokenizer.pad_token_id
        assert torch.equal(batch.labels[~padding], batch.input_ids[~padding])
        assert (batch.labels[padding] == IGNORED).all()


def test_with_reply_only_the_labels_are_the_reply_and_its_end(
    batches: list[Batch], tokenizer: PreTrainedTokenizerFast
) -> None:
    assistant = tokenizer.convert_tokens_to_ids("<|assistant|>")
    for batch in batches:
        for row, labels in zip(batch.input_ids, batch.labels, strict=True):
            begin = row.tolist().index(assistant) + 1
            assert (labels[:begin] == IGNORED).all()
            reply = row[begin:][row[begin:] != tokenizer.pad_token_id]
            assert torch.equal(labels[labels != IGNORED], reply)
            assert reply[-1] == tokenizer.eos_token_id


def test_the_likelihood_loss_is_what_transformers_computes(
    batches: list[Batch], tokenizer: PreTrainedTokenizerFast
) -> None:
    model, batch = new_model(tokenizer), batches[0]
    mask = (batch.input_ids != tokenizer.pad_token_id).long()
    expected = model(input_ids=batch.input_ids, attention_mask=mask, labels=batch.labels).loss
    assert likelihood_loss(model, batch).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.fixture(scope="module")
def distillation(tokenizer: PreTrainedTokenizerFast) -> DistillationLoss:
    return DistillationLoss(first_tokens(REFUSALS, tokenizer))


def test_where_no_teacher_has_judged_distillation_is_the_likelihood(
    batches: list[Batch], tokenizer: PreTrainedTokenizerFast, distillation: DistillationLoss
) -> None:
    model = new_model(tokenizer)
    assert batches[0].odds.isnan().all()
    assert torch.equal(distillation(model, batches[0]), likelihood_loss(model, batches[0]))


def test_distillation_adds_what_the_model_and_its_teacher_disagree_on(
    batches: list[Batch], tokenizer: PreTrainedTokenizerFast, distillation: DistillationLoss
) -> None:
    model, batch = new_model(tokenizer), batches[0]
    judged = dataclasses.replace(batch, odds=torch.full_like(batch.odds, -2.0))
    first = (batch.labels != IGNORED).int().argmax(dim=1)
    probabilities = model(batch.input_ids).logits[torch.arange(len(first)), first - 1].softmax(-1)
    refuse = probabilities[:, distillation.begins].sum(-1)
    teacher = 1 / (1 + math.exp(2))
    expected = -(teacher * refuse.log() + (1 - teacher) * (1 - refuse).log()).mean()
    added = distillation(model, judged) - likelihood_loss(model, batch)
    assert added.item() == pytest.approx(expected.item(), abs=1e-5)


def test_only_rows_with_odds_are_distilled(
    batches: list[Batch], tokenizer: PreTrainedTokenizerFast, distillation: DistillationLoss
) -> None:
    model, batch = new_model(tokenizer), batches[0]
    odds = torch.full_like(batch.odds, float("nan"))
    odds[0] = 1.0
    some = distillation(model, dataclasses.replace(batch, odds=odds)) - likelihood_loss(model, batch)
    alone = Batch(batch.input_ids[:1], batch.labels[:1], odds[:1])
    expected = distillation(model, alone) - likelihood_loss(model, alone)
    assert some.item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_batch_keeps_each_rows_odds(examples: list[Example], tokenizer: PreTrainedTokenizerFast) -> None:
    """Odds are the prompts' lengths here, so that they can be told from the rows."""
    odds = [float(len(example.prompt)) for example in examples]
    for batch in make_batches(examples, tokenizer, steps=4, reply_only=True, seed=0, odds=odds):
        for row, labels, odd in zip(batch.input_ids, batch.labels, batch.odds.tolist(), strict=True):
            asked = tokenizer.decode(row[: int((labels != IGNORED).int().argmax())], skip_special_tokens=True)
            assert len(asked.strip()) == odd


@pytest.fixture(scope="module")
def pairs(examples: list[Example], tokenizer: PreTrainedTokenizerFast) -> list[Batch]:
    return make_pair_batches(preferences(examples, seed=0), tokenizer, steps=2, seed=0)


def test_a_batch_of_pairs_holds_the_same_requests_twice(pairs: list[Batch], tokenizer: PreTrainedTokenizerFast) -> None:
    size, width = PAIR_SHAPE
    assistant = tokenizer.convert_tokens_to_ids("<|assistant|>")
    for batch in pairs:
        assert tuple(batch.input_ids.shape) == (2 * size, width)
        for better, worse in zip(batch.input_ids[:size].tolist(), batch.input_ids[size:].tolist(), strict=True):
            assert better[: better.index(assistant)] == worse[: worse.index(assistant)]
            assert better != worse


def test_with_itself_as_reference_a_model_prefers_nothing_yet(
    pairs: list[Batch], tokenizer: PreTrainedTokenizerFast
) -> None:
    model, batch = new_model(tokenizer), pairs[0]
    size = PAIR_SHAPE[0]
    better = Batch(batch.input_ids[:size], batch.labels[:size], batch.odds[:size])
    expected = math.log(2) + likelihood_loss(model, better).item()
    assert PreferenceLoss(model)(model, batch).item() == pytest.approx(expected, abs=1e-5)


def test_the_preference_loss_moves_a_model_towards_the_better_replies(
    pairs: list[Batch], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model, reference = new_model(tokenizer), new_model(tokenizer)
    loss_of = PreferenceLoss(reference)
    before = loss_of(model, pairs[0]).item()
    train(model, [pairs[0]] * 5, SCHEDULE, tmp_path / "a.safetensors", loss_of=loss_of)
    assert loss_of(model, pairs[0]).item() < before
    assert same_weights(reference, new_model(tokenizer))


def test_too_few_conversations_are_refused(examples: list[Example], tokenizer: PreTrainedTokenizerFast) -> None:
    few = examples[:3]
    with pytest.raises(DataError, match="3 conversations"):
        make_batches(few, tokenizer, steps=2, reply_only=True, seed=0)
    with pytest.raises(DataError, match="Only 3 pairs"):
        make_pair_batches(preferences(few, seed=0), tokenizer, steps=2, seed=0)


def test_one_seed_gives_one_order(
    examples: list[Example], tokenizer: PreTrainedTokenizerFast, batches: list[Batch]
) -> None:
    again = make_batches(examples, tokenizer, steps=STEPS, reply_only=True, seed=0)
    other = make_batches(examples, tokenizer, steps=STEPS, reply_only=True, seed=1)
    assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(batches, again, strict=True))
    assert any(not torch.equal(a.input_ids, b.input_ids) for a, b in zip(batches, other, strict=True))


def test_an_interrupted_training_ends_with_bitwise_the_same_weights(
    tmp_path: Path, batches: list[Batch], tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 2)
    straight, broken, resumed = (new_model(tokenizer) for _ in range(3))
    train(straight, batches, SCHEDULE, tmp_path / "straight.safetensors")

    def interrupt(done: int, total: int, what: str) -> None:
        if done == 3:  # one step after the checkpoint, which is lost
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, batches, SCHEDULE, tmp_path / "broken.safetensors", interrupt)
    steps: list[int] = []
    train(resumed, batches, SCHEDULE, tmp_path / "broken.safetensors", lambda done, total, what: steps.append(done))
    assert steps == [3, 4, 5]
    assert same_weights(straight, resumed)
    assert not same_weights(straight, new_model(tokenizer))


def test_a_finished_training_is_not_repeated(
    tmp_path: Path, batches: list[Batch], tokenizer: PreTrainedTokenizerFast
) -> None:
    first, second = new_model(tokenizer), new_model(tokenizer)
    train(first, batches[:2], SCHEDULE, tmp_path / "a.safetensors")
    steps: list[int] = []
    train(second, batches[:2], SCHEDULE, tmp_path / "a.safetensors", lambda done, total, what: steps.append(done))
    assert steps == []
    assert same_weights(first, second)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.safetensors"]


def test_a_checkpoint_of_other_batches_is_refused(
    tmp_path: Path, batches: list[Batch], tokenizer: PreTrainedTokenizerFast
) -> None:
    train(new_model(tokenizer), batches[:2], SCHEDULE, tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="another course"):
        train(new_model(tokenizer), batches[1:3], SCHEDULE, tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="another course"):
        train(new_model(tokenizer), batches[:2], Schedule(1e-3, 2), tmp_path / "a.safetensors")


def test_a_loss_that_is_no_number_stops_the_training(
    tmp_path: Path, batches: list[Batch], tokenizer: PreTrainedTokenizerFast
) -> None:
    model = new_model(tokenizer)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="nan at step 0") as caught:
        train(model, batches, SCHEDULE, tmp_path / "a.safetensors")
    assert "learning rate" in caught.value.mend
    assert list(tmp_path.iterdir()) == []


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    schedule = Schedule(1.0, 4)
    rates = [schedule.at(step, 100) for step in range(101)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert all(later <= earlier for earlier, later in pairwise(rates[4:]))
    assert rates[100] == pytest.approx(0.1)
