"""What must hold for every architecture that the project names."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from safetylayers.models import ChatModel, projections
from support import ARCHITECTURES, TEXTS, random_chat_model

EVERY = pytest.mark.parametrize("architecture", ARCHITECTURES)


def logits(model: ChatModel) -> Tensor:
    return model.next_token_logits(model.tokenize(TEXTS))


def with_scaled_weights(model: ChatModel, alpha: float, first: int, last: int) -> ChatModel:
    scaled = ChatModel(copy.deepcopy(model.model), model.tokenizer)
    with torch.no_grad():
        for layer in scaled.layers[first : last + 1]:
            for weight in projections(layer).values():
                weight.mul_(alpha)
    return scaled


@EVERY
def test_decoder_layers_are_found_first_to_last(architecture: str) -> None:
    model = random_chat_model(architecture)
    assert model.n_layers == 4
    names = [name for name, module in model.model.named_modules() if any(module is layer for layer in model.layers)]
    assert [int(name.rsplit(".", 1)[1]) for name in names] == [0, 1, 2, 3]


@EVERY
def test_projections_are_the_matrices_of_attention_and_mlp(architecture: str) -> None:
    for layer in random_chat_model(architecture).layers:
        found = projections(layer)
        matrices = {name for name, parameter in layer.named_parameters() if parameter.dim() >= 2}
        left_out = matrices - set(found)
        assert all("router" in name or name.endswith("gate.weight") or "bias" in name for name in left_out), left_out
        assert not any("router" in name or "norm" in name or "bias" in name or "sinks" in name for name in found)
        assert len(found) >= 4


@EVERY
def test_hidden_states_are_the_layers_outputs_also_of_the_last_layer(architecture: str) -> None:
    model = random_chat_model(architecture)
    read = model.hidden_states(TEXTS)
    assert read.shape == (3, 4, 1, 32)
    batch = model.tokenize(TEXTS)
    with model.capture(range(4)) as found, torch.inference_mode():
        model.next_token_logits(batch)
        norms = [m for name, m in model.model.named_modules() if "norm" in name and ".layers." not in f".{name}."]
        last_norm = norms[-1]
        head = model.model.get_output_embeddings()
        by_hand = head(last_norm(found[3][:, -1:]))[:, 0].float()
    stacked = torch.stack([found[layer][:, -1].float() for layer in range(4)], dim=1)
    torch.testing.assert_close(read[:, :, 0], stacked, rtol=1e-4, atol=1e-5)
    cap = getattr(model.model.config, "final_logit_softcapping", None)
    by_hand = cap * torch.tanh(by_hand / cap) if cap else by_hand
    torch.testing.assert_close(by_hand, model.next_token_logits(batch), rtol=1e-4, atol=1e-4)


@EVERY
@pytest.mark.parametrize("alpha", [0.8, 1.3])
def test_scaling_equals_scaled_weights_and_leaves_no_trace(architecture: str, alpha: float) -> None:
    model = random_chat_model(architecture)
    before = logits(model)
    with model.scale(alpha, 1, 2):
        inside = logits(model)
    torch.testing.assert_close(inside, logits(with_scaled_weights(model, alpha, 1, 2)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(inside, before)
    assert torch.equal(logits(model), before)


@EVERY
def test_every_row_can_have_its_own_alphas(architecture: str) -> None:
    model = random_chat_model(architecture)
    alphas = torch.ones(3, 4)
    alphas[0, 1:3], alphas[2, 2:4] = 1.2, 0.7
    with model.scale(alphas):
        inside = logits(model)
    expected = [with_scaled_weights(model, 1.2, 1, 2), model, with_scaled_weights(model, 0.7, 2, 3)]
    for row, scaled in enumerate(expected):
        torch.testing.assert_close(inside[row], logits(scaled)[row], rtol=1e-4, atol=1e-4)


@EVERY
def test_resuming_above_the_first_layers_gives_the_same_logits(architecture: str) -> None:
    model = random_chat_model(architecture)
    batch = model.tokenize(TEXTS)
    with model.capture([1]) as found:
        before = model.next_token_logits(batch)
    with model.resume_from(2, found[1]):
        torch.testing.assert_close(model.next_token_logits(batch), before, rtol=1e-5, atol=1e-5)
        with model.scale(1.3, 2, 3):
            resumed = model.next_token_logits(batch)
    with model.scale(1.3, 2, 3):
        torch.testing.assert_close(resumed, model.next_token_logits(batch), rtol=1e-5, atol=1e-5)
    assert torch.equal(model.next_token_logits(batch), before)


@EVERY
def test_steering_adds_a_direction_and_leaves_no_trace(architecture: str) -> None:
    model = random_chat_model(architecture)
    before = logits(model)
    direction = torch.randn(32)
    plain = model.hidden_states(TEXTS, layers=[2])
    with model.steer(2, direction, 3.0), model.capture([3]):
        moved = logits(model)
    assert not torch.allclose(moved, before)
    assert torch.equal(logits(model), before)
    assert torch.equal(model.hidden_states(TEXTS, layers=[2]), plain)


@EVERY
def test_frozen_projections_stay_bitwise_the_same_in_a_training_step(architecture: str) -> None:
    model = random_chat_model(architecture)
    frozen = [weight for layer in model.layers[1:3] for weight in projections(layer).values()]
    for weight in frozen:
        weight.requires_grad_(False)
    copies = [weight.clone() for weight in frozen]
    optimizer = torch.optim.AdamW([p for p in model.model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    batch = model.tokenize(TEXTS)
    model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits.pow(2).mean().backward()
    moving = projections(model.layers[0])
    before = {name: weight.clone() for name, weight in moving.items()}
    optimizer.step()
    assert all(torch.equal(weight, copied) for weight, copied in zip(frozen, copies, strict=True))
    assert not all(torch.equal(weight, before[name]) for name, weight in moving.items())
