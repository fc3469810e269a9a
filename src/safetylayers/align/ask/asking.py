"""Asking people: one question after another, its replies in a drawn order, and how far the reward has come.

Replies are read once, before anybody is asked. From then on a question costs a look into the store, and every few
answers a fit.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Literal

from safetylayers.align.ask.active import Strategy
from safetylayers.align.ask.choosing import Candidates
from safetylayers.align.ask.labels import Answer, Label, Labels, checked_name
from safetylayers.align.ask.questions import Question
from safetylayers.errors import UsageError
from safetylayers.records import Rate, Record

BATCH = 5
"""Answers between two fits."""
KEYS = ("1", "2", "0", "s")
"""What a person answers: the reply shown first, the one shown second, equally good, no answer."""


@dataclass(frozen=True)
class Shown:
    """A question as a person sees it."""

    question: Question
    one: str
    """The reply that is shown first."""
    two: str


@dataclass(frozen=True)
class Progress:
    """How far a person is, and the reward."""

    answered: int
    total: int
    """What this person is to answer in all."""
    seconds_left: float | None
    """By the median of what answers took so far; None before the first one."""
    accuracy: Rate | None
    """Answers of all people that a reward learned from the others would have given; None while there are too few."""

    def __str__(self) -> str:
        text = f"{self.answered} of {self.total} answered"
        if self.seconds_left is None or self.answered >= self.total:
            return text
        minutes = round(self.seconds_left / 60)
        if not minutes:
            return f"{text}, less than a minute to go"
        return f"{text}, about {minutes} minute{'' if minutes == 1 else 's'} to go"


class PersonRecord(Record):
    """What is known of one person's answers."""

    answers: int
    """Skipped questions do not count."""
    skipped: int
    reliability: float | None = None
    """See `people.Person`; None where fewer than two people have answered the same value's questions."""
    agreement: float | None = None
    apart: bool = False
    """The common reward explains this person's choices far less than the others'."""


class AskingRecord(Record):
    """How far asking has come."""

    schema_version: Literal[1] = 1
    strategy: Strategy
    questions: int
    accuracy: Rate | None
    """As in `Progress`."""
    people: dict[str, PersonRecord]


