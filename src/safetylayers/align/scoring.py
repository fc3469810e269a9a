"""What scores replies while a policy is trained: a learned reward, its uncertainty counted against it.

Optimised hard, a learned reward is found wrong where it saw nothing (arXiv 2210.10760). A lower bound in its place,
mean - penalty x deviation, asks of the policy what the reward is sure of (arXiv 2310.02743, which takes the variance).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from safetylayers.align.asked import refuse_floors
from safetylayers.align.bayes import Array, Scores
from safetylayers.align.reward import OVERALL, ValueReward
from safetylayers.errors import ModelError, NonFiniteLossError, UsageError, WrongModelError
from safetylayers.models.hashing import hash_weights
from safetylayers.prompts.pairs import Turn
from safetylayers.prompts.values import Values

if TYPE_CHECKING:
    from safetylayers.align.modelling import RewardModel
    from safetylayers.models import ChatModel

EMPTY = -1.0
"""How far below the worst other one a reply without a word is scored: no reward has read such a one."""


class Scorer(Protocol):
    """Scores replies, which may be compared between replies to one prompt."""

    @property
    def content_hash(self) -> str:
        """What results name it by."""
        ...

    def __call__(self, conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Scores:
        """Return a score and its deviation for each reply, none of which is empty."""
        ...


@dataclass(frozen=True)
class BayesianScorer:
    """A Bayesian reward, and the model whose hidden states it reads."""

    reward: ValueReward
    reader: ChatModel
    values: Values | None = None

    @cached_property
    def content_hash(self) -> str:
        """Over what was learned, and how values are weighed."""
        reading, record = self.reward.reading, self.reward.record
        parts = [reading.mean, reading.components]
        parts += [part for each in self.reward.posteriors.values() for part in (each.mean, each.covariance)]
        about = [record.provenance.model_hash, record.layers, record.pool, list(self.reward.posteriors)]
        return _hash([part.tobytes() for part in parts], about, self.values)

    def __call__(self, conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Scores:
        """Return the weighted sum over values."""
        return self.reward.judge(self.reader, conversations, replies).total(self.values)


@dataclass(frozen=True)
class ModelsScorer:
    """Reward models; where there are several, they are as unsure as they disagree."""

    models: tuple[RewardModel, ...]
    values: Values | None = None

    @cached_property
    def content_hash(self) -> str:
        """Over all models' weights, and how values are weighed."""
        about = [[hash_weights(model.model), model.values] for model in self.models]
        return _hash([], about, self.values)

    def __call__(self, conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Scores:
        """Return the models' mean; each is known up to a shift a prompt, which is taken out where that can be seen."""
        found_MN = np.stack([model.scores(conversations, replies) @ self._weights(model) for model in self.models])
        if len(self.models) > 1:
            found_MN = found_MN - _shifts(conversations, found_MN)
        return Scores(found_MN.mean(0), found_MN.std(0))

    def check(self) -> None:
        """Make sure that every model has a head for each value that is weighed. Raises UsageError."""
        for model in self.models:
            self._weights(model)

    def _weights(self, model: RewardModel) -> Array:
        if self.values is None:
            wanted = {OVERALL: 1.0} if OVERALL in model.values else dict.fromkeys(model.values, 1.0)
        else:
            refuse_floors(self.values)
            wanted = self.values.weights
        if missing := sorted(set(wanted) - set(model.values)):
            raise UsageError(
                f"The reward model has no head for {', '.join(missing)}.",
                mend=f"It has: {', '.join(model.values)}. Train one on pairs whose 'value' names the others.",
            )
        return np.array([wanted.get(name, 0.0) for name in model.values])


def _shifts(conversations: Sequence[Sequence[Turn]], found_MN: Array) -> Array:
    """Return by how much each model's scores of a prompt's replies are above the mean of all models', [M, N]."""
    shift_MN = np.zeros_like(found_MN)
    for rows in _by_prompt(conversations):
        if len(rows) > 1:
            mean_M1 = found_MN[:, rows].mean(1, keepdims=True)
            shift_MN[:, rows] = mean_M1 - mean_M1.mean()
    return shift_MN


def load_scorer(
    folders: Sequence[str | Path], *, policy: ChatModel, reader: ChatModel | None = None, values: Values | None = None
) -> Scorer:
    """Load a Bayesian reward, or one or several reward models.

    Args:
        folders: what `align reward` wrote; several reward models count together.
        policy: the model to be trained; it reads for a Bayesian reward that was learned on it.
        reader: the model that a Bayesian reward reads; by itself the policy, or what the reward says.
        values: how values are weighed.

    Raises:
        DataError: a folder holds no reward.
        UsageError: several folders, and one is a Bayesian reward.
        WrongModelError: the reader is another model than the reward's.
    """
    from safetylayers.align.modelling import PLAN, RewardModel
    from safetylayers.models import ChatModel

    if not folders:
        raise UsageError("No reward is given.", mend="Learn one with `safetylayers align reward`, and give its folder.")
    if all((Path(folder) / PLAN).is_file() for folder in folders):
        found = ModelsScorer(tuple(RewardModel.load(f, device=str(policy.device)) for f in folders), values)
        found.check()
        return found
    if len(folders) > 1:
        raise UsageError("Several rewards count together only where all are reward models.", mend="Give one reward.")
    reward = ValueReward.load(folders[0])
    mine = reward.record.provenance
    if reader is None:
        reader = policy if policy.weights_hash == mine.model_hash else None
    if reader is None:
        try:
            reader = ChatModel.load(mine.model)
        except ModelError as error:
            raise WrongModelError(
                f"{folders[0]}: the reward reads {mine.model}, which is not there.", mend="Give it with --reader."
            ) from error
    reward.check(reader)
    return BayesianScorer(reward, reader, values)


def lower_bound(
    scorer: Scorer, conversations: Sequence[Sequence[Turn]], replies: Sequence[str], *, penalty: float
) -> Array:
    """Return mean - penalty x deviation for each reply, [N].

    A reply without a word ranks behind all others to its prompt; where there is none, behind all of the batch.

    Raises:
        NonFiniteLossError: a score is not a number.
    """
    spoken = [index for index, reply in enumerate(replies) if reply.strip()]
    bound_N = np.full(len(replies), np.nan)
    if spoken:
        found = scored(scorer, [conversations[index] for index in spoken], [replies[index] for index in spoken])
        bound_N[spoken] = found.mean - penalty * found.deviation
    lowest = float(bound_N[spoken].min()) if spoken else 0.0
    for rows in _by_prompt(conversations):
        said = [row for row in rows if replies[row].strip()]
        behind = float(bound_N[said].min()) if said else lowest
        bound_N[[row for row in rows if row not in said]] = behind + EMPTY
    return bound_N


def scored(scorer: Scorer, conversations: Sequence[Sequence[Turn]], replies: Sequence[str]) -> Scores:
    """Return a scorer's scores. Raises NonFiniteLossError where one is not a number: nothing could follow it."""
    found = scorer(conversations, replies)
    if not (np.isfinite(found.mean).all() and np.isfinite(found.deviation).all()):
        raise NonFiniteLossError(
            "The reward of a reply is not a number.", mend="Look at the reward: learn it anew, or leave it out."
        )
    return found


def _by_prompt(conversations: Sequence[Sequence[Turn]]) -> list[list[int]]:
    """Return the rows of each different conversation."""
    found: dict[str, list[int]] = {}
    for row, turns in enumerate(conversations):
        found.setdefault(repr(list(turns)), []).append(row)
    return list(found.values())


def _hash(tensors: Sequence[bytes], about: object, values: Values | None) -> str:
    digest = hashlib.sha256(repr([about, values.content_hash if values else ""]).encode())
    for raw in tensors:
        digest.update(raw)
    return digest.hexdigest()
