"""Layers, losses, rows, adversaries and suffixes: what each does to exact tensors and small random models."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safetylayers.errors import UsageError
from safetylayers.harden import CoordinateGradient, HardenSettings, SuffixCase, parse_method
from safetylayers.harden.adversary import bounded_place, moved, worst_case
from safetylayers.harden.direct import CircuitBreaker, _Difference
from safetylayers.harden.layers import DEPTH, PUBLISHED, _scaled, choose_layers
from safetylayers.harden.laying import lay
from safetylayers.harden.losses import away, preferred, toward
from safetylayers.harden.material import HarmfulRow, Material, RetainRow
from safetylayers.harden.step import Pair, Run, Step
from safetylayers.harden.suffixes import Pool
from safetylayers.models import ChatModel
from support import random_chat_model

ROW = HarmfulRow([1, 40, 41, 42], [3, 2], [50, 51, 52, 53, 54], [60, 61, 3])
OTHER = HarmfulRow([1, 44], [3, 2], [55, 56], [60, 62, 63, 3])


def run(model: ChatModel, method: str, layers: dict[str, tuple[int, ...]] | None = None, **changes: object) -> Run:
    material = Material((ROW, OTHER), (RetainRow([1, 70, 3, 2], [71, 72, 3]),), ([80, 81, 82],))
    numbers = HardenSettings(**{"batch_size": 2, "retain_batch_size": 2, "steps": 10, "inner_steps": 3, **changes})  # type: ignore[arg-type]
    return Run(Pair(model, model), material, parse_method(method), numbers, layers or {}, 0)


# --- methods and layers


@pytest.mark.parametrize("name", ["", "latents", "latent+", "latent+latent", "latent, embeddings"])
def test_an_unknown_method_is_answered_with_the_choices(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_method(name)
    assert "deep-alignment" in caught.value.mend


def test_published_layers_keep_their_share_of_the_depth() -> None:
    assert _scaled(PUBLISHED["latent"], DEPTH) == PUBLISHED["latent"]
    assert _scaled(PUBLISHED["circuit-breaker"], 16) == (5, 10)
    assert _scaled((-1, 8, 16, 24, 30), 2) == (-1, 0, 1)  # rounding to even, and never past the last layer


@given(published=st.lists(st.integers(0, DEPTH - 1), min_size=1), depth=st.integers(1, 200))
def test_scaled_layers_exist(published: list[int], depth: int) -> None:
    found = _scaled(tuple(published), depth)
    assert found
    assert all(0 <= layer < depth for layer in found)


def test_a_block_is_taken_as_it_is_and_a_part_without_layers_has_none() -> None:
    model = random_chat_model("Llama")
    assert choose_layers("1-2", parse_method("latent+embeddings"), model, None, 0) == {"latent": (1, 2)}
    assert choose_layers("map", parse_method("embeddings"), model, None, 0) == {}


@pytest.mark.parametrize("which", ["3-1", "2-9", "map", "random", "middle"])
def test_layers_that_cannot_be_had_are_usage_errors(which: str) -> None:
    with pytest.raises(UsageError):
        choose_layers(which, parse_method("latent"), random_chat_model("Llama"), None, 0)


# --- losses


def test_away_is_the_log_of_what_is_left_and_has_a_gradient_at_certainty() -> None:
    logprobs = torch.tensor([[math.log(0.5), math.log(0.75)]], requires_grad=True)
    assert away(logprobs, torch.tensor([[True, False]])).item() == pytest.approx(math.log(2))
    certain = torch.zeros(1, 1, requires_grad=True)
    away(certain, torch.ones(1, 1, dtype=torch.bool)).backward()
    assert torch.isfinite(certain.grad).all()  # type: ignore[arg-type]


def test_the_preference_loss_is_least_at_its_margin() -> None:
    assert preferred(torch.tensor([5.0, 5.0]), tau=0.1).item() == 0
    assert preferred(torch.tensor([4.0]), tau=0.1).item() == pytest.approx(1)


# --- rows


@pytest.mark.parametrize("architecture", ["Llama", "GPTNeoX", "Gemma3"])
def test_laid_rows_have_the_log_probabilities_of_rows_alone(architecture: str) -> None:
    model = random_chat_model(architecture)
    laid = lay([([1, 40, 3, 2], [50], [51, 52]), ([1, 40, 41, 42, 43, 3, 2], [], [53, 54, 55, 56])], model)
    found = laid.logprobs(model)
    whole = (([1, 40, 3, 2], [50, 51, 52]), ([1, 40, 41, 42, 43, 3, 2], [53, 54, 55, 56]))
    for row, (prompt, reply) in enumerate(whole):
        alone = model.next_logprobs(model.batch_of([prompt + reply]), len(reply) + 1)[0, :-1]
        wanted = alone[torch.arange(len(reply)), torch.tensor(reply)]
        learnt = laid.learnt_BR[row, : len(reply)]
        torch.testing.assert_close(found[row, : len(reply)][learnt].double(), wanted[learnt], atol=1e-4, rtol=1e-4)
    assert laid.learnt_BR.tolist() == [[False, True, True, False], [True] * 4]


def test_a_compliant_beginning_stands_before_the_refusal_in_deep_alignment_alone() -> None:
    model = random_chat_model("Llama")
    plain = Step.of(run(model, "latent", {"latent": (1,)}), 0)
    assert plain.refusing(ROW) == (ROW.asked, [], ROW.refusal)
    deep = Step.of(run(model, "deep-alignment", without_prefix=0.0, longest_prefix=9), 0)
    prefixes = [deep.refusing(ROW)[1] for _ in range(120)]
    assert {len(prefix) for prefix in prefixes} == set(range(1, 10))
    assert all(prefix[0] in (50, 80) for prefix in prefixes)


def test_a_step_draws_the_same_whatever_was_drawn_before() -> None:
    one = run(random_chat_model("Llama"), "deep-alignment")
    Step.of(one, 0).draw_harmful()
    assert Step.of(one, 7).draw_harmful() == Step.of(one, 7).draw_harmful()


# --- adversaries


def test_moves_stay_in_their_radius_and_make_compliance_likelier() -> None:
    model = random_chat_model("Llama")
    laid = lay([(row.asked, [], row.compliant) for row in (ROW, OTHER)], model)
    open_BP = laid.prompts.clone()
    open_BP[:, -2:] = False
    places = [bounded_place(model.layers[k], 3.0, 0.5, open_BP, model.hidden_size) for k in (0, 2)]
    moves = worst_case(model, laid, places, 6, torch.Generator().manual_seed(0))
    for move in moves:
        norms = move.norm(dim=-1)
        assert (norms <= 1.5 + 1e-5).all()
        assert (norms[~open_BP] == 0).all()
        assert (norms[open_BP] > 0.5).all()
    with torch.no_grad():
        still = toward(laid.logprobs(model), laid.learnt_BR)
        with moved(places, moves):
            pushed = toward(laid.logprobs(model), laid.learnt_BR)
    assert pushed < still - 0.1
    assert all(parameter.grad is None for parameter in model.model.parameters())


def test_moves_apply_to_the_same_prompts_with_other_replies() -> None:
    model = random_chat_model("Llama")
    both = lay([(ROW.asked, [], ROW.refusal), (ROW.asked, [], ROW.compliant)], model)
    half = both.take(slice(1, None))
    place = bounded_place(model.layers[1], 3.0, 0.5, half.prompts, model.hidden_size)
    move = torch.randn(1, both.prompt_width, model.hidden_size)
    with torch.no_grad(), moved([place], [move]):
        torch.testing.assert_close(both.logprobs(model)[1:], half.logprobs(model))


@pytest.mark.parametrize("method", ["latent", "embeddings", "deep-alignment", "discrete", "refusal-feature"])
def test_every_part_has_a_finite_loss_that_moves_weights(method: str) -> None:
    from safetylayers.harden.objective import make_parts

    model = random_chat_model("Llama")
    changes = {"pool": 4, "suffix_tokens": 3}
    (part,) = make_parts(parse_method(method))
    part.loss(Step.of(run(model, method, {"latent": (0, 1)}, **changes), 3)).backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in model.model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients) > 0


def test_capo_prefers_refusals_to_compliance() -> None:
    from safetylayers.harden.pressure import Embeddings

    model = random_chat_model("Llama")
    loss = Embeddings().loss(Step.of(run(model, "embeddings", embedding_loss="capo", capo_tau=0.5), 0))
    assert loss.item() == pytest.approx(1, abs=1e-3)  # both models are the same one: the whole margin is missing


def test_an_unchanged_model_is_wholly_to_be_rerouted_and_wholly_kept() -> None:
    model = random_chat_model("Llama")
    step = Step.of(run(model, "circuit-breaker", {"circuit-breaker": (1,)}), 0)
    difference = _Difference.of(step, lay([step.complying(ROW)], model), (1, 2))
    assert difference.cosine().item() == pytest.approx(1)
    assert difference.distance().item() == 0


def test_rerouting_weighs_less_and_keeping_more_as_training_goes_on() -> None:
    model = random_chat_model("Llama")
    one = run(model, "circuit-breaker", {"circuit-breaker": (1,)}, reroute=10.0)
    assert CircuitBreaker().loss(Step.of(one, 0)).item() == pytest.approx(10)
    assert CircuitBreaker().loss(Step.of(one, 9)).item() == pytest.approx(5.5)


# --- suffixes


def test_a_coordinate_step_changes_one_token_at_most_and_never_for_the_worse() -> None:
    model = random_chat_model("Llama")
    rng = random.Random(0)
    cases = [SuffixCase(row.before, [90, 91, 92, 93], row.after, row.compliant) for row in (ROW, OTHER)]
    scores = []
    for _ in range(8):
        laid = lay([case.pieces(case.suffix) for case in cases], model)
        with torch.no_grad():
            scores.append(float(-toward(laid.logprobs(model), laid.learnt_BR)))
        better = CoordinateGradient(candidates=8, best=16).improve(model, cases, rng)
        for case, suffix in zip(cases, better, strict=True):
            assert sum(a != b for a, b in zip(case.suffix, suffix, strict=True)) <= 1
            assert not set(suffix) & set(model.tokenizer.all_special_ids)
        cases = [
            SuffixCase(case.before, suffix, case.after, case.wanted) for case, suffix in zip(cases, better, strict=True)
        ]
    assert scores[-1] > scores[0] + 0.05
    assert all(parameter.grad is None for parameter in model.model.parameters())


@settings(max_examples=30)
@given(size=st.integers(1, 40), seed=st.integers(0, 100))
def test_a_fifth_of_the_pool_begins_anew(size: int, seed: int) -> None:
    numbers = HardenSettings(pool=size, suffix_tokens=6)
    rng = random.Random(seed)
    pool = Pool.fresh(numbers, 5, 10_000_000, rng)
    before = [list(suffix) for suffix in pool.suffixes]
    pool.begin_anew(numbers, 5, 10_000_000, rng)
    changed = sum(old != new for old, new in zip(before, pool.suffixes, strict=True))
    assert changed == max(1, round(size / 5))
