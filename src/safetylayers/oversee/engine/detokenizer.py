"""From tokens to text, one by one.

A token may hold half a character, and some tokenizers strip a space from the beginning of whatever they decode. So each
token is decoded together with those before it, back to one that has been shown, and what is new in that text is shown
once it ends with a whole character.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no character, or not yet one."""


class Vocabulary:
    """What tokens say."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Read a tokenizer's tokens."""
        self._tokenizer = tokenizer
        self.text = cache(self._text)
        """Token -> its text where other text stands before it, special tokens by their names."""

    def decode(self, ids: list[int]) -> str:
        """Return the tokens' text, special tokens left out."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _text(self, token: int) -> str:
        # Twice: only the first of a text loses its leading space.
        one, two = (str(self._tokenizer.decode([token] * n, clean_up_tokenization_spaces=False)) for n in (1, 2))
        return two[len(one) :] if two.startswith(one) else one


class Detokenizer:
    """One reply's text. The pieces together are `Vocabulary.decode` of all tokens."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Begin before the first token."""
        self._decode = vocabulary.decode
        self._ids: list[int] = []
        """From the last tokens that were shown, on."""
        self._known = 0
        """How many of them are shown already."""
        self._shown = ""
        """Their text."""
        self.whole = True
        """Whether all text so far was shown; otherwise it ends within a character."""

    def add(self, token: int) -> str:
        """Take the next token; return what text can be shown now."""
        self._ids.append(token)
        text = self._decode(self._ids)
        self.whole = not text.endswith(BROKEN)
        return self._show(text) if self.whole else ""

    def rest(self) -> str:
        """Return what was kept back, at the reply's end."""
        return "" if self.whole else self._show(self._decode(self._ids))

    def _show(self, text: str) -> str:
        if text == self._shown:
            return ""
        # Bytes that turn out to be no characters may change how earlier bytes are read; what was shown stays.
        new = text[len(self._shown) :] if text.startswith(self._shown) else self._decode(self._ids[self._known :])
        self._ids = self._ids[self._known :]
        self._known, self._shown = len(self._ids), self._decode(self._ids)
        return new
