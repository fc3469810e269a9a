"""A reward before choices that it has not learned from.

Shapes: N choices.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import expit

from safetylayers.align.accuracy import measure, value_names
from safetylayers.align.baselines import transferred_baselines
from safetylayers.align.bayes import Array
from safetylayers.align.features import read_pairs
from safetylayers.align.folds import prompt_keys, right
from safetylayers.align.reward import ValueReward
from safetylayers.align.reward_record import RewardTest
from safetylayers.errors import UsageError
from safetylayers.prompts.pairs import PairSet
from safetylayers.records import ProgressCallback, Provenance, Rate

if TYPE_CHECKING:
    from safetylayers.align.modelling import RewardModel
    from safetylayers.models import ChatModel


class Fresh(NamedTuple):
    """Choices that a reward can be tested on."""

    pairs: PairSet
    seen: int
    """Left out: about prompts that were learned from."""
    unknown: int
    """Left out: about values that were not learned."""


def fresh(pairs: PairSet, prompts: Collection[int], values: Collection[str]) -> Fresh:
    """Leave out what a test must not count.

    Args:
        pairs: choices.
        prompts: `prompt_keys` of what was learned from.
        values: that were learned.

    Raises:
        UsageError: nothing is left.
    """
    seen = [key in prompts for key in prompt_keys(pairs)]
    known = [name in values for name in value_names(pairs)]
    kept = tuple(pair for pair, old, able in zip(pairs, seen, known, strict=True) if able and not old)
    found = Fresh(PairSet(pairs.name, kept), sum(seen), len(pairs) - sum(seen) - len(kept))
    if not kept:
        raise UsageError(
            f"{pairs.name}: nothing to test on: {found.seen} choices are about prompts that were learned from, "
            f"{found.unknown} about values that were not learned (known: {', '.join(values)}).",
            mend="Give choices about other prompts, and about values that were learned.",
        )
    return found


def evaluate_reward(
    reward: ValueReward,
    model: ChatModel,
    pairs: PairSet,
    *,
    learned: PairSet | None = None,
    progress: ProgressCallback | None = None,
) -> RewardTest:
    """Test a reward on choices that it has not learned from.

    Choices about prompts that were learned from are left out and counted, as are those about other values.

    Args:
        reward: that foresees.
        model: whose hidden states it reads.
        pairs: choices.
        learned: choices that the reward was learned from, to learn the baselines from as well; none for no baselines.
        progress: told while replies are read.

    Raises:
        WrongModelError: the reward reads another model's hidden states.
        UsageError: nothing is left to test on.
    """
    reward.check(model)
    kept = fresh(pairs, reward.prompts, reward.posteriors)
    record = reward.record
    chosen, rejected = read_pairs(model, kept.pairs, layers=record.layers, pool=record.pool, progress=progress)
    foreseen = reward.prefers(chosen, rejected)
    p_N = np.array([foreseen[name][index] for index, name in enumerate(value_names(kept.pairs))])
    strange = zip(reward.reading.unfamiliar(chosen), reward.reading.unfamiliar(rejected), strict=True)
    unfamiliar = Rate.of([one or other for one, other in strange])
    return _test(p_N, kept, pairs, record.provenance, learned, unfamiliar)


def evaluate_reward_model(
    model: RewardModel, pairs: PairSet, *, learned: PairSet, progress: ProgressCallback | None = None
) -> RewardTest:
    """Test a reward model in the same way, each choice by the head of its value; it cannot tell what is unfamiliar.

    Args:
        model: as `train_reward_model` has saved it.
        pairs: choices.
        learned: choices that it was trained on.
        progress: told while replies are scored.

    Raises:
        UsageError: nothing is left to test on.
    """
    kept = fresh(pairs, frozenset(prompt_keys(learned)), model.values)
    turns = [pair.messages for pair in kept.pairs]
    replies = [pair.chosen for pair in kept.pairs] + [pair.rejected for pair in kept.pairs]
    chosen_NV, rejected_NV = np.split(model.scores(turns * 2, replies, progress=progress), 2)
    heads = [model.values.index(name) for name in value_names(kept.pairs)]
    p_N = expit((chosen_NV - rejected_NV)[np.arange(len(heads)), heads])
    return _test(p_N, kept, pairs, model.result.provenance, learned, None)


def _test(
    p_N: Array, kept: Fresh, pairs: PairSet, source: Provenance, learned: PairSet | None, unfamiliar: Rate | None
) -> RewardTest:
    """Put together what was found; `pairs` are those that were given, before any was left out."""
    baselines = transferred_baselines(learned, kept.pairs) if learned else {}
    named = np.array(value_names(kept.pairs))
    return RewardTest(
        **dict(measure(p_N, kept.pairs, baselines)),
        provenance=Provenance(
            model=source.model, model_hash=source.model_hash, data={pairs.name: pairs.content_hash}, seed=source.seed
        ),
        seen=kept.seen,
        unknown=kept.unknown,
        unfamiliar=unfamiliar,
        values={name: right(p_N[named == name]) for name in dict.fromkeys(named.tolist())},
    )
