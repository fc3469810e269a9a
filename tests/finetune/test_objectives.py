"""What the objectives minimise, exactly, and that runs with them keep their promises."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from safetylayers.errors import DataError, UsageError
from safetylayers.finetune import FinetuneResult, MethodOptions, finetune, own_refusals
from safetylayers.finetune.adapters import alignment_projector, project_updates
from safetylayers.finetune.data import Collator, encode
from safetylayers.finetune.losses import constrained, displacement, divergence, learnt_logits, likelihood, places
from safetylayers.finetune.objectives import Lisa, NearOriginal, SafetyBatches
from safetylayers.models import ChatModel
from safetylayers.prompts import Example, ExampleSet
from support import random_chat_model

ROWS = ExampleSet("toy", tuple(Example.of(f"Say {word}", f"{word}!") for word in "abcdefgh"))
REFUSED = ExampleSet("refused", tuple(Example.of(f"Do {word}", "I can't help.") for word in "abc"))


class AnyMap:
    """A map of layers 1 to 2 for whatever model."""

    range = (1, 2)

    def check(self, model: ChatModel) -> None:
        """Accept it."""


def run(output: Path, method: str, **changes: Any) -> FinetuneResult:
    given = {"max_steps": 6, "batch_size": 2, "learning_rate": 1e-2, "lora_rank": 2, "map": AnyMap(), **changes}
    if "safety" not in changes and any(word in method for word in ("lisa", "mix", "kl")):
        given["safety"] = REFUSED
    model = given.pop("model", None) or random_chat_model("Llama")
    return finetune(model, ROWS, method=method, output=output, **given)


def batches(model: ChatModel, rows: ExampleSet = REFUSED) -> SafetyBatches:
    return SafetyBatches(encode(rows, model.tokenizer, 64).rows, Collator(0), 4, 0, model.device)


def test_the_likelihood_is_the_models_own_loss() -> None:
    model = random_chat_model("Llama")
    batch = batches(model).draw(0)
    assert likelihood(model.model, batch).item() == pytest.approx(model.model(**batch).loss.item(), rel=1e-5)


def test_constrained_pulls_as_the_likelihood_does_where_nothing_has_moved() -> None:
    logits = torch.randn(9, 5, requires_grad=True)
    targets = torch.randint(5, (9,))
    logprobs = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    (ours,) = torch.autograd.grad(
        constrained(logprobs, logprobs.detach(), torch.arange(1, 10)), logits, retain_graph=True
    )
    (theirs,) = torch.autograd.grad(functional.cross_entropy(logits, targets), logits)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_constrained_hardly_pulls_first_tokens_that_have_become_likelier() -> None:
    gained = torch.full((6,), 4.0, requires_grad=True)
    (pull,) = torch.autograd.grad(constrained(gained, torch.zeros(6), torch.arange(1, 7)), gained)
    expected = [2 / (1 + math.exp(beta * 4)) / 6 for beta in (0.5, 2, 2, 2, 2, 0.1)]
    assert (-pull).tolist() == pytest.approx(expected, rel=1e-5)


def test_a_tokens_place_is_counted_in_its_own_reply() -> None:
    labels = torch.tensor([[-100, -100, 5, 6, 7], [-100, 8, 9, -100, -100]])
    assert places(labels).tolist() == [1, 2, 3, 1, 2]


@given(st.integers(0, 1000), st.floats(0.1, 5))
@settings(deadline=None, max_examples=20)
def test_distances_are_zero_from_oneself_and_positive_from_others(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, other = (torch.randn(4, 7, generator=generator) * scale for _ in range(2))
    assert divergence(logits, logits).item() == pytest.approx(0, abs=1e-6)
    assert divergence(other, logits).item() > 0
    hidden, mask = torch.randn(2, 3, 4, generator=generator), torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert displacement(hidden, hidden, mask).item() == 0
    assert displacement(3 * hidden, hidden, mask).item() == pytest.approx(4, rel=1e-5)
    padded = hidden.clone()
    padded[0, 2] += 1
    assert displacement(padded, hidden, mask).item() == 0


def test_kl_is_nothing_but_the_likelihood_for_an_untouched_model() -> None:
    model = random_chat_model("Llama")
    objective = NearOriginal(model, random_chat_model("Llama"), batches(model), 5.0, True, (1, 2))
    batch = batches(model, ROWS).draw(1)
    assert objective.distance(objective.tuned.model, 0).item() == pytest.approx(0, abs=1e-5)
    moved = NearOriginal(model, random_chat_model("Llama", seed=1), batches(model), 5.0, True, (1, 2))
    whole = moved.loss(moved.tuned.model, batch, 3).item()
    apart = moved.distance(moved.tuned.model, 3).item()
    assert apart > 0
    assert whole == pytest.approx(likelihood(moved.tuned.model, batch).item() + 5 * apart, rel=1e-5)


def test_lisa_turns_between_rows_and_holds_each_state_near_the_others_end() -> None:
    model = random_chat_model("Llama")
    objective = Lisa(batches(model), safety_steps=2, user_steps=3, proximal=0.5)
    user = batches(model, ROWS).draw(99)
    weight = next(model.model.parameters())
    for step in range(10):
        safe = step % 5 < 2
        rows = objective.safety.draw(step) if safe else user
        moved = 0.0 if step % 5 in (0, 2) else 0.25 * 0.01 * weight.numel() * ((step % 5) - (0 if safe else 2)) ** 2
        assert objective.loss(model.model, user, step).item() == pytest.approx(
            likelihood(model.model, rows).item() + moved, rel=1e-3
        )
        with torch.no_grad():
            weight.add_(0.1)


@pytest.mark.parametrize("method", ["lisa", "constrained", "mix", "kl", "lora-kl", "lora-constrained", "safelora"])
def test_the_maps_layers_stay_whatever_is_minimised(tmp_path: Path, method: str) -> None:
    model = random_chat_model("Llama")
    base = random_chat_model("Llama", seed=3) if method == "safelora" else None
    result = run(tmp_path, f"sppft-{method}", model=model, base=base)
    kept = ChatModel.load(tmp_path, device="cpu").model
    assert result.frozen_names
    assert all(torch.equal(model.model.get_parameter(n), kept.get_parameter(n)) for n in result.frozen_names)
    assert any(not torch.equal(p, kept.get_parameter(n)) for n, p in model.model.named_parameters())


class KilledError(RuntimeError):
    """Stands for a process that dies."""


@pytest.mark.parametrize("method", ["lisa", "lora-lisa", "kl"])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path, method: str) -> None:
    run(tmp_path / "whole", method, save_every=2)

    def die(done: int, total: int, what: str) -> None:
        if done == 5 and what.startswith("fine-tuning"):
            raise KilledError

    with pytest.raises(KilledError):
        run(tmp_path / "killed", method, save_every=2, progress=die)
    run(tmp_path / "killed", method, save_every=2)
    whole, resumed = (ChatModel.load(tmp_path / name, device="cpu") for name in ("whole", "killed"))
    assert whole.weights_hash == resumed.weights_hash


def test_each_objective_ends_elsewhere(tmp_path: Path) -> None:
    methods = ["full", "lisa", "constrained", "mix", "kl"]
    hashes = set()
    for method in methods:
        run(tmp_path / method, method)
        hashes.add(ChatModel.load(tmp_path / method, device="cpu").weights_hash)
    assert len(hashes) == len(methods)


def test_mixed_rows_are_the_share_that_was_asked_for() -> None:
    from safetylayers.finetune.training import mixed

    tokenizer = random_chat_model("Llama").tokenizer
    user, kept = (encode(rows, tokenizer, 64) for rows in (ROWS, REFUSED))
    found = mixed(user.rows, kept.rows, 0.2, seed=0)
    assert found[: len(user.rows)] == user.rows
    assert len(found) == 10
    assert all(row in kept.rows for row in found[len(user.rows) :])


def test_kl_keeps_refusals_nearer_than_plain_training_does(tmp_path: Path) -> None:
    model = random_chat_model("Llama")
    apart = {}
    for name, options in {"full": None, "kl": MethodOptions(kl_weight=20.0)}.items():
        run(tmp_path / name, name, options=options, max_steps=20)
        tuned = ChatModel.load(tmp_path / name, device="cpu")
        batch = batches(model).draw(0)
        with torch.no_grad():
            now, was = (learnt_logits(each.model, batch)[0] for each in (tuned, model))
        apart[name] = divergence(now, was).item()
    assert apart["kl"] < apart["full"] / 2


def test_an_update_is_projected_onto_alignment_and_only_where_it_points_away() -> None:
    aligned, base, tuned = (random_chat_model("Llama", seed=seed) for seed in (0, 1, 2))
    before = {name: weight.detach().clone() for name, weight in tuned.model.named_parameters()}
    assert project_updates(tuned, aligned, base, below=-1.0) == ()
    assert all(torch.equal(before[name], weight) for name, weight in tuned.model.named_parameters())
    names = project_updates(tuned, aligned, base, below=1.01)
    was, now = aligned.layers[0].self_attn.q_proj.weight, tuned.layers[0].self_attn.q_proj.weight
    change = was - base.layers[0].self_attn.q_proj.weight
    update = before["model.layers.0.self_attn.q_proj.weight"] - was
    expected = was + change @ change.mT / change.norm() @ update
    assert "0.self_attn.q_proj.weight" in names
    assert torch.allclose(now, expected, atol=1e-5)


def test_the_projector_is_symmetric_and_leaves_nothing_without_alignment() -> None:
    aligned, base = torch.randn(6, 4), torch.randn(6, 4)
    projector = alignment_projector(aligned, base)
    assert torch.allclose(projector, projector.mT)
    assert torch.linalg.matrix_rank(projector) == 4
    assert not alignment_projector(aligned, aligned).any()


def test_what_a_method_lacks_or_does_not_take_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the model before alignment"):
        run(tmp_path, "safelora")
    with pytest.raises(UsageError, match="takes no base model"):
        run(tmp_path, "lora", base=random_chat_model("Llama"))
    with pytest.raises(UsageError, match="takes no safety rows"):
        run(tmp_path, "constrained", safety=REFUSED)
    with pytest.raises(UsageError, match="is not of the shape"):
        run(tmp_path, "safelora", base=random_chat_model("Llama", hidden_size=16))
    with pytest.raises(UsageError, match="needs the model's safety map"):
        run(tmp_path, "kl", options=MethodOptions(kl_at="layers"), map=None)
    assert not list(tmp_path.iterdir())


def test_a_model_that_refuses_nothing_has_no_refusals_to_keep() -> None:
    with pytest.raises(DataError, match="refuses none of the 240 prompts"):
        own_refusals(random_chat_model("Llama", max_position_embeddings=1024))


def test_other_options_or_safety_rows_are_another_run(tmp_path: Path) -> None:
    run(tmp_path, "kl", save_every=2)
    with pytest.raises(UsageError, match="options was"):
        run(tmp_path, "kl", options=MethodOptions(kl_weight=2.0))
    with pytest.raises(UsageError, match="safety_hash was"):
        run(tmp_path, "kl", safety=ROWS)


def test_the_practice_model_refuses_most_of_its_safety_rows() -> None:
    rows = own_refusals(ChatModel.load("tiny"))
    assert 180 <= len(rows) <= 240
    assert all("sorry" in row.response or "can't" in row.response for row in rows)
