"""Recorded attention is the attention that the model pays, and the model does not notice."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import AttentionInterface

from safetylayers.errors import UnknownArchitectureError, UsageError
from safetylayers.models import Batch, ChatModel
from safetylayers.models.attending import attending, noted
from safetylayers.models.attention_backend import NAME
from support import ARCHITECTURES, TEXTS, random_chat_model

LONG = "Explain how rain forms over the hills, and why it does not over the sea."
"""Longer than windows (16) and than Llama 4's chunks (64)."""
LAYERS = range(4)


def eager_copy(model: ChatModel) -> ChatModel:
    other = copy.deepcopy(model.model)
    other.set_attn_implementation("eager")
    return ChatModel(other, model.tokenizer)


def eager_attention(model: ChatModel, batch: Batch) -> tuple[Tensor, ...]:
    """transformers' own account: [B, heads, T, T] a layer."""
    with torch.inference_mode():
        output = eager_copy(model).model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids,
            output_attentions=True, use_cache=False,
        )  # fmt: skip
    return tuple(output.attentions)


def batches(model: ChatModel) -> list[Batch]:
    """Without padding, and with."""
    return [model.tokenize([LONG]), model.tokenize([LONG, *TEXTS])]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_last_rows_and_full_maps_are_those_of_eager_attention(architecture: str) -> None:
    model = random_chat_model(architecture)
    heads = {layer: [layer, 0, 2] for layer in LAYERS}
    for batch in batches(model):
        expected = eager_attention(model, batch)
        with attending(model, LAYERS) as last:
            model.next_token_logits(batch)
        with attending(model, LAYERS, rows="all", heads=heads) as full:
            model.next_token_logits(batch)
        with attending(model, LAYERS, rows="all") as whole:
            model.next_token_logits(batch)
        assert sorted(last) == sorted(full) == list(LAYERS)
        real_BT = batch.attention_mask.bool()
        real_rows = real_BT[:, None, :, None]  # transformers spreads rows of padding over everything
        for layer in LAYERS:
            rows = expected[layer] * real_rows
            torch.testing.assert_close(last[layer], rows[:, :, -1], atol=2e-6, rtol=1e-5)
            torch.testing.assert_close(full[layer], rows[:, heads[layer]], atol=2e-6, rtol=1e-5)
            torch.testing.assert_close(whole[layer], rows, atol=2e-6, rtol=1e-5)
            assert not whole[layer].transpose(-1, -2)[~real_BT[:, None].expand(-1, 4, -1)].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_model_does_not_notice(architecture: str) -> None:
    model = random_chat_model(architecture)
    configs = {module: module.config for module in model.model.modules() if hasattr(module, "config")}
    written = model.model.config.to_json_string()
    kind = model.model.config._attn_implementation
    for batch in batches(model):
        before = model.next_token_logits(batch)
        with attending(model, LAYERS):
            assert torch.equal(model.next_token_logits(batch), before)
        assert torch.equal(model.next_token_logits(batch), before)
    assert all(module.config is config for module, config in configs.items())
    assert model.model.config._attn_implementation == kind != NAME
    assert model.model.config.to_json_string() == written


def test_all_is_set_back_after_an_exception(llama: ChatModel) -> None:
    configs = {module: module.config for module in llama.model.modules() if hasattr(module, "config")}
    with pytest.raises(KeyError), attending(llama, LAYERS):
        raise KeyError
    assert all(module.config is config for module, config in configs.items())
    with attending(llama, [1]) as found:
        llama.next_token_logits(llama.tokenize(TEXTS))
    assert list(found) == [1]


def test_only_the_chosen_layers_of_this_model_are_recorded_even_where_two_share_a_configuration() -> None:
    model, other = random_chat_model("Llama"), random_chat_model("Llama", seed=1)
    for module in other.model.modules():
        if hasattr(module, "config"):
            module.config = model.model.config
    batch = model.tokenize(TEXTS)
    expected = other.next_token_logits(batch)
    with attending(model, [0, 2]) as found:
        assert torch.equal(other.next_token_logits(batch), expected)
        assert not found
        with attending(other, [3]) as others:
            model.next_token_logits(batch)
            other.next_token_logits(batch)
    assert sorted(found) == [0, 2]
    assert sorted(others) == [3]


def test_probabilities_sum_to_1_and_with_sinks_to_less() -> None:
    for architecture in ("Llama", "Gemma2", "GptOss"):
        model = random_chat_model(architecture)
        with attending(model, LAYERS) as found:
            model.next_token_logits(model.tokenize([LONG, *TEXTS]))
        sums = torch.stack(list(found.values())).sum(-1)
        if architecture == "GptOss":
            assert 0 < float(sums.min()) < float(sums.max()) < 1
        else:
            torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize("rows", ["last", "all"])
def test_quantised_rows_are_within_half_a_step(rows: str, llama: ChatModel) -> None:
    batch = llama.tokenize([LONG, *TEXTS])
    with attending(llama, LAYERS, rows=rows) as exact:  # type: ignore[arg-type]
        llama.next_token_logits(batch)
    with attending(llama, LAYERS, rows=rows, quantised=True) as coarse:  # type: ignore[arg-type]
        llama.next_token_logits(batch)
    for layer in LAYERS:
        assert coarse[layer].dtype == torch.uint8
        assert float((coarse[layer] / 255 - exact[layer]).abs().max()) <= 0.5 / 255 + 1e-6


