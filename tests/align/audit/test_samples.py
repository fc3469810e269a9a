"""Replies of two models are drawn alike, whole, and in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from align.audited import asked
from safetylayers.align.audit import draw_samples
from safetylayers.errors import UsageError
from safetylayers.models import ChatModel
from support import random_chat_model


def test_one_seed_draws_the_same_replies_in_any_batches(tiny: ChatModel, tiny_base: ChatModel) -> None:
    small = ChatModel(tiny.model, tiny.tokenizer, name="tiny", batch_size=3)
    first, again = (draw_samples(of, tiny_base, asked(5), replies=2, max_new_tokens=6) for of in (tiny, small))
    assert first == replace(again, prompt=first.prompt)
    other = draw_samples(tiny, tiny_base, asked(5), replies=2, max_new_tokens=6, seed=1)
    assert other.ours != first.ours


def test_a_model_beside_itself_says_other_things_as_likely(tiny: ChatModel) -> None:
    samples = draw_samples(tiny, tiny, asked(5), replies=2, max_new_tokens=8)
    assert samples.ours != samples.theirs
    assert not samples.log_ratios(tiny, tiny).any()


def test_pairs_with_an_empty_reply_are_left_out_and_counted(
    tiny: ChatModel, tiny_base: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(model: ChatModel, texts: Sequence[str], **_: object) -> list[list[int]]:
        yes = model.tokenizer("yes", add_special_tokens=False).input_ids
        return [[] if model is tiny and row == 3 else yes for row in range(len(texts))]

    monkeypatch.setattr(ChatModel, "sample_tokens", sample)
    samples = draw_samples(tiny, tiny_base, asked(5), replies=2)
    assert samples.empty == 1
    assert list(samples.prompt) == [0, 0, 1, 2, 2, 3, 3, 4, 4]


def test_what_makes_no_sense_is_said(tiny: ChatModel, tiny_base: ChatModel) -> None:
    with pytest.raises(UsageError, match="different tokens"):
        draw_samples(tiny, random_chat_model("Llama"), asked(5))
    for prompts, replies in ((asked(4), 4), (asked(5), 0), (asked(5) + asked(5), 4)):
        with pytest.raises(UsageError, match="cannot be audited"):
            draw_samples(tiny, tiny_base, prompts, replies=replies)


def test_a_reply_that_came_to_its_end_has_it_and_the_models_end_is_the_bases(
    tiny: ChatModel, tiny_base: ChatModel
) -> None:
    samples = draw_samples(tiny, tiny_base, asked(5), replies=4, max_new_tokens=32)
    (end,) = (tiny.tokenizer.decode(token) for token in tiny.ends_of_text)
    for said in (samples.ours, samples.theirs):
        assert any(each.whole.endswith(end) for each in said)
        assert not any(end in each.text for each in said)
