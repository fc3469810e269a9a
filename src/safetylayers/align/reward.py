"""A reward over named values, learned from choices, that knows how sure it is.

A model's hidden states are read once; each value has a Bayesian choice model on them. Scores are in the typical gap
between the replies of a choice, and mean something between replies to one prompt only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from safetylayers.align.accuracy import OVERALL, measure, value_names
from safetylayers.align.baselines import held_out_baselines
from safetylayers.align.bayes import Array, Posterior, Scores
from safetylayers.align.features import Pool, Read, read_features, read_pairs
from safetylayers.align.fitting import fit, foresee
from safetylayers.align.folds import FOLDS, prompt_keys, prompts_of
from safetylayers.align.judged import Judged
from safetylayers.align.reading import COMPONENTS, Reading
from safetylayers.align.reward_record import ChooserRecord, RewardRecord, ValueRecord
from safetylayers.errors import DataError, UsageError, WrongModelError
from safetylayers.prompts.pairs import PairSet, Turn
from safetylayers.records import ProgressCallback, Provenance, write_with_tensors

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

__all__ = ["OVERALL", "Judged", "Learned", "RewardRecord", "ValueRecord", "ValueReward", "learn_reward"]

RECORD, TENSORS = "result.json", "reward.safetensors"


@dataclass(frozen=True)
class ValueReward:
    """A learned reward."""

    record: RewardRecord
    reading: Reading
    posteriors: Mapping[str, Posterior]
    prompts: frozenset[int]
    """`prompt_keys` of what was learned from."""

    def judge(
        self,
        model: ChatModel,
        conversations: Sequence[Sequence[Turn]],
        replies: Sequence[str],
        *,
        progress: ProgressCallback | None = None,
    ) -> Judged:
        """Score replies in their conversations. Raises what `read` raises."""
        return self.judge_read(self.read(model, conversations, replies, progress=progress))

    def prefers(self, one: Read, other: Read) -> dict[str, Array]:
        """Return the probability, a value, that each first reply is better than the second to the same prompt, [N].

        Two scores share their weights, so their deviations do not add up to that of their difference: this does it.
        """
        difference_NK = self.reading.read(one.states) - self.reading.read(other.states)
        return {name: posterior.probability(difference_NK) for name, posterior in self.posteriors.items()}

    def read(
        self,
        model: ChatModel,
        conversations: Sequence[Sequence[Turn]],
        replies: Sequence[str],
        *,
        progress: ProgressCallback | None = None,
    ) -> Read:
        """Read replies in their conversations, for `judge_read` and `prefers`.

        Raises:
            WrongModelError: the reward reads another model's hidden states.
            UsageError: a reply is empty, there is none, or numbers differ.
        """
        self.check(model)
        return read_features(
            model, conversations, replies, layers=self.record.layers, pool=self.record.pool, progress=progress
        )

    def judge_read(self, replies: Read) -> Judged:
        """Score replies that are read already."""
        z_NK = self.reading.read(replies.states)
        found = {}
        for name, posterior in self.posteriors.items():
            mean_N, deviation_N = posterior.scores(z_NK)
            unit = self.record.values[name].unit
            found[name] = Scores(mean_N / unit, deviation_N / unit)
        return Judged(found, self.reading.unfamiliar(replies))

    def check(self, model: ChatModel) -> None:
        """Make sure that it reads this model. Raises WrongModelError."""
        mine = self.record.provenance
        if model.weights_hash != mine.model_hash:
            raise WrongModelError(
                f"The reward reads {mine.model} ({mine.model_hash[:12]}) and not {model.name} "
                f"({model.weights_hash[:12]}).",
                mend=f"Score with {mine.model}, or learn anew: safetylayers align reward {model.name} PAIRS.",
            )

    def save(self, folder: str | Path) -> Path:
        """Write it into a folder; reloaded, it gives the same scores to the last bit. Raises OutputError."""
        from safetensors.numpy import save_file

        tensors = {"mean": self.reading.mean, "components": self.reading.components, "spread": self.reading.spread}
        tensors["prompts"] = np.array(sorted(self.prompts), dtype=np.uint64)
        for name, posterior in self.posteriors.items():
            tensors |= {f"{name}.mean": posterior.mean, f"{name}.covariance": posterior.covariance}
            tensors[f"{name}.evidence"] = np.array([posterior.evidence])
        return write_with_tensors(
            Path(folder),
            (RECORD, self.record),
            lambda target: save_file(tensors, target / TENSORS),
            what="reward",
        )

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read it back. Raises DataError where it is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = Path(folder)
        if not (path / RECORD).is_file():
            raise DataError(
                f"{folder}: holds no reward.", mend="Learn one: safetylayers align reward MODEL PAIRS -o DIR"
            )
        record = RewardRecord.read(path / RECORD)
        try:
            tensors = load_file(path / TENSORS)
            posteriors = {
                name: Posterior(
                    tensors[f"{name}.mean"],
                    tensors[f"{name}.covariance"],
                    known.precision,
                    float(tensors[f"{name}.evidence"][0]),
                    known.choices,
                )
                for name, known in record.values.items()
            }
            reading = Reading(
                tensors["mean"], tensors["components"], tensors["spread"], record.shrinkage, record.floor, record.limit
            )
            return cls(record, reading, posteriors, frozenset(tensors["prompts"].tolist()))
        except (OSError, SafetensorError, KeyError) as error:
            raise DataError(f"{folder}: the reward is damaged ({error}).", mend="Learn it anew.") from error


class Learned(NamedTuple):
    """A reward, and what it makes of the choices that it was learned from."""

    reward: ValueReward
    held_out: Array
    """Probability of each choice, [N], by a reward that has seen none about the same prompt. How hidden states are
    reduced is fitted to all replies, without their choices."""


def learn_reward(
    model: ChatModel,
    pairs: PairSet,
    *,
    layers: Sequence[int],
    pool: Pool = "mean",
    components: int = COMPONENTS,
    weigh_people: bool = False,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Learned:
    """Learn a reward from choices: a Bayesian choice model a value, on the model's hidden states.

    Args:
        model: whose hidden states are read; its weights stay as they are.
        pairs: choices; each counts for the value that it names.
        layers: that are read; a map's safety layers tell harm best, later ones more of the rest.
        pool: over a reply's tokens.
        components: of hidden states, at most.
        weigh_people: tell apart who chose, and let everybody count as far as the others' choices bear theirs out.
        seed: of the parts for held-out figures.
        progress: told while replies are read.

    Raises:
        UsageError: there are no such layers, a value has too few choices, or people are to be weighed and choices do
            not say who made them, or all name the same person.
    """
    named = np.array(value_names(pairs))
    for name in dict.fromkeys(named.tolist()):
        if (count := int((named == name).sum())) < 2 * FOLDS:
            raise UsageError(f"{name}: {count} choices are too few.", mend=f"Give at least {2 * FOLDS} a value.")
    if weigh_people:
        _check_people(pairs)
    chosen, rejected = read_pairs(model, pairs, layers=layers, pool=pool, progress=progress)
    both = Read(np.concatenate([chosen.states, rejected.states]), np.concatenate([chosen.tokens, rejected.tokens]))
    reading = Reading.fit(both, groups=prompts_of(pairs) * 2, components=components)
    difference_NK = reading.read(chosen.states) - reading.read(rejected.states)
    posteriors, records = {}, {}
    every_N = np.full(len(pairs), 0.5)
    for name in dict.fromkeys(named.tolist()):
        of = np.flatnonzero(named == name)
        of_value = PairSet(name, tuple(pairs.pairs[index] for index in of))
        posteriors[name], records[name], every_N[of] = _learn_value(
            of_value, difference_NK[of], reading, weigh_people=weigh_people, seed=seed
        )
    record = RewardRecord(
        provenance=Provenance(
            model=model.name, model_hash=model.weights_hash, data={pairs.name: pairs.content_hash}, seed=seed
        ),
        layers=tuple(layers),
        pool=pool,
        shrinkage=reading.shrinkage,
        floor=reading.floor,
        limit=reading.limit,
        values=records,
        people=len({pair.by for pair in pairs if pair.by}),
    )
    return Learned(ValueReward(record, reading, posteriors, frozenset(prompt_keys(pairs))), every_N)


def _learn_value(
    pairs: PairSet, difference_NK: Array, reading: Reading, *, weigh_people: bool, seed: int
) -> tuple[Posterior, ValueRecord, Array]:
    """Learn one value; return also the held-out probability of each choice."""
    by = [pair.by for pair in pairs] if weigh_people else []
    posterior, people = fit(difference_NK, reading, by)
    p_N = foresee(prompts_of(pairs), difference_NK, reading, seed=seed, by=by)
    gap_N = difference_NK @ posterior.mean
    record = ValueRecord(
        **dict(measure(p_N, pairs, held_out_baselines(pairs, seed=seed))),
        choices=len(pairs),
        precision=posterior.precision,
        unit=float(np.sqrt((gap_N**2).mean())) or 1.0,
        choosers=ChooserRecord.of(people) if people else {},
    )
    return posterior, record, p_N


def _check_people(pairs: PairSet) -> None:
    if nameless := sum(not pair.by for pair in pairs):
        raise UsageError(
            f"{nameless} of {len(pairs)} choices do not say who made them, so people cannot be told apart.",
            mend="Name who chose in 'by', or let all choices count alike.",
        )
    if len({pair.by for pair in pairs}) < 2:
        raise UsageError(
            "All choices are one person's: there is nobody to weigh them against.", mend="Let all choices count alike."
        )