def test_with_a_cache_the_row_is_that_of_the_newest_token() -> None:
    for architecture in ("Llama", "Gemma3", "GptOss"):
        model = random_chat_model(architecture)
        batch = model.tokenize([LONG])
        with torch.inference_mode():
            cache = model.model(input_ids=batch.input_ids[:, :-1], use_cache=True).past_key_values
            with attending(model, LAYERS) as cached:
                model.model(input_ids=batch.input_ids[:, -1:], past_key_values=cache, use_cache=True)
        with attending(model, LAYERS) as whole:
            model.next_token_logits(batch)
        for layer in LAYERS:
            seen = cached[layer].shape[-1]  # a layer with a window keeps no more than its window
            torch.testing.assert_close(cached[layer], whole[layer][..., -seen:], atol=2e-6, rtol=1e-5)
            assert not whole[layer][..., :-seen].any()


@pytest.mark.parametrize("architecture", ["Llama", "Gemma2", "GptOss"])
def test_in_bfloat16_rows_are_those_of_eager_attention_within_its_error(architecture: str) -> None:
    model = random_chat_model(architecture)
    model.model.to(torch.bfloat16)
    batch = model.tokenize([LONG, *TEXTS])
    before, expected = model.next_token_logits(batch), eager_attention(model, batch)
    with attending(model, LAYERS) as found:
        assert torch.equal(model.next_token_logits(batch), before)
    assert found[0].dtype == torch.float32
    for layer in LAYERS:
        torch.testing.assert_close(found[layer], expected[layer][:, :, -1].float(), atol=0.01, rtol=0.05)


def test_gradients_flow_through_the_model_and_not_into_what_is_recorded(llama: ChatModel) -> None:
    batch = llama.tokenize(TEXTS)
    with attending(llama, LAYERS) as found:
        llama.logits(batch, last=1).sum().backward()
    assert llama.layers[0].get_parameter("self_attn.q_proj.weight").grad is not None
    assert not any(weights.requires_grad for weights in found.values())


def test_a_mask_that_adds_its_own_numbers_is_heeded(llama: ChatModel) -> None:
    batch = llama.tokenize([LONG])
    T = batch.input_ids.shape[1]
    causal = torch.full((T, T), torch.finfo(torch.float32).min).triu(1)
    mask = causal + torch.randn(T, T, generator=torch.Generator().manual_seed(0)).tril()
    found = []
    for model in (llama, eager_copy(llama)):
        with torch.inference_mode(), attending(model, LAYERS, rows="all") as rows:
            model.model(input_ids=batch.input_ids, attention_mask=mask[None, None], use_cache=False)
        found.append(rows)
    for layer in LAYERS:
        torch.testing.assert_close(found[0][layer], found[1][layer], atol=2e-6, rtol=1e-5)


def test_who_keeps_nothing_is_told_layer_by_layer(llama: ChatModel) -> None:
    told: list[tuple[int, tuple[int, ...]]] = []
    with noted(llama, [3, 0], lambda layer, weights: told.append((layer, tuple(weights.shape))), heads={3: [1]}):
        llama.next_token_logits(llama.tokenize(["Hi"]))
    assert told == [(0, (1, 4, 1, 2)), (3, (1, 1, 1, 2))]


def test_what_cannot_be_recorded_is_refused_and_nothing_is_changed(llama: ChatModel) -> None:
    for layers, heads in (([], None), ([4], None), ([-1], None), ([0], {0: [4]}), ([0], {0: []}), ([0], {1: [0]})):
        with pytest.raises(UsageError, match="There are no"), attending(llama, layers, heads=heads):
            pass
    with attending(llama, [0]), pytest.raises(UsageError, match="already"), attending(llama, [0, 1]):
        pass
    llama.model.set_attn_implementation("flex_attention")
    with pytest.raises(UsageError, match="flex_attention"), attending(llama, [0]):
        pass
    assert llama.model.config._attn_implementation == "flex_attention"
    llama.layers[2].self_attn = torch.nn.Identity()
    with pytest.raises(UnknownArchitectureError, match="layer 2"), attending(llama, [2]):
        pass


def test_one_name_is_added_to_those_of_transformers() -> None:
    assert NAME in AttentionInterface()


def allocations(model: ChatModel, batch: Batch) -> list[int]:
    """What a forward pass takes and, below zero, gives back: bytes, in the order of time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        model.next_token_logits(batch)
    events = profiled.profiler.kineto_results.events()
    return [
        event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()) if event.name() == "[memory]"
    ]


def test_last_rows_of_thirty_layers_at_2048_tokens_add_less_than_50_megabytes() -> None:
    T = 2048
    model = random_chat_model(
        "Llama", hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        max_position_embeddings=T,
    )  # fmt: skip
    batch = model.batch_of([[5] * T])
    plain = allocations(model, batch)
    with attending(model, range(30)) as found:
        recorded = allocations(model, batch)
    peaks = [max(itertools.accumulate(sizes)) for sizes in (plain, recorded)]
    assert sum(rows.nbytes for rows in found.values()) == 30 * 9 * T * 4
    assert 0 < peaks[1] - peaks[0] < 50 * 2**20
    assert T * T not in recorded
    assert max(recorded) == max(plain)
