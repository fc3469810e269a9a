"""The practice model's tokenizer loses nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from safetylayers.prompts import render
from safetylayers.tiny.tokenizer import ASSISTANT, END, PAD, USER

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(deadline=None)
@given(text=texts)
def test_every_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_digits_stand_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer("1234567", add_special_tokens=False).input_ids) == 7


def test_special_tokens_are_one_token_each(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer(PAD + USER + ASSISTANT + END, add_special_tokens=False).input_ids
    assert ids == [0, 1, 2, 3]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 3)


def test_nothing_is_added_to_a_text(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer("some words").input_ids == tokenizer("some words", add_special_tokens=False).input_ids


def test_a_request_ends_where_the_reply_begins(tokenizer: PreTrainedTokenizerFast) -> None:
    assert render(["Hello"], tokenizer) == [f"{USER}Hello{END}{ASSISTANT}"]
