"""Two prompts side by side: which of their tokens correspond, and a harmless counterpart where none was given.

Activations can only be put from one run into another where the places correspond; prompts that differ in few tokens of
the same number are the best pairs (symmetric token replacement, arXiv 2309.16042, section 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from safetylayers.errors import UsageError
from safetylayers.explain.target import Target, values_of
from safetylayers.explain.tokens import Reading
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from safetylayers.models import ChatModel

Pairs = tuple[tuple[int, int], ...]
"""Positions of tokens that correspond, ascending; the last tokens are the last pair."""
FILLERS = (" day", " thing", " water", " this")
"""Harmless whatever stands beside them. Those that are one token are tried."""
FILLERS_WITHOUT_SPACE = ("day", "thing", ".")
"""For tokenizers that put the space in themselves, or cut text into letters."""


def aligned(first: Reading, second: Reading) -> Pairs:
    """Return which tokens of two prompts correspond.

    Of equally many tokens, each corresponds to the one at its place. Otherwise those of the shared beginning and of the
    shared end do, and the last token of what differs between them, where a phrase's meaning is gathered.

    Raises:
        UsageError: the prompts have different numbers of tokens and different ends.
    """
    a, b = first.token_ids, second.token_ids
    shorter = min(len(a), len(b))
    if len(a) == len(b):
        return tuple((place, place) for place in range(shorter))
    end = _shared(a[::-1], b[::-1])
    if not end:
        raise UsageError(
            f"The prompts cannot be aligned: {len(a)} and {len(b)} tokens, and they end differently.",
            mend="Give prompts of equally many tokens, or use the model's chat template, which ends all prompts alike.",
        )
    start = min(_shared(a, b), shorter - end)
    pairs = [(place, place) for place in range(start)]
    # Where one prompt only leaves words out, nothing stands in their place.
    back = end + 1 if start + end < shorter else end
    return tuple(pairs + [(len(a) - k, len(b) - k) for k in range(back, 0, -1)])


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many of the first tokens are the same."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def counterpart(
    model: ChatModel,
    target: Target,
    reading: Reading,
    ranking: Sequence[int],
    *,
    filler: str | None = None,
    progress: ProgressCallback | None = None,
) -> Reading | None:
    """Make a counterpart of a prompt: as few of its top words as turn the target's sign give way to a filler.

    Its tokens stay as many, so that all of them correspond. It is seldom a sentence, and the sign may have turned for
    that and not for the words that went: a counterpart that a person writes is the better one.

    Args:
        model: that reads.
        target: whose sign has to turn.
        reading: the prompt.
        ranking: its words, most important first; words that are left out stay in the prompt.
        filler: text of one token; by itself that of `FILLERS` with which the fewest words have to go.
        progress: told after each batch.

    Returns:
        The counterpart; none where the sign does not turn.

    Raises:
        UsageError: a word is not there or comes twice, or the filler is not one token.
    """
    if not ranking or len(set(ranking)) < len(ranking) or not set(ranking) <= set(range(len(reading.words))):
        raise UsageError(
            f"{list(ranking)} is no ranking of the prompt's words.",
            mend=f"Name some of its words 0 to {len(reading.words) - 1}, each once.",
        )
    fillers = _fillers(model.tokenizer, filler)
    counts = range(1, len(ranking) + 1)
    tries = [_filled(reading, ranking[:count], *each) for count in counts for each in fillers]
    prompts = [reading.token_ids, *(each.token_ids for each in tries)]
    own, *others = values_of(target, model, prompts, progress=progress).tolist()
    return next((each for each, value in zip(tries, others, strict=True) if (value > 0) != (own > 0)), None)


def _fillers(tokenizer: PreTrainedTokenizerBase, wanted: str | None) -> list[tuple[str, int]]:
    """Return fillers and their tokens."""
    for texts in (FILLERS, FILLERS_WITHOUT_SPACE) if wanted is None else ((wanted,),):
        cut = [(text, tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
        if found := [(text, tokens[0]) for text, tokens in cut if len(tokens) == 1]:
            return found
    raise UsageError(
        "No filler is a single token of this tokenizer." if wanted is None else f"{wanted!r} is not a single token.",
        mend="Name a filler that is one, such as a short common word with the space before it.",
    )


def _filled(reading: Reading, words: Sequence[int], text: str, token: int) -> Reading:
    """Return the prompt with fillers in place of some words' tokens; a token that another word needs stays."""
    kept = {t for n, word in enumerate(reading.words) if n not in words for t in range(word.first, word.last + 1)}
    gone = {t for n in words for t in range(reading.words[n].first, reading.words[n].last + 1)} - kept
    tokens = tuple(text if place in gone else old for place, old in enumerate(reading.tokens))
    return replace(
        reading,
        prompt="".join(tokens[reading.first : reading.last + 1]).strip(),
        token_ids=tuple(token if place in gone else old for place, old in enumerate(reading.token_ids)),
        tokens=tokens,
        words=tuple(
            word.model_copy(update={"text": "".join(tokens[word.first : word.last + 1]).strip()})
            for word in reading.words
        ),
    )
