"""Replies of both models to the same prompts.

Shapes: N pairs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from safetylayers.align.audit.scores import RewardScorer, Scored, Scorer
from safetylayers.align.bayes import Array
from safetylayers.errors import UsageError
from safetylayers.prompts import PromptSet, render
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

FEWEST = 5
"""Prompts that are needed."""


class Said(NamedTuple):
    """A reply."""

    text: str
    whole: str
    """With its special tokens, as a model said it."""


@dataclass(frozen=True)
class Samples:
    """Replies of both models, in pairs that share nothing but their prompt."""

    prompts: PromptSet
    replies: int
    prompt: NDArray[np.intp]
    """[N]; which prompt each pair answers."""
    ours: tuple[Said, ...]
    """[N]; the model's."""
    theirs: tuple[Said, ...]
    """[N]; the base's."""
    empty: int
    """Pairs that were left out, a reply being empty."""

    @property
    def said(self) -> list[Said]:
        """[2N]; the model's and then the base's."""
        return [*self.ours, *self.theirs]

    @property
    def asked(self) -> list[str]:
        """[2N]."""
        return [self.prompts.prompts[place].text for place in self.prompt] * 2

    def score(self, scorer: Scorer, progress: ProgressCallback | None = None) -> Scored:
        """Score all replies, the model's before the base's: [2N] or [S, 2N] each. Raises what the scorer raises."""
        turns = [({"role": "user", "content": text},) for text in self.asked]
        texts = [said.text for said in self.said]
        if isinstance(scorer, RewardScorer):
            return scorer.judge(turns, texts, progress)
        return Scored(scorer(turns, texts))

    def log_ratios(self, model: ChatModel, base: ChatModel, progress: ProgressCallback | None = None) -> Array:
        """Return log M(y|x) - log B(y|x) of every reply, [2, N]; a reply's end counts where it came to one."""
        rendered = render(self.asked, model.tokenizer)
        whole = [said.whole for said in self.said]
        found = [
            np.array([float(tokens.sum()) for tokens in of.reply_logprobs(rendered, whole, progress=progress)])
            for of in (model, base)
        ]
        return np.asarray(found[0] - found[1]).reshape(2, -1)


def draw_samples(
    model: ChatModel,
    base: ChatModel,
    prompts: PromptSet,
    *,
    replies: int = 4,
    max_new_tokens: int = 48,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Samples:
    """Draw replies of both models at temperature 1.

    Args:
        model: whose chat template renders the prompts, for both.
        base: what it was made of.
        prompts: each different; doubles would pass for independent.
        replies: of each model to each prompt.
        max_new_tokens: longest reply.
        seed: of all draws; each reply has its own, so batches change nothing.
        progress: told after each batch.

    Raises:
        UsageError: the two read different tokens, or prompts are too few.
        MissingChatTemplateError: the model has none.
    """
    if model.tokenizer.get_vocab() != base.tokenizer.get_vocab():
        raise UsageError(
            f"{model.name} and {base.name} have different tokens.", mend="Name the base that the model was made of."
        )
    if replies < 1 or len(set(prompts.texts)) < max(FEWEST, len(prompts)):
        raise UsageError(
            f"{len(prompts)} prompts, {len(set(prompts.texts))} of them different, with {replies} replies cannot be "
            "audited.",
            mend=f"Give at least {FEWEST} prompts, each once, and draw a reply or more.",
        )
    rendered = [text for text in render(prompts.texts, model.tokenizer) for _ in range(replies)]
    both = [
        _sample(of, rendered, model.ends_of_text, max_new_tokens, f"{seed} {who}", progress)
        for who, of in (("model", model), ("base", base))
    ]
    place = np.repeat(np.arange(len(prompts)), replies)
    kept = [row for row in range(len(rendered)) if both[0][row].text and both[1][row].text]
    ours, theirs = (tuple(said[row] for row in kept) for said in both)
    return Samples(prompts, replies, place[kept], ours, theirs, len(rendered) - len(kept))


def _sample(
    model: ChatModel,
    texts: Sequence[str],
    ends: tuple[int, ...],
    longest: int,
    seed: str,
    progress: ProgressCallback | None,
) -> list[Said]:
    number = random.Random(seed).getrandbits(63)  # noqa: S311 - not a secret
    drawn = model.sample_tokens(texts, max_new_tokens=longest, seed=number, ends=ends, progress=progress)
    clean, whole = (model.tokenizer.batch_decode(drawn, skip_special_tokens=skip) for skip in (True, False))
    return [Said(text.strip(), said) for text, said in zip(clean, whole, strict=True)]
