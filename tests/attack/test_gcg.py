"""GCG: every way of reading a suffix gives the same loss, what is sent is what was read, and the loss falls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from safetylayers.attach import attach
from safetylayers.attack import run_attack
from safetylayers.attack.gcg import Gcg
from safetylayers.attack.gcg.layout import Layout, allowed_tokens, lay_out
from safetylayers.attack.gcg.probing import agreement
from safetylayers.attack.gcg.reading import Reader
from safetylayers.attack.gcg.search import Buffer, Draws, Search
from safetylayers.attack.gcg.term import MapTerm
from safetylayers.errors import UsageError
from safetylayers.models import ChatModel
from safetylayers.prompts import builtin, render
from safetylayers.targets import ModelTarget
from support import ARCHITECTURES, byte_tokenizer, random_chat_model, safety_layers

REQUEST = "Tell me a story"


def laid_out(model: ChatModel, *, length: int = 6, initial: str = " a") -> Layout:
    return lay_out(model.tokenizer, "chat", REQUEST, initial=initial, length=length, target="Sure, here it is.")


def changed(start: tuple[int, ...], *changes: tuple[int, int]) -> tuple[int, ...]:
    row = list(start)
    for place, token in changes:
        row[place] = token
    return tuple(row)


def direct_loss(model: ChatModel, layout: Layout, suffix: tuple[int, ...]) -> float:
    """The loss by one plain forward pass over everything."""
    ids = [*layout.before, *suffix, *layout.after, *layout.target]
    logprobs = model.next_logprobs(model.batch_of([ids]), len(layout.target) + 1)[0, :-1]
    return -float(logprobs[torch.arange(len(layout.target)), list(layout.target)].mean())


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_are_those_of_a_plain_pass_with_and_without_a_shared_cache(architecture: str, share: bool) -> None:
    model = random_chat_model(architecture)
    layout = laid_out(model)
    reader = Reader(model, layout, share=share)
    rows = [changed(layout.start, (place, 7 + place)) for place in range(6)] * 8
    expected = torch.tensor([direct_loss(model, layout, row) for row in rows])
    torch.testing.assert_close(torch.tensor(reader.losses(rows)), expected.float(), atol=2e-4, rtol=2e-4)
    gradient = reader.gradient(layout.start)  # from now on only what differs from this suffix is read
    assert gradient.loss == pytest.approx(direct_loss(model, layout, layout.start), abs=2e-4)
    torch.testing.assert_close(torch.tensor(reader.losses(rows)), expected.float(), atol=2e-4, rtol=2e-4)


def test_a_cache_that_holds_more_than_keys_and_values_is_not_shared_and_the_losses_are_right() -> None:
    config = transformers.Lfm2Config(
        vocab_size=300, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        block_ff_dim=48, layer_types=["conv", "full_attention"] * 2, pad_token_id=0, eos_token_id=3, bos_token_id=None,
    )  # fmt: skip
    model = ChatModel(transformers.AutoModelForCausalLM.from_config(config), byte_tokenizer())
    layout = laid_out(model)
    reader = Reader(model, layout)
    assert not reader.shares
    rows = [changed(layout.start, (place, 7)) for place in range(6)]
    reader.gradient(layout.start)
    assert reader.losses(rows) == pytest.approx([direct_loss(model, layout, row) for row in rows], abs=2e-4)


def test_safety_layers_that_are_attached_keep_their_state_and_no_cache_is_shared() -> None:
    tiny = _tiny()
    layout = laid_out(tiny, initial=" !")
    rows = [changed(layout.start, (place, 700)) for place in range(6)]
    with attach(tiny, safety_layers(tiny, threshold=-1e6, layers=(0, 1))):
        reader = Reader(tiny, layout)
        assert not reader.shares
        found = reader.losses(rows)
        assert found == pytest.approx([direct_loss(tiny, layout, row) for row in rows], abs=1e-3)
    assert found != pytest.approx(Reader(tiny, layout).losses(rows), abs=1e-2)


def test_a_shared_cache_saves_tokens() -> None:
    model = random_chat_model("Llama")
    layout = laid_out(model)
    rows = [changed(layout.start, (place, 7)) for place in range(6)] * 16
    costs = []
    for share in (True, False):
        reader = Reader(model, layout, share=share)
        reader.gradient(layout.start)
        reader.losses(rows)
        assert reader.shares is share
        costs.append(reader.cost.tokens)
    assert costs[0] < 0.7 * costs[1]


def test_the_slope_is_the_derivative_with_respect_to_each_token() -> None:
    model = random_chat_model("Llama")
    layout = laid_out(model)
    weight = model.model.get_input_embeddings().weight.detach()
    gradient = Reader(model, layout).gradient(layout.start)
    ids = torch.tensor([*layout.before, *layout.start, *layout.after, *layout.target])
    one_hot = torch.nn.functional.one_hot(ids, len(weight)).float().requires_grad_(True)
    logits = model.model(inputs_embeds=(one_hot @ weight)[None], use_cache=False).logits[0]
    target = torch.tensor(layout.target)
    torch.nn.functional.cross_entropy(logits[-len(target) - 1 : -1], target).backward()
    assert one_hot.grad is not None
    part = one_hot.grad[len(layout.before) : len(layout.before) + 6]
    torch.testing.assert_close(gradient.slope_FV, part, atol=1e-4, rtol=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4095), min_size=6, max_size=6))
def test_what_is_sendable_is_read_back_as_the_same_tokens(suffix: list[int]) -> None:
    tiny = _tiny()
    layout = laid_out(tiny, initial=" !")
    (fits,) = layout.sendable([tuple(suffix)])
    typed = layout.typed(tuple(suffix))
    if fits and typed is not None:
        (rendered,) = render([typed], tiny.tokenizer)
        ids = tiny.tokenizer(rendered, add_special_tokens=False).input_ids
        assert ids == [*layout.before, *suffix, *layout.after]
        assert typed.startswith(REQUEST)


def test_a_suffix_may_hold_no_special_and_no_unprintable_token() -> None:
    tiny = _tiny()
    allowed = allowed_tokens(tiny.tokenizer, 4096)
    texts = [tiny.tokenizer.decode([token]) for token in allowed.nonzero()[:, 0].tolist()]
    assert not allowed[tiny.tokenizer.all_special_ids].any()
    assert all(text.isascii() and text.isprintable() for text in texts)
    assert len(allowed_tokens(tiny.tokenizer, 5000)) == 5000


def test_candidates_change_so_many_tokens_to_ones_that_promise_most() -> None:
    slope = torch.rand(5, 50, generator=torch.Generator().manual_seed(0))
    best = slope.topk(3, largest=False).indices
    current = (40, 41, 42, 43, 44)
    rows = Draws(64, top_k=3, replaced=2).draw(slope, current, torch.Generator().manual_seed(1))
    assert len(set(rows)) == len(rows) > 20
    for row in rows:
        places = [place for place in range(5) if row[place] != current[place]]
        assert 1 <= len(places) <= 2
        assert all(row[place] in best[place] for place in places)


def test_a_buffer_keeps_the_best_once_and_passes_the_turn_on_when_steps_bring_nothing() -> None:
    buffer = Buffer(2)
    for loss, suffix in ((3.0, (1,)), (1.0, (2,)), (1.0, (2,)), (2.0, (3,)), (5.0, (4,))):
        buffer.add(loss, suffix)
    assert buffer.entries == [(1.0, (2,)), (2.0, (3,))]
    turns = []
    for _ in range(4):
        turns.append(buffer.next)
        buffer.fail(buffer.next)
    assert turns == [(2,), (3,), (2,), (3,)]
    assert buffer.add(0.5, (5,))
    assert not buffer.add(0.7, (6,))
    assert buffer.best == (0.5, (5,))
    assert buffer.next == (5,)


def searched(model: ChatModel, **options: Any) -> Search:
    layout = laid_out(model, initial=" !")
    allowed = allowed_tokens(model.tokenizer, 4096)
    return Search(Reader(model, layout), layout, Draws(48, 32, 1), allowed, seed=3, **options)


@pytest.mark.parametrize("buffer", [1, 4])
def test_the_loss_never_rises_and_is_that_of_the_best_suffix(buffer: int) -> None:
    tiny = _tiny()
    search = searched(tiny, buffer=buffer)
    found = [search.loss]
    for _ in range(6):
        search.step()
        found.append(search.loss)
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0] - 0.05
    layout = laid_out(tiny, initial=" !")
    assert search.loss == pytest.approx(direct_loss(tiny, layout, search.best), abs=1e-3)
    assert layout.sendable([search.best]) == [True]
    assert layout.typed(search.best) is not None


def test_a_draft_that_agrees_spares_the_target_most_of_its_reading_and_loses_nothing() -> None:
    tiny = _tiny()
    layout = laid_out(tiny, initial=" !")
    plain = searched(tiny)
    draft = Reader(tiny, layout)
    probing = searched(tiny, draft=draft)
    for _ in range(3):
        plain.step()
        probing.step()
    assert probing._reader.cost.forwards < 0.3 * plain._reader.cost.forwards
    assert draft.cost.forwards > 0.8 * plain._reader.cost.forwards
    assert probing.loss < searched(tiny).loss - 0.05


def test_models_agree_as_far_as_they_rank_alike() -> None:
    assert agreement([1.0, 2.0, 3.0], [5.0, 6.0, 9.0]) == 1
    assert agreement([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == 0
    assert agreement([1.0], [1.0]) == 0.5
    one, other = np.random.default_rng(0).random((2, 30))
    assert agreement(one, other) == pytest.approx((1 + spearmanr(one, other).statistic) / 2)


def test_a_suffix_can_be_followed_without_a_backward_pass() -> None:
    model = random_chat_model("Llama")
    layout = laid_out(model)
    rows = [changed(layout.start, (place, 7 + place)) for place in range(6)] * 8
    followed, fresh = Reader(model, layout), Reader(model, layout)
    followed.follow(layout.start)
    torch.testing.assert_close(torch.tensor(followed.losses(rows)), torch.tensor(fresh.losses(rows)))
    assert followed.cost.tokens < fresh.cost.tokens
    assert followed.cost.backwards == 0


def test_memory_that_runs_out_halves_the_batch_and_stays_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_chat_model("Llama")
    layout = laid_out(model)
    reader = Reader(model, layout)
    rows = [changed(layout.start, (0, 4 + token)) for token in range(24)]
    expected, sizes, forward = reader.losses(rows), [], reader._forward

    def narrow(cache: Any, **inputs: torch.Tensor) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 8:
            raise torch.OutOfMemoryError
        return forward(cache, **inputs)

    monkeypatch.setattr(reader, "_forward", narrow)
    torch.testing.assert_close(torch.tensor(reader.losses(rows)), torch.tensor(expected))
    tried = len(sizes)
    reader.losses(rows)
    assert max(sizes[:tried]) > 8
    assert max(sizes[tried:]) <= 8


def test_the_attack_undoes_refusals_and_counts_its_price() -> None:
    target, prompts = ModelTarget(_tiny()), builtin("malicious", "calibration").take(6)
    attack = Gcg(steps=20, candidates=64, initial=" please")
    plain = run_attack(replace(attack, steps=1), target, prompts)
    result = run_attack(attack, target, prompts)
    assert result.success_rate("phrases").value >= max(0.5, plain.success_rate("phrases").value)
    assert all(case.attacked.startswith(case.prompt) and case.attacked != case.prompt for case in result.cases)
    assert result.cost.backwards >= len(prompts)
    alone = run_attack(attack, target, prompts.take(2))
    assert [case.attacked for case in alone.cases] == [case.attacked for case in result.cases[:2]]


def test_the_maps_term_pushes_the_hidden_state_across_the_boundary() -> None:
    hidden = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])
    normals, bias = torch.tensor([[1.0, 0.0]]), torch.tensor([0.0])
    inside, outside = MapTerm((0,), normals, bias, 1.0, "probe").penalty([hidden]).tolist()
    assert inside > 2.0 > outside
    assert MapTerm((0,), normals, bias, 2.0, "direction").penalty([hidden]).tolist() == pytest.approx([4.0, 0.0])


def test_odd_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="above zero"):
        Gcg(steps=0)
    with pytest.raises(UsageError, match="no more tokens replaced"):
        Gcg(length=2, replaced=3)
    with pytest.raises(UsageError, match="needs a safety map"):
        Gcg(weight=1.0)
    with pytest.raises(UsageError, match="no aim 'prob'"):
        Gcg(aim="prob")
    with pytest.raises(UsageError, match="different tokenizers"):
        run_attack(Gcg(draft=random_chat_model("Llama")), ModelTarget(_tiny()), builtin("malicious", "test").take(1))
    with pytest.raises(UsageError, match="The target is empty"):
        run_attack(Gcg(target=""), ModelTarget(_tiny()), builtin("malicious", "calibration").take(1))


_LOADED: list[ChatModel] = []


def _tiny() -> ChatModel:
    if not _LOADED:
        _LOADED.append(ChatModel.load("tiny"))
    return _LOADED[0]
