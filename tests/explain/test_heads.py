"""Heads are taken out exactly, many at once as one by one, and ranked by what that does."""

from __future__ import annotations

import pytest
import torch

from safetylayers.errors import UnknownArchitectureError, UsageError
from safetylayers.explain.heads import mean_inputs, output_projections, rank_heads, without_heads
from safetylayers.explain.target import Projection, RefusalOdds, values_of
from safetylayers.explain.tokens import Reading, read_prompt
from safetylayers.models import ChatModel
from support import ARCHITECTURES, TEXTS, random_chat_model

TARGET = RefusalOdds(((70, 71), (70, 80), (72,)))
"""Two rows a variant."""
OUTPUTS = {"GPTNeoX": "attention.dense"}


def reading_of(model: ChatModel, prompt: str = "How do I pick a lock?") -> Reading:
    return read_prompt(prompt, model.tokenizer)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_output_projection_is_found_by_structure(architecture: str) -> None:
    model = random_chat_model(architecture)
    found = output_projections(model)
    name = OUTPUTS.get(architecture, "self_attn.o_proj")
    assert [found[layer] is model.layers[layer].get_submodule(name) for layer in range(4)] == [True] * 4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_all_heads_the_projection_reads_zero(architecture: str) -> None:
    model = random_chat_model(architecture)
    batch = model.tokenize(TEXTS)
    found = output_projections(model, [2])
    handle = found[2].register_forward_pre_hook(lambda _, inputs: torch.zeros_like(inputs[0]))
    expected = model.next_token_logits(batch)
    handle.remove()
    with without_heads(model, found, [[(2, head) for head in range(4)]] * 3):
        assert torch.equal(model.next_token_logits(batch), expected)


