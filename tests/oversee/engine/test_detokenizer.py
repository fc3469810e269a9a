"""Text comes out token by token, whole characters only, and is the whole reply's text in the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from safetylayers.models import ChatModel
from safetylayers.oversee.engine.detokenizer import BROKEN, Detokenizer, Vocabulary
from support import byte_tokenizer


def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """Like Llama 2's: spaces before words, bytes for what has no token, and the text's first space is stripped."""
    words = ["<s>", "</s>", "▁Hello", "▁world", "▁", "▁▁", "!", "lo", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def practice() -> PreTrainedTokenizerBase:
    return ChatModel.load("tiny").tokenizer


def pieces(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(Vocabulary(tokenizer))
    return [*map(detokenizer.add, ids), detokenizer.rest()]


def decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return Vocabulary(tokenizer).decode(ids)


def test_no_piece_holds_half_a_character() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer("héllo 🌧 end", add_special_tokens=False).input_ids
    found = pieces(tokenizer, ids)
    assert "".join(found) == "héllo 🌧 end"
    assert not any(BROKEN in piece for piece in found)
    assert "🌧" in found


def test_a_reply_that_ends_within_a_character_shows_that_it_does() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer("a🌧", add_special_tokens=False).input_ids[:-1]
    assert "".join(pieces(tokenizer, ids)) == decoded(tokenizer, ids) == f"a{BROKEN}"


def test_special_tokens_are_left_out_and_swallow_no_space() -> None:
    tokenizer = metaspace_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(["▁Hello", "<s>", "▁world", "</s>", "!"])
    assert pieces(tokenizer, ids) == ["Hello", "", " world", "", "!", ""]


@pytest.mark.parametrize("words", [["▁", "▁Hello"], ["▁▁", "▁▁", "!"], ["▁Hello", "▁", "▁", "▁world"]])
def test_spaces_that_are_tokens_are_kept_but_for_the_first(words: list[str]) -> None:
    tokenizer = metaspace_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(words)
    assert "".join(pieces(tokenizer, ids)) == decoded(tokenizer, ids) == "".join(words).replace("▁", " ")[1:]


def test_characters_of_several_byte_tokens_come_whole() -> None:
    tokenizer = metaspace_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(["▁Hello", *(f"<0x{byte:02X}>" for byte in "é🌧".encode()), "▁world"])
    found = pieces(tokenizer, ids)
    assert "".join(found) == "Helloé🌧 world"
    assert not any(BROKEN in piece for piece in found)


def test_bytes_that_are_no_characters_lose_no_text_behind_them() -> None:
    tokenizer = metaspace_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(["<0xC3>", "<0xA9>", "<0xFF>", "▁Hello", "▁world"])
    found = "".join(pieces(tokenizer, ids))
    assert found.startswith("é")
    assert found.endswith(" Hello world")


@given(text=st.text())
def test_pieces_of_any_text_are_the_text(text: str) -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert "".join(pieces(tokenizer, ids)) == decoded(tokenizer, ids)


@given(ids=st.lists(st.integers(4, 259), max_size=40))
def test_pieces_of_any_bytes_are_the_whole_text(ids: list[int]) -> None:
    tokenizer = byte_tokenizer()
    assert "".join(pieces(tokenizer, ids)) == decoded(tokenizer, ids)


def test_pieces_of_any_tokens_are_the_whole_text(practice: PreTrainedTokenizerBase) -> None:
    @given(ids=st.lists(st.integers(0, 4095), max_size=40))
    def holds(ids: list[int]) -> None:
        assert "".join(pieces(practice, ids)) == decoded(practice, ids)

    holds()


def test_alternatives_keep_their_leading_space_and_special_ones_have_names() -> None:
    tokenizer = metaspace_tokenizer()
    text = Vocabulary(tokenizer).text
    assert [text(n) for n in tokenizer.convert_tokens_to_ids(["▁Hello", "lo", "</s>"])] == [" Hello", "lo", "</s>"]
