"""Prompts as tokens and words."""

from __future__ import annotations

import pytest

from safetylayers.errors import UsageError
from safetylayers.explain.tokens import Reading, Word, read_prompt
from safetylayers.models import ChatModel
from support import byte_tokenizer


def test_words_are_where_their_characters_are(llama: ChatModel) -> None:
    reading = read_prompt("How do I  bake\nbread?", llama.tokenizer)
    assert [word.text for word in reading.words] == ["How", "do", "I", "bake", "bread?"]
    for word in reading.words:
        assert "".join(reading.tokens[word.first : word.last + 1]).strip() == word.text
    assert reading.tokens[: reading.first] == ("<|user|>",)
    assert reading.tokens[reading.last + 1 :] == ("<|end|>", "<|assistant|>")


def test_words_of_several_bytes_a_letter_keep_all_their_tokens(llama: ChatModel) -> None:
    reading = read_prompt("na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve \N{CAT FACE}", llama.tokenizer)
    assert [word.last - word.first + 1 for word in reading.words] == [6, 4]


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_nothing_is_nothing_to_explain(llama: ChatModel, prompt: str) -> None:
    with pytest.raises(UsageError, match="prompt is empty"):
        read_prompt(prompt, llama.tokenizer)


def test_a_template_that_changes_the_prompt_is_told() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(UsageError, match="template changes the prompt"):
        read_prompt("quiet", tokenizer)


def test_a_prompt_that_the_template_says_as_well_is_found_where_the_user_wrote_it() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "You are kind.{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"
    reading = read_prompt("kind", tokenizer)
    assert reading.first == len("You are kind.") + 1


def _two_words_on_one_token() -> Reading:
    words = (Word(text="ab", first=1, last=2), Word(text="cd", first=2, last=3))
    return Reading("ab cd", (9, 1, 2, 3, 8), ("<", "a", "b c", "d", ">"), words)


def test_a_shared_token_is_shared_out_and_its_scores_sum_is_kept() -> None:
    assert _two_words_on_one_token().by_word([0, 1, 4, 2, 0]) == (3.0, 4.0)


def test_a_shared_token_stays_as_long_as_one_of_its_words_does() -> None:
    reading = _two_words_on_one_token()
    assert reading.without([0]) == [9, 2, 3, 8]
    assert reading.without([0, 1]) == [9, 8]
    assert reading.without([]) == [9, 1, 2, 3, 8]
