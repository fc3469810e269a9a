"""BPE-dropout: a text in smaller tokens than the tokenizer would take (arXiv 1910.13267, algorithm 1).

Written here because the one in `tokenizers` draws from a source that cannot be seeded, and is set on the tokenizer that
everybody else uses.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from safetylayers.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class DroppingTokenizer:
    """A tokenizer's own merges, each left out at random where it could be made."""

    backend: Any
    """`tokenizers.Tokenizer`, for how it normalises and splits a text."""
    vocabulary: Mapping[str, int]
    ranks: Mapping[tuple[str, str], int]
    """Pair -> its place among the merges."""
    whole_words: bool
    """Whether a word that is a token is taken as it is."""
    by_bytes: bool
    """Whether a character that is no token is written by its bytes."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> DroppingTokenizer:
        """Take a tokenizer apart.

        Raises:
            UsageError: it is not byte-pair encoding, or of a form that is not known here.
        """
        model = json.loads(tokenizer.backend_tokenizer.to_str())["model"] if tokenizer.is_fast else {}
        marked = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
        if model.get("type") != "BPE" or marked:
            raise UsageError(
                f"The tokenizer of {tokenizer.name_or_path!r} makes its tokens by other means than merging pairs.",
                mend="Use another perturbation: smoothllm, perplexity, erase-and-check, paraphrase.",
            )
        merges = [tuple(pair.split(" ", 1) if isinstance(pair, str) else pair) for pair in model["merges"]]
        return cls(
            tokenizer.backend_tokenizer, model["vocab"], {pair: rank for rank, pair in enumerate(merges)},
            bool(model.get("ignore_merges")), bool(model.get("byte_fallback")),
        )  # fmt: skip

    def tokens(self, text: str, rate: float, draw: random.Random) -> list[int]:
        """Return the token ids of a text without special tokens, each merge left out with probability `rate`."""
        backend = self.backend
        plain = backend.normalizer.normalize_str(text) if backend.normalizer else text
        words = (
            [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(plain)] if backend.pre_tokenizer else [plain]
        )
        return [token for word in words for token in self._word(word, rate, draw)]

    def _word(self, word: str, rate: float, draw: random.Random) -> list[int]:
        if self.whole_words and word in self.vocabulary and draw.random() >= rate:
            return [self.vocabulary[word]]
        symbols = list(word)
        while True:
            pairs = [
                (self.ranks[pair], place)
                for place, pair in enumerate(pairwise(symbols))
                if pair in self.ranks and draw.random() >= rate
            ]
            if not pairs:
                return [token for symbol in symbols for token in self._ids(symbol)]
            _, place = min(pairs)
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]

    def _ids(self, symbol: str) -> list[int]:
        if symbol in self.vocabulary:
            return [self.vocabulary[symbol]]
        if self.by_bytes:
            return [self.vocabulary[f"<0x{byte:02X}>"] for byte in symbol.encode()]
        # A character that the vocabulary lacks altogether: what the tokenizer itself makes of it.
        return [int(token) for token in self.backend.encode(symbol, add_special_tokens=False).ids]
