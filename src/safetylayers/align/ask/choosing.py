"""What people's answers say so far, and which questions are worth asking by that.

Shapes: N questions, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from safetylayers.align.ask.active import Strategy, next_questions
from safetylayers.align.ask.labels import Label
from safetylayers.align.ask.questions import Question
from safetylayers.align.bayes import Array, Posterior
from safetylayers.align.features import Pool, Read, read_pairs
from safetylayers.align.folds import FOLDS, Indices, held_out, right
from safetylayers.align.people import People, fit_people
from safetylayers.align.reading import Reading
from safetylayers.errors import UsageError
from safetylayers.prompts.pairs import PairSet
from safetylayers.records import ProgressCallback, Rate

if TYPE_CHECKING:
    from safetylayers.models import ChatModel

COMPONENTS = 64
"""Of hidden states at most: the few answers that people give teach no more, and a person waits for the fit."""
START = 5
"""Answers about a value before anything is known of it; until then questions are drawn."""

Fit = Callable[[Array, Sequence[str]], Posterior]
"""Of differences, chosen less rejected [answers, F], and of who chose each."""


def fit_choices(differences: Array, by: Sequence[str]) -> Posterior:
    """Fit to choices; where several people chose, each counts as far as they can be relied on. Raises UsageError."""
    return fit_people(differences, by).posterior if len(set(by)) > 1 else Posterior.fit(differences)


def read_questions(
    model: ChatModel,
    questions: Sequence[Question],
    *,
    layers: Sequence[int],
    pool: Pool = "mean",
    progress: ProgressCallback | None = None,
) -> Array:
    """Read both replies to each question; return features of the first less those of the second, [N, F].

    Args:
        model: that reads.
        questions: two at least.
        layers: that are read.
        pool: over a reply's tokens.
        progress: told while replies are read.

    Raises:
        UsageError: there are no such layers, or too few questions.
    """
    pairs = PairSet("questions", tuple(question.pair(first_is_better=True) for question in questions))
    first, second = read_pairs(model, pairs, layers=layers, pool=pool, progress=progress)
    both = Read(np.concatenate([first.states, second.states]), np.concatenate([first.tokens, second.tokens]))
    reading = Reading.fit(both, components=COMPONENTS)
    # Half way between a prior over hidden states and one over components; see `reward.POWERS`.
    scale_F = np.sqrt(reading.spread / reading.spread[0])
    return np.asarray((reading.read(first.states) - reading.read(second.states)) * scale_F)


@dataclass(frozen=True)
class Candidates:
    """Questions that may be asked, and what a reward tells their replies apart by."""

    questions: tuple[Question, ...]
    differences: Array
    """Features of each one's first reply less those of its second, [N, F]."""
    fit: Fit = fit_choices

    def __post_init__(self) -> None:
        """Raise UsageError where there is not one difference for each question."""
        if np.ndim(self.differences) != 2 or len(self.differences) != len(self.questions):
            raise UsageError(
                f"{len(self.questions)} questions but {len(self.differences)} differences.", mend="Read each question."
            )

    @cached_property
    def place(self) -> dict[str, int]:
        """Where each question stands, by its id."""
        return {question.id: place for place, question in enumerate(self.questions)}

    def choose(
        self, strategy: Strategy, labels: Sequence[Label], by: str, count: int, *, batch: int, seed: int
    ) -> list[int]:
        """Choose what a person is asked next, always of the value that has the fewest answers; the best come first.

        Args:
            strategy: by which questions are chosen, once `START` answers are there.
            labels: everybody's answers; what this person has answered is not chosen.
            by: the person.
            count: how many; all, where there are fewer.
            batch: how many of one value before the next one's turn.
            seed: of what is drawn.
        """
        done = {label.question for label in labels if label.by == by}
        open_: dict[str, list[int]] = {}
        for place, question in enumerate(self.questions):
            if question.id not in done:
                open_.setdefault(question.value, []).append(place)
        answers = {value: self._about(labels, value) for value in open_}
        asked = {value: len(found) for value, found in answers.items()}
        chosen: list[int] = []
        while open_ and len(chosen) < count:
            value = min(open_, key=lambda each: asked[each])
            many = count - len(chosen) if len(open_) == 1 else min(batch, count - len(chosen))
            picked = self._pick(strategy, open_[value], answers[value], many, seed + len(labels))
            chosen += picked
            asked[value] += len(picked)
            open_[value] = [place for place in open_[value] if place not in picked]
            if not open_[value]:
                del open_[value]
        return chosen

    def _pick(
        self, strategy: Strategy, places: Sequence[int], answers: Sequence[Label], count: int, seed: int
    ) -> list[int]:
        differences = self.differences[list(places)]
        features = differences.shape[1]
        if strategy == "random" or len(answers) < START:
            strategy, known = "random", Posterior(np.zeros(features), np.eye(features), 1.0, 0.0, 0)
        else:
            known = self.fit(self._chosen(answers), [label.by for label in answers])
        picks = next_questions(strategy, known, differences, count, seed=seed)
        return [places[pick] for pick in picks]

    def accuracy(self, labels: Sequence[Label]) -> Rate | None:
        """Return how many answers a reward would have given that has seen none about the same conversation.

        Values with fewer than two answers, or one conversation, a part are left out; None where that leaves nothing.
        """
        found = [self._held_out(self._about(labels, value)) for value in self._values]
        known = [right(p_N) for p_N in found if p_N is not None]
        return Rate(count=sum(r.count for r in known), total=sum(r.total for r in known)) if known else None

    def _held_out(self, answers: Sequence[Label]) -> Array | None:
        """Return the probability of each answer to a reward that has seen none about the same conversation."""
        asked = [repr(self.questions[self.place[label.question]].messages) for label in answers]
        if len(answers) < 2 * FOLDS or len(set(asked)) < FOLDS:
            return None
        chosen, by = self._chosen(answers), np.array([label.by for label in answers])

        def judge(train: Indices, test: Indices) -> Array:
            return self.fit(chosen[train], by[train].tolist()).probability(chosen[test])

        return held_out(asked, judge, seed=0)

    def people(self, labels: Sequence[Label]) -> People | None:
        """Return what sets people apart, by the value with most answers; None where fewer than two have answered."""
        most = max((self._about(labels, value) for value in self._values), key=len, default=[])
        by = [label.by for label in most]
        return fit_people(self._chosen(most), by) if len(set(by)) > 1 else None

    @property
    def _values(self) -> list[str]:
        return list(dict.fromkeys(question.value for question in self.questions))

    def _about(self, labels: Sequence[Label], value: str) -> list[Label]:
        """Return the answers about a value that say which reply is better."""
        decided = [label for label in labels if label.answer in ("first", "second") and label.question in self.place]
        return [label for label in decided if self.questions[self.place[label.question]].value == value]

    def _chosen(self, answers: Sequence[Label]) -> Array:
        """Return features of the chosen replies less those of the others, [answers, F]."""
        signs = np.array([1.0 if label.answer == "first" else -1.0 for label in answers])
        return np.asarray(self.differences[[self.place[label.question] for label in answers]] * signs[:, None])
