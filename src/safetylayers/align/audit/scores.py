"""What scores replies in named values: a learned reward, or any function.

Shapes: N replies, S draws, K components, V values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from safetylayers.align.bayes import Array
from safetylayers.align.reward import ValueReward
from safetylayers.errors import UsageError
from safetylayers.prompts.pairs import Turn
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

SCORE_DRAWS = 50
"""Of an uncertain reward."""


class Scorer(Protocol):
    """Scores replies in named values: [N] each, or [S, N] where it is unsure, a row a draw of what it may mean."""

    def __call__(self, conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Mapping[str, ArrayLike]:
        """Return value -> scores."""
        ...


class Scored(NamedTuple):
    """Replies' scores."""

    values: Mapping[str, ArrayLike]
    unfamiliar: Sequence[bool] = ()


@dataclass(frozen=True)
class RewardScorer:
    """A learned reward as a scorer: draws of its posterior, in the units of `ValueReward.judge`."""

    reward: ValueReward
    reader: ChatModel
    """The model whose hidden states the reward reads."""
    draws: int = SCORE_DRAWS
    """An even number; an odd one is rounded up."""
    seed: int = 0

    def __call__(self, conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Mapping[str, ArrayLike]:
        """Return value -> scores [S, N]. Raises what `ValueReward.read` raises."""
        return self.judge(conversations, replies).values

    def judge(
        self,
        conversations: Sequence[Sequence[Turn]],
        replies: Sequence[str],
        progress: ProgressCallback | None = None,
    ) -> Scored:
        """Also say which replies are unfamiliar."""
        read = self.reward.read(self.reader, conversations, replies, progress=progress)
        z_NK = self.reward.reading.read(read.states)
        found = {}
        for place, (name, posterior) in enumerate(self.reward.posteriors.items()):
            drawn_SK = posterior.draw(-(-self.draws // 2), self.seed + place)
            # Each draw has its mirror image, so that the mean over draws is the posterior's own.
            both_SK = np.concatenate([drawn_SK, 2 * posterior.mean - drawn_SK])
            found[name] = both_SK @ z_NK.T / self.reward.record.values[name].unit
        return Scored(found, self.reward.reading.unfamiliar(read))

    @property
    def content_hash(self) -> str:
        """SHA-256 of what the scores are made of."""
        means = b"".join(posterior.mean.tobytes() for posterior in self.reward.posteriors.values())
        return hashlib.sha256(self.reward.record.model_dump_json().encode() + means).hexdigest()


def stacked(scored: Scored, pairs: int) -> tuple[list[str], Array]:
    """Return the values and their scores, [S, 2, N, V]."""
    names = list(scored.values)
    try:
        found = [np.atleast_2d(np.asarray(scored.values[name], dtype=float)) for name in names]
        scores_SNV = np.stack(np.broadcast_arrays(*found), axis=-1)
    except (TypeError, ValueError) as error:
        raise UsageError("Scores have to be numbers, as many of each value.", mend="Look at the scorer.") from error
    if scores_SNV.shape[1] != 2 * pairs or not np.isfinite(scores_SNV).all():
        raise UsageError(
            f"{scores_SNV.shape[1]} scores of {2 * pairs} replies, or one is no number.", mend="Look at the scorer."
        )
    return names, scores_SNV.reshape(len(scores_SNV), 2, pairs, len(names))
