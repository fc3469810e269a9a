"""Components: what is read is what is added to the residual stream; what is replaced is so there and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from safetylayers.errors import UnknownArchitectureError, UsageError
from safetylayers.models import ChatModel
from safetylayers.models.components import COMPONENTS, Site, captured_at, component_module, replaced_at, shifted_at
from support import ARCHITECTURES, TEXTS, random_chat_model

EVERY = pytest.mark.parametrize("architecture", ARCHITECTURES)
NORMS_BETWEEN = {"Gemma2", "Gemma3", "Olmo2"}
"""Architectures that norm what a part wrote before they add it."""
ALL = [Site(layer, component) for layer in range(4) for component in COMPONENTS]


def read(model: ChatModel, columns: Tensor | None = None) -> dict[Site, Tensor]:
    """What every site gives at the rows' columns, by itself at all of them."""
    batch = model.tokenize(TEXTS)
    everywhere = torch.arange(batch.input_ids.shape[1]).expand(len(TEXTS), -1)
    with captured_at(model, ALL, everywhere if columns is None else columns) as found:
        model.next_token_logits(batch)
    return found


def logits(model: ChatModel) -> Tensor:
    return model.next_token_logits(model.tokenize(TEXTS))


@EVERY
def test_attention_is_the_part_that_sees_other_tokens(architecture: str) -> None:
    model = random_chat_model(architecture)
    one, other = (model.tokenize([text]) for text in ("abcdef", "xbcdef"))
    sites = [Site(0, "attention"), Site(0, "mlp")]
    for layer in model.layers:
        assert component_module(layer, "attention") is not component_module(layer, "mlp")
        assert component_module(layer, "residual") is layer
    found = []
    for batch in (one, other):
        with captured_at(model, sites, torch.tensor([[0, 5]])) as values:
            model.next_token_logits(batch)
        found.append(values)
    assert not torch.equal(found[0][sites[0]][:, 1], found[1][sites[0]][:, 1])


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - NORMS_BETWEEN))
def test_a_layer_hands_on_what_it_read_and_what_its_parts_added(architecture: str) -> None:
    found = read(random_chat_model(architecture))
    for layer in (1, 2, 3):
        added = found[Site(layer, "attention")] + found[Site(layer, "mlp")]
        torch.testing.assert_close(found[Site(layer, "residual")], found[Site(layer - 1, "residual")] + added)


@EVERY
def test_each_row_is_read_at_its_own_columns(architecture: str) -> None:
    model = random_chat_model(architecture)
    whole = read(model)
    columns = torch.tensor([[3, 1], [30, 29], [0, 7]])
    for site, values in read(model, columns).items():
        torch.testing.assert_close(values, torch.stack([whole[site][row, columns[row]] for row in range(3)]))


@EVERY
def test_a_run_s_own_values_change_nothing(architecture: str) -> None:
    model = random_chat_model(architecture)
    before = logits(model)
    columns = torch.tensor([[3, 30], [30, 29], [30, 30]])
    with replaced_at(model, read(model, columns), columns):
        assert torch.equal(logits(model), before)


@EVERY
@pytest.mark.parametrize("component", COMPONENTS)
def test_what_is_replaced_or_shifted_is_so_there_alone_and_leaves_no_trace(architecture: str, component: str) -> None:
    model = random_chat_model(architecture)
    site, columns = Site(2, component), torch.tensor([[3], [30], [29]])  # type: ignore[arg-type]
    before, own = logits(model), read(model)[site]
    values = torch.randn(3, 1, model.hidden_size)
    there = torch.zeros(own.shape[:2], dtype=torch.bool).scatter(1, columns, True)
    with replaced_at(model, {site: values}, columns):
        replaced = read(model)[site]
    with shifted_at(model, {site: values}, columns):
        shifted = read(model)[site]
        assert not torch.allclose(logits(model), before)
    assert torch.equal(replaced[there], values[:, 0])
    assert torch.equal(shifted[there], own[there] + values[:, 0])
    assert torch.equal(replaced[~there], own[~there])
    assert torch.equal(shifted[~there], own[~there])
    assert torch.equal(logits(model), before)


def test_gradients_reach_what_is_added(llama: ChatModel) -> None:
    shift = torch.zeros(3, 1, llama.hidden_size, requires_grad=True)
    with shifted_at(llama, {Site(1, "mlp"): shift}, torch.tensor([[30]] * 3)):
        llama.logits(llama.tokenize(TEXTS), last=1).sum().backward()
    assert shift.grad is not None
    assert bool(shift.grad.any(dim=-1).all())


def test_an_unknown_component_is_refused(llama: ChatModel) -> None:
    with pytest.raises(UsageError, match="no component 'head'"):
        component_module(llama.layers[0], "head")  # type: ignore[arg-type]


def test_a_layer_without_the_two_parts_can_be_read_as_a_whole_only() -> None:
    layer = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert component_module(layer, "residual") is layer
    with pytest.raises(UnknownArchitectureError, match="2 of its parts look like its mlp"):
        component_module(layer, "mlp")
    with pytest.raises(UnknownArchitectureError, match="0 of its parts look like its attention"):
        component_module(layer, "attention")
