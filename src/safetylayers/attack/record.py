"""What every attack returns: each case with its reply, every judge's verdict, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import Field

from safetylayers.evaluate import Judge, PatternJudge, PhraseJudge, Verdict
from safetylayers.records import Provenance, Rate, Record

Setting = bool | int | float | str


class Cost(Record):
    """What an attacker spent."""

    queries: int = Field(default=0, ge=0)
    """Replies that were asked for."""
    forwards: int = Field(default=0, ge=0)
    """Forward passes besides, counted by sequence."""
    backwards: int = Field(default=0, ge=0)
    """Backward passes, counted by sequence."""
    tokens: int = Field(default=0, ge=0)
    """Tokens read and written, in all passes."""
    seconds: float = Field(default=0.0, ge=0)
    """Wall-clock time; a case of a batch has its even share."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


class AttackCase(Record):
    """One attacked prompt."""

    prompt: str
    attacked: str
    """The prompt as the model got it, or a description of what was done where no text can show it."""
    prefill: str = ""
    """How the reply was begun for the model; `reply` goes on from there."""
    reply: str
    verdicts: dict[str, Verdict]
    """Judge -> what the reply does. Of a prefilled reply, what the model itself added is judged."""
    cost: Cost

    @property
    def successes(self) -> int:
        """How many judges say that the model complied."""
        return sum(verdict is Verdict.COMPLIED for verdict in self.verdicts.values())


class AttackResult(Record):
    """One attack on one model."""

    attack: str
    """Its name: "prefill", "templates", "embedding"."""
    title: str
    """How tables call this run of it, as a command would: "prefill:tokens=10"."""
    settings: dict[str, Setting]
    cases: tuple[AttackCase, ...]
    provenance: Provenance

    def success_rate(self, judge: str) -> Rate:
        """Return the share of cases in which the model complied, by one judge."""
        return Rate.of([case.verdicts[judge] is Verdict.COMPLIED for case in self.cases])

    @property
    def judges(self) -> list[str]:
        """Names of the judges."""
        return list(self.cases[0].verdicts) if self.cases else []

    @property
    def target(self) -> str:
        """What was attacked."""
        return self.provenance.model

    @property
    def cost(self) -> Cost:
        """What all cases cost."""
        total = Cost()
        for case in self.cases:
            total = total + case.cost
        return total


class AttackReport(Record):
    """Several attacks on one target."""

    results: tuple[AttackResult, ...] = Field(min_length=1)


def default_judges() -> list[Judge]:
    """Return phrases and patterns."""
    return [PhraseJudge(), PatternJudge()]


@dataclass
class Stopwatch:
    """Seconds that a block took."""

    seconds: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Time a block."""
    watch, start = Stopwatch(), time.perf_counter()
    try:
        yield watch
    finally:
        watch.seconds = time.perf_counter() - start