class Asking:
    """Questions on their way to people, and what is learned from the answers. Threads may share it.

    Whatever takes a person's name takes it with space around it too, and raises UsageError where it is none.
    """

    def __init__(
        self,
        candidates: Candidates,
        labels: Labels,
        *,
        strategy: Strategy = "random",
        budget: int = 50,
        batch: int = BATCH,
        seed: int = 0,
    ) -> None:
        """Begin, or go on with what the store holds already.

        Args:
            candidates: what may be asked.
            labels: where answers are kept; gets the questions.
            strategy: by which questions are chosen.
            budget: answers that each person gives, those of earlier sittings included; skipped questions do not count.
            batch: answers between two fits.
            seed: of what is drawn.

        Raises:
            UsageError: a number is too small.
            DataError: the store is damaged.
            OutputError: it cannot be written.
        """
        if batch < 1 or budget < 0:
            raise UsageError(f"Batch {batch}, budget {budget}.", mend="Give a batch from 1 and a budget from 0 on.")
        self.candidates, self._labels = candidates, labels
        self._strategy, self._budget, self._batch, self._seed = strategy, budget, batch, seed
        self._lock = RLock()
        self._queues: dict[str, list[int]] = {}
        self._shown_at: dict[tuple[str, str], float] = {}
        self._judged: tuple[int, Rate | None] = (0, None)
        labels.add(candidates.questions)

    def next(self, by: str) -> Shown | None:
        """Return what a person is asked next, the same until it is answered; None when all is answered."""
        by = checked_name(by)
        with self._lock:
            labels = self._current()
            if _answered(labels, by) >= self._budget:
                return None
            done = {self.candidates.place[label.question] for label in labels if label.by == by}
            queue = [place for place in self._queues.get(by, []) if place not in done]
            self._queues[by] = queue = queue or self._choose(labels, by, self._batch)
            if not queue:
                return None
            shown = self.show(self.candidates.questions[queue[0]], by)
            self._shown_at.setdefault((by, shown.question.id), time.monotonic())
            return shown

    def left(self, by: str) -> list[Question]:
        """Return all that is left of a person's budget, the best first: for a program that answers many at once."""
        by = checked_name(by)
        labels = self._current()
        places = self._choose(labels, by, max(0, self._budget - _answered(labels, by)))
        return [self.candidates.questions[place] for place in places]

    def show(self, question: Question, by: str) -> Shown:
        """Return a question with its replies in an order drawn for each person, so that neither side is preferred."""
        by = checked_name(by)
        replies = (question.first, question.second)
        return Shown(question, *(reversed(replies) if self._is_swapped(question.id, by) else replies))

    def answer(self, by: str, question: str, key: str) -> None:
        """Keep what a person answered.

        Args:
            by: the person.
            question: its id.
            key: one of `KEYS`.

        Raises:
            UsageError: there is no such question, key or name.
            DataError: the store is damaged.
            OutputError: it cannot be written.
        """
        by = checked_name(by)
        if question not in self.candidates.place or key not in KEYS:
            raise UsageError(f"{key!r} is no answer to {question!r}.", mend=f"Answer one of: {', '.join(KEYS)}.")
        with self._lock:
            since = self._shown_at.get((by, question))
            seconds = None if since is None else round(time.monotonic() - since, 2)
            self._labels.answer(question, self._meant(question, by, key), by=by, seconds=seconds)
            self._shown_at.pop((by, question), None)

    def undo(self, by: str) -> bool:
        """Take a person's last answer back, so that it is asked again next; return whether there was one."""
        by = checked_name(by)
        with self._lock:
            own = [label.question for label in self._current() if label.by == by]
            if own:
                self._labels.withdraw(own[-1], by=by)
                self._queues.setdefault(by, []).insert(0, self.candidates.place[own[-1]])
            return bool(own)

    def progress(self, by: str) -> Progress:
        """Return how far a person is, and the reward."""
        by = checked_name(by)
        with self._lock:
            labels = self._current()
            own = [label for label in labels if label.by == by]
            answered = _answered(own, by)
            total = max(answered, min(self._budget, answered + len(self.candidates.questions) - len(own)))
            taken = [label.seconds for label in own if label.seconds is not None]
            left = statistics.median(taken) * (total - answered) if taken else None
            return Progress(answered, total, left, self._accuracy(labels))

    def record(self) -> AskingRecord:
        """Return how far all people are, and what sets them apart."""
        labels = self._current()
        found = self.candidates.people(labels)
        known = {person.name: person for person in found.people} if found else {}
        apart = found.apart() if found else []
        people = {}
        for name in sorted({label.by for label in labels}):
            said = [label.answer for label in labels if label.by == name]
            person = known.get(name)
            people[name] = PersonRecord(
                answers=len(said) - said.count("skip"),
                skipped=said.count("skip"),
                reliability=person.reliability if person else None,
                agreement=person.agreement if person else None,
                apart=name in apart,
            )
        return AskingRecord(
            strategy=self._strategy,
            questions=len(self.candidates.questions),
            accuracy=self.candidates.accuracy(labels),
            people=people,
        )

    def _current(self) -> list[Label]:
        return [label for label in self._labels.current() if label.question in self.candidates.place]

    def _choose(self, labels: Sequence[Label], by: str, count: int) -> list[int]:
        return self.candidates.choose(self._strategy, labels, by, count, batch=self._batch, seed=self._seed)

    def _accuracy(self, labels: Sequence[Label]) -> Rate | None:
        """Judge anew now and then, the more seldom the more there are: a person waits for it."""
        before, rate = self._judged
        if abs(len(labels) - before) >= max(self._batch, before // 10):
            rate = self.candidates.accuracy(labels)
            self._judged = (len(labels), rate)
        return rate

    def _is_swapped(self, question: str, by: str) -> bool:
        drawn = hashlib.sha256(f"{self._seed}\0{by}\0{question}".encode()).digest()
        return bool(drawn[0] & 1)

    def _meant(self, question: str, by: str, key: str) -> Answer:
        if key == "0":
            return "equal"
        if key == "s":
            return "skip"
        return "first" if (key == "1") != self._is_swapped(question, by) else "second"


def _answered(labels: Sequence[Label], by: str) -> int:
    return sum(label.by == by and label.answer != "skip" for label in labels)
