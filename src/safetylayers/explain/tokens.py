"""A prompt as tokens and as words, and which of them its user wrote."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetylayers.errors import UsageError
from safetylayers.prompts import Template, render
from safetylayers.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_OPEN, _CLOSE = "\N{LEFT DOUBLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}"


class Word(Record):
    """A run of the prompt without white space, as it was typed."""

    text: str
    first: int
    """Its first token."""
    last: int
    """Its last token, inclusive. Two words share a token where the tokenizer joins them."""


@dataclass(frozen=True)
class Reading:
    """A rendered prompt, cut into tokens. What the template adds around the prompt belongs to no word."""

    prompt: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    """The text of each token."""
    words: tuple[Word, ...]

    @property
    def first(self) -> int:
        """First token of the prompt itself."""
        return self.words[0].first

    @property
    def last(self) -> int:
        """Last token of the prompt itself, inclusive."""
        return self.words[-1].last

    def without(self, words: Sequence[int]) -> list[int]:
        """Return the tokens without those of some words; a token that another word needs stays."""
        gone = set(words)
        kept = {t for n, word in enumerate(self.words) if n not in gone for t in range(word.first, word.last + 1)}
        dropped = {t for n in gone for t in range(self.words[n].first, self.words[n].last + 1)} - kept
        return [token for place, token in enumerate(self.token_ids) if place not in dropped]

    def by_word(self, scores: Sequence[float]) -> tuple[float, ...]:
        """Return the sum of its tokens' scores for each word; a token that words share is shared out evenly."""
        users = [0] * len(self.token_ids)
        for word in self.words:
            for place in range(word.first, word.last + 1):
                users[place] += 1
        return tuple(sum(scores[t] / users[t] for t in range(word.first, word.last + 1)) for word in self.words)


def read_prompt(prompt: str, tokenizer: PreTrainedTokenizerBase, template: Template = "chat") -> Reading:
    """Render a prompt and cut it into tokens and words.

    Raises:
        UsageError: the prompt is empty, its template changes it, or the tokenizer cannot say where its tokens are.
        MissingChatTemplateError: "chat" was asked of a tokenizer without a chat template.
    """
    if not prompt.strip():
        raise UsageError("There is nothing to explain: the prompt is empty.", mend="Give a prompt.")
    if not tokenizer.is_fast:
        raise UsageError(
            f"The tokenizer of {tokenizer.name_or_path!r} does not say where its tokens are in a text.",
            mend="Use the model's fast tokenizer.",
        )
    (text,) = render([prompt], tokenizer, template)
    typed = prompt.strip()
    start = text.rfind(typed)
    if start < 0:
        raise UsageError("The chat template changes the prompt, so that its words are not found in it.")
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = [(int(low), int(high)) for low, high in encoded.offset_mapping]
    words = tuple(
        Word(text=match.group(), first=places[0], last=places[-1])
        for match in re.finditer(r"\S+", typed)
        if (places := _within(offsets, start + match.start(), start + match.end()))
    )
    return Reading(
        prompt=prompt,
        token_ids=tuple(encoded.input_ids),
        tokens=tuple(text[low:high] for low, high in offsets),
        words=words,
    )


def bare(word: str) -> str:
    """Return a word in lower case, without marks around it."""
    return word.strip(string.punctuation + _OPEN + _CLOSE + "\N{RIGHT SINGLE QUOTATION MARK}").lower()


def quoted(words: Iterable[str]) -> str:
    """Return words in quotation marks, with commas between them."""
    return ", ".join(f"{_OPEN}{word}{_CLOSE}" for word in words)


def _within(offsets: Sequence[tuple[int, int]], start: int, end: int) -> list[int]:
    """Return the tokens that hold a character between start and end."""
    return [place for place, (low, high) in enumerate(offsets) if low < end and high > start]
