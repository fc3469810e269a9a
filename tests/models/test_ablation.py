"""Ablation: nothing is left along the directions, by hooks or by weights, and the model is what it was afterwards."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch

from safetylayers.errors import UsageError
from safetylayers.models import ChatModel
from safetylayers.models.ablation import ablated, orthonormal, with_ablated_weights
from support import ARCHITECTURES, TEXTS, random_chat_model

NORMS_BETWEEN = {"Gemma2", "Gemma3", "Olmo2"}
"""Architectures that norm what a part wrote before they add it."""


def directions(model: ChatModel, count: int) -> torch.Tensor:
    return orthonormal(torch.randn(count, model.hidden_size, generator=torch.Generator().manual_seed(1)))


def first_of(args: tuple[Any, ...], options: dict[str, Any]) -> torch.Tensor:
    """What a layer reads."""
    hidden: torch.Tensor = args[0] if args else options["hidden_states"]
    return hidden


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_is_left_along_the_directions_and_all_of_it_is_undone(architecture: str) -> None:
    model = random_chat_model(architecture)
    basis = directions(model, 2)
    before = model.next_token_logits(model.tokenize(TEXTS))
    read: list[torch.Tensor] = []
    with ExitStack() as stack:
        for layer in model.layers:
            hook = layer.register_forward_pre_hook(
                lambda _, args, options: read.append(first_of(args, options)), with_kwargs=True
            )
            stack.callback(hook.remove)
        with ablated(model, basis):
            during = model.next_token_logits(model.tokenize(TEXTS))
    assert len(read) == model.n_layers
    assert max(float((hidden @ basis.T).abs().max()) for hidden in read) < 1e-4
    assert not torch.allclose(before, during, atol=1e-3)
    assert torch.equal(model.next_token_logits(model.tokenize(TEXTS)), before)


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - NORMS_BETWEEN))
def test_edited_weights_do_what_hooks_do(architecture: str) -> None:
    model = random_chat_model(architecture)
    basis = directions(model, 2)
    before = model.fresh_weights_hash()
    edited = with_ablated_weights(model, basis)
    with ablated(model, basis):
        expected = model.next_token_logits(model.tokenize(TEXTS))
    torch.testing.assert_close(edited.next_token_logits(edited.tokenize(TEXTS)), expected, atol=1e-4, rtol=1e-4)
    assert model.fresh_weights_hash() == before
    assert edited.fresh_weights_hash() != before


def test_tied_embeddings_are_edited_where_they_write_and_not_where_they_read() -> None:
    model = random_chat_model("Llama", tie_word_embeddings=True)
    basis = directions(model, 1)
    edited = with_ablated_weights(model, basis)
    with ablated(model, basis):
        expected = model.next_token_logits(model.tokenize(TEXTS))
    torch.testing.assert_close(edited.next_token_logits(edited.tokenize(TEXTS)), expected, atol=1e-4, rtol=1e-4)


def test_directions_that_depend_on_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="depends on the others"):
        orthonormal(torch.tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]]))
    with pytest.raises(UsageError, match="is zero"):
        orthonormal(torch.zeros(1, 3))