def test_each_row_loses_its_own_heads_and_all_come_back(llama: ChatModel) -> None:
    batch = llama.tokenize([TEXTS[0]] * 3)
    before = llama.next_token_logits(batch)
    found = output_projections(llama)
    with without_heads(llama, found, [[], [(1, 3)], [(0, 0), (2, 1)]]):
        during = llama.next_token_logits(batch)
    torch.testing.assert_close(during[0], before[0], atol=1e-6, rtol=1e-5)
    weight = found[1].weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[:, 24:] = 0
    torch.testing.assert_close(during[1], llama.next_token_logits(batch)[1], atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        weight.copy_(kept)
    assert float((during[2] - before[2]).abs().max()) > 1e-3
    assert torch.equal(llama.next_token_logits(batch), before)


@pytest.mark.parametrize("architecture", ["Llama", "GptOss", "Gemma3", "GPTNeoX"])
def test_many_at_once_are_as_one_by_one(architecture: str) -> None:
    model = random_chat_model(architecture)
    reading = reading_of(model)
    at_once = rank_heads(model, TARGET, reading)
    model.batch_size = 1
    one_by_one = {(head.layer, head.head): head.effect for head in rank_heads(model, TARGET, reading)}
    assert {(head.layer, head.head) for head in at_once} == {(layer, head) for layer in range(4) for head in range(4)}
    for head in at_once:
        assert head.effect == pytest.approx(one_by_one[head.layer, head.head], abs=2e-5)


def test_an_effect_is_the_value_without_the_head_less_the_value_with_it(llama: ChatModel) -> None:
    reading = reading_of(llama)
    (before,) = values_of(TARGET, llama, [reading.token_ids])
    for head in rank_heads(llama, TARGET, reading, layers=[3, 1])[:3]:
        rows = [[(head.layer, head.head)]] * len(TARGET.endings)
        with without_heads(llama, output_projections(llama), rows):
            (after,) = values_of(TARGET, llama, [reading.token_ids])
        assert head.effect == pytest.approx(float(after - before), abs=2e-5)


def test_heads_come_in_the_order_of_their_effects_size(llama: ChatModel) -> None:
    told: list[tuple[int, int, str]] = []
    found = rank_heads(llama, TARGET, reading_of(llama), layers=[1, 3], progress=lambda *news: told.append(news))
    sizes = [abs(head.effect) for head in found]
    assert sizes == sorted(sizes, reverse=True)
    assert {head.layer for head in found} == {1, 3}
    assert told == [(8, 8, "heads taken out")]


def test_a_head_that_writes_nothing_has_no_effect(llama: ChatModel) -> None:
    with torch.no_grad():
        output_projections(llama)[2].weight[:, 8:16] = 0
    found = {(head.layer, head.head): head.effect for head in rank_heads(llama, TARGET, reading_of(llama))}
    assert abs(found[2, 1]) < 1e-6
    assert all(abs(effect) > 1e-6 for head, effect in found.items() if head != (2, 1))


def test_heads_above_what_is_projected_have_no_effect(llama: ChatModel) -> None:
    target = Projection({1: torch.nn.functional.normalize(torch.ones(llama.hidden_size), dim=0)})
    for head in rank_heads(llama, target, reading_of(llama)):
        assert (head.effect == 0) == (head.layer > 1)


@pytest.mark.parametrize("architecture", ["Llama", "Gemma2"])  # in Gemma 2 padding reads something
def test_means_are_over_the_tokens_of_all_reference_prompts_and_of_no_padding(architecture: str) -> None:
    model = random_chat_model(architecture)
    readings = [reading_of(model, "Hi"), reading_of(model, "Tell me about bees and wasps.")]
    found = output_projections(model)
    read: list[torch.Tensor] = []
    for reading in readings:
        handle = found[2].register_forward_pre_hook(lambda _, inputs: read.append(inputs[0][0]))
        model.next_token_logits(model.batch_of([reading.token_ids]))
        handle.remove()
    means = mean_inputs(model, found, readings)
    torch.testing.assert_close(means[2], torch.cat(read).mean(0), atol=1e-6, rtol=1e-5)


def test_a_head_that_always_writes_its_mean_has_no_effect_against_that_mean(llama: ChatModel) -> None:
    reading = reading_of(llama)
    with torch.no_grad():
        # Heads 2 and 3 share the second value head, which now always says zero, and that is its mean.
        llama.layers[1].get_parameter("self_attn.v_proj.weight")[8:] = 0
    ranked = rank_heads(llama, TARGET, reading, layers=[1], reference=[reading])
    effects = {head.head: abs(head.effect) for head in ranked}
    assert max(effects[2], effects[3]) < 1e-6 < min(effects[0], effects[1])


def test_layers_of_linear_attention_are_left_out_unless_they_are_asked_for(llama: ChatModel) -> None:
    llama.model.config.layer_types = ["full_attention", "linear_attention", "sliding_attention", "full_attention"]
    assert list(output_projections(llama)) == [0, 2, 3]
    with pytest.raises(UnknownArchitectureError, match="layer 1"):
        output_projections(llama, [1])


def test_a_mean_and_zero_are_different_references(llama: ChatModel) -> None:
    reading = reading_of(llama)
    zero = rank_heads(llama, TARGET, reading)
    mean = rank_heads(llama, TARGET, reading, reference=[reading_of(llama, "Tell me about bees.")])
    assert {head.effect for head in zero} != {head.effect for head in mean}


def test_in_bfloat16_heads_are_ranked_as_well(llama: ChatModel) -> None:
    llama.model.to(torch.bfloat16)
    assert len(rank_heads(llama, TARGET, reading_of(llama), reference=[reading_of(llama, "Hi")])) == 16


def test_what_cannot_be_ranked_is_refused(llama: ChatModel) -> None:
    reading = reading_of(llama)
    for layers in ([], [4], [-1, 2]):
        with pytest.raises(UsageError, match="no layers"):
            rank_heads(llama, TARGET, reading, layers=layers)
    with pytest.raises(UsageError, match="reference"):
        rank_heads(llama, TARGET, reading, reference=[])
    llama.layers[1].get_submodule("self_attn").o_proj = torch.nn.Sequential(
        torch.nn.Linear(32, 5), torch.nn.Linear(5, 32)
    )
    with pytest.raises(UnknownArchitectureError, match="layer 1"):
        output_projections(llama)


def test_on_the_practice_model_some_heads_carry_its_refusal() -> None:
    model = ChatModel.load("tiny")
    target = RefusalOdds.of(model, ["I'm sorry", "I can't"])
    reading = read_prompt("How do I build a bomb?", model.tokenizer)
    (before,) = values_of(target, model, [reading.token_ids])
    ranked = rank_heads(model, target, reading)
    assert ranked[0].effect < -0.5 < 0 < before
