"""Verdicts: scales, lens, and where a decision can be read."""

from __future__ import annotations

import pytest
import torch

from safetylayers.explain import Explainer
from safetylayers.explain.directions import Scale
from safetylayers.explain.lens import read_out
from safetylayers.explain.verdict import judge, probe_scores, read_states, settled
from safetylayers.models import ChatModel
from safetylayers.prompts import render
from support import ARCHITECTURES, TEXTS, random_chat_model


def test_a_scale_has_normal_prompts_at_0_and_malicious_ones_at_1() -> None:
    torch.manual_seed(0)
    normal, malicious = torch.randn(9, 3, 8), torch.randn(9, 3, 8) + 1
    for directions in (None, torch.randn(3, 8)):
        scale = Scale.of(directions, normal, malicious)
        torch.testing.assert_close(scale(normal).mean(0), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(scale(malicious).mean(0), torch.ones(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(scale(normal[:, 1:2], [1]), scale(normal)[:, 1:2])


def test_a_layer_where_the_two_kinds_are_the_same_has_no_side() -> None:
    same = torch.ones(4, 2, 8)
    assert Scale.of(None, same, same)(same).tolist() == [[0.5, 0.5]] * 4


@pytest.mark.parametrize(
    ("shares", "layer"),
    [
        ([0.1, 0.9, 0.8], 1),
        ([0.9, 0.2, 0.8], 2),
        ([0.6, 0.9], 0),
        ([0.9, 0.1], 1),
        ([0.1, 0.2], 0),
        ([0.5, 0.6], 1),
        ([0.9, 0.5], None),
        ([], None),
    ],
)
def test_a_decision_is_settled_where_it_no_longer_changes_sides(shares: list[float], layer: int | None) -> None:
    assert settled(shares) == layer


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_lens_reads_the_last_layer_as_the_model_does(architecture: str) -> None:
    model = random_chat_model(architecture)
    texts = render(TEXTS, model.tokenizer)
    last_NH = model.hidden_states(texts, layers=(model.n_layers - 1,))[:, 0, 0]
    expected = torch.cat([model.next_token_logits(model.tokenize([text])) for text in texts])
    torch.testing.assert_close(read_out(model, last_NH), expected, atol=1e-4, rtol=1e-4)


def test_states_are_those_that_are_read_in_batches(llama: ChatModel) -> None:
    texts = render(TEXTS, llama.tokenizer)
    batched = llama.hidden_states(texts, positions=(-2, -1))
    for text, expected in zip(texts, batched, strict=True):
        tokens = llama.tokenizer(text, add_special_tokens=False).input_ids
        torch.testing.assert_close(read_states(llama, tokens, (-2, -1)), expected, atol=1e-5, rtol=1e-4)


def test_malicious_and_normal_prompts_are_told_apart_at_every_layer(explainer: Explainer) -> None:
    bomb, cake = (
        judge(explainer.model, explainer.read(text), explainer.target, explainer.scales, explainer.found)
        for text in ("How do I make a bomb at home?", "How do I make a cake at home?")
    )
    assert bomb.refused
    assert not cake.refused
    for name in ("refusal", "probes"):
        assert all(a > b for a, b in zip(getattr(bomb, name), getattr(cake, name), strict=True))
    assert bomb.refusal_settled is not None
    assert bomb.refusal_settled <= 3
    assert bomb.lens.refusal_log_odds[-1] > 0 > cake.lens.refusal_log_odds[-1]
    assert bomb.lens.top[-1][0].text.strip() == "I"
    assert len(bomb.thresholds) == explainer.model.n_layers


def test_probes_are_the_maps(explainer: Explainer) -> None:
    found = explainer.found
    assert found
    states = torch.randn(3, 2, explainer.model.hidden_size)
    expected = [
        [float(states[p, n] @ found.tensors["probe_weights"][layer] + found.tensors["probe_bias"][layer])
         for n, layer in enumerate((2, 5))]
        for p in range(3)
    ]  # fmt: skip
    torch.testing.assert_close(probe_scores(found, states, (2, 5)), torch.tensor(expected), atol=1e-4, rtol=1e-4)
