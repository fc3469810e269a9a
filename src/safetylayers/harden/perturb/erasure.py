"""Every text that an attack may have been added to (arXiv 2309.02705, sections 3 and 4).

What is erased are whole tokens, as the tokenizer reads the text; what is left is text again, exactly the characters
that the user typed. A token's characters reach from the end of the token before it to its own end, so that spaces go
with the token that they stand before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Literal, get_args

from safetylayers.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Mode = Literal["suffix", "insertion", "infusion"]
MODES: tuple[str, ...] = get_args(Mode)
Cut = Callable[[str], list[int]]
"""Returns where a text's pieces end, in rising order; the last end is the text's own."""


def token_ends(tokenizer: PreTrainedTokenizerBase) -> Cut:
    """Return what cuts a text into tokens.

    Raises:
        UsageError: the tokenizer does not say where its tokens stand.
    """
    if not tokenizer.is_fast:
        raise UsageError(
            f"The tokenizer of {tokenizer.name_or_path!r} does not say where its tokens stand.",
            mend="Convert it to a fast one.",
        )

    def cut(text: str) -> list[int]:
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
        # Tokens of one character that takes several end at the same place: they are erased together.
        return _closed({end for _, end in offsets}, text)

    return cut


def word_ends(text: str) -> list[int]:
    """Cut a text into words, where no tokenizer is here."""
    return _closed({match.end() for match in re.finditer(r"\S+", text)}, text)


def _closed(ends: set[int], text: str) -> list[int]:
    inner = sorted(end for end in ends if 0 < end < len(text))
    return [*inner, len(text)] if text else []


def count_versions(pieces: int, mode: Mode, most: int) -> int:
    """Return how many texts `versions` gives of so many pieces, before equal ones are left out."""
    longest = min(most, pieces - 1)
    if mode == "suffix":
        return 1 + max(0, longest)
    if mode == "insertion":
        return 1 + sum(pieces - length + 1 for length in range(1, longest + 1))
    return sum(math.comb(pieces, length) for length in range(max(0, longest) + 1))


def versions(text: str, ends: Sequence[int], mode: Mode, most: int) -> list[str]:
    """Return the text itself, first, and all texts that come of erasing up to `most` pieces, each once.

    Spaces that an erased text would begin with are left out: they stood before what was erased.

    Args:
        text: as it was typed.
        ends: where its pieces end.
        mode: what is erased: "suffix" the last pieces, "insertion" any that stand side by side, "infusion" any.
        most: pieces.
    """
    starts = [0, *ends[:-1]]
    longest = min(most, len(ends) - 1)  # something has to be left
    found = {text: None}
    if mode == "suffix":
        found |= dict.fromkeys(text[: ends[-1 - count]] for count in range(1, longest + 1))
    elif mode == "insertion":
        found |= dict.fromkeys(
            text[: starts[first]] + text[ends[first + count - 1] :]
            for count in range(1, longest + 1)
            for first in range(len(ends) - count + 1)
        )
    else:
        pieces = [text[start:end] for start, end in zip(starts, ends, strict=True)]
        found |= dict.fromkeys(
            "".join(piece for place, piece in enumerate(pieces) if place not in gone)
            for count in range(1, longest + 1)
            for gone in map(set, combinations(range(len(pieces)), count))
        )
    left = dict.fromkeys(version.lstrip() for version in list(found)[1:])
    return [text, *(version for version in left if version and version != text)]
