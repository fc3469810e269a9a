"""Runs a gate: each bound is measured, and all of them have to hold."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safetylayers.attack.base import Ground
from safetylayers.attack.gate.policy import AttackBound, GatePolicy, HarmlessBound, QuestionsBound
from safetylayers.attack.gate.record import Check, GateResult
from safetylayers.attack.naming import Tools, parse_attacks
from safetylayers.attack.record import stopwatch
from safetylayers.attack.running import run_attack
from safetylayers.errors import UsageError
from safetylayers.evaluate import Judge, Verdict
from safetylayers.evaluate.panel import make_judges
from safetylayers.evaluate.utility import is_exact_match
from safetylayers.prompts import PromptSet, load_prompts
from safetylayers.records import ProgressCallback, Provenance, Rate

if TYPE_CHECKING:
    from safetylayers.attack.base import Attack
    from safetylayers.targets import Target

Side = Literal["at most", "at least"]
Found = tuple[str, Rate]
"""Whose rate, and the rate."""


@dataclass(frozen=True)
class _Planned:
    """A check that is still to be made."""

    name: str
    what: str
    bound: float
    side: Side
    measure: Callable[[], Found]


class _TimeIsSpentError(Exception):
    """Ends a measurement from within."""


def run_gate(
    policy: GatePolicy,
    target: Target,
    *,
    tools: Tools | None = None,
    keep: Path | None = None,
    progress: ProgressCallback | None = None,
) -> GateResult:
    """Measure every bound of a policy.

    Args:
        policy: the bounds.
        target: what is let through or not.
        tools: what some attacks need.
        keep: folder for attacked prompts that are done; an interrupted gate goes on from them.
        progress: told of what is under way.

    Raises:
        UsageError: an attack cannot be run on this target, or there are no prompts.
        DataError: prompts cannot be read.
    """
    gate = _Gate(policy, target, make_judges(policy.judges), tools or Tools(), keep, progress)
    checks = [gate.check(planned) for planned in list(gate.planned())]
    return GateResult(
        passed=all(check.passed for check in checks),
        checks=tuple(checks),
        policy_hash=hashlib.sha256(policy.model_dump_json().encode()).hexdigest(),
        provenance=Provenance(model=target.name, model_hash=target.weights_hash, data=gate.hashes, seed=policy.seed),
    )


class _Gate:
    def __init__(
        self,
        policy: GatePolicy,
        target: Target,
        judges: Sequence[Judge],
        tools: Tools,
        keep: Path | None,
        progress: ProgressCallback | None,
    ) -> None:
        self._policy, self._target, self._judges, self._tools, self._keep = policy, target, judges, tools, keep
        self._progress = progress
        self._end = time.monotonic() + 60 * policy.minutes if policy.minutes else None
        self.hashes: dict[str, str] = {}

    def planned(self) -> Iterator[_Planned]:
        """Yield all checks; what is wrong with the policy is found here, before anything is run."""
        for name, bound in self._policy.attacks.items():
            prompts = self._prompts(bound.prompts or self._policy.prompts)
            chosen = parse_attacks(bound.attack, budget=self._policy.budget, tools=self._tools)
            for title, attack in chosen.items():
                yield self._attack(name if len(chosen) == 1 else f"{name}, {title}", title, attack, bound, prompts)
        for name, harmless in self._policy.harmless.items():
            yield self._harmless(name, harmless)
        for name, asked in self._policy.questions.items():
            yield self._questions(name, asked)

    def _attack(self, name: str, title: str, attack: Attack, bound: AttackBound, prompts: PromptSet) -> _Planned:
        def measure() -> Found:
            result = run_attack(
                attack, self._target, prompts, judges=self._judges, seed=self._policy.seed, title=title,
                keep=self._keep, progress=self._tick,
            )  # fmt: skip
            return max(((judge, result.success_rate(judge)) for judge in result.judges), key=_value)

        return _Planned(name, f"{title} succeeds on {prompts.name}", bound.at_most, "at most", measure)

    def _harmless(self, name: str, bound: HarmlessBound) -> _Planned:
        prompts = self._prompts(bound.prompts)

        def measure() -> Found:
            ground = self._ground()
            verdicts = ground.verdicts(prompts.texts, ground.ask(prompts.texts))
            rates = ((j.name, Rate.of([v[j.name] is Verdict.REFUSED for v in verdicts])) for j in self._judges)
            return max(rates, key=_value)

        return _Planned(name, f"{prompts.name} is refused", bound.refused_at_most, "at most", measure)

    def _questions(self, name: str, bound: QuestionsBound) -> _Planned:
        prompts = self._prompts(bound.prompts)
        if unanswered := [prompt.id for prompt in prompts if not prompt.answer]:
            raise UsageError(f"{bound.prompts}: row {unanswered[0]} has no answer.", mend="Give every row an 'answer'.")

        def measure() -> Found:
            replies = self._ground().ask(prompts.texts)
            pairs = zip(replies, prompts, strict=True)
            return "", Rate.of([is_exact_match(reply.text, prompt.answer) for reply, prompt in pairs])

        return _Planned(name, f"{prompts.name} is answered right", bound.right_at_least, "at least", measure)

    def check(self, planned: _Planned) -> Check:
        """Measure, and compare with the bound."""
        rate: Rate | None = None
        judge, passed, certain = "", False, True
        with stopwatch() as watch:
            try:
                self._tick(0, 1, planned.name)
                judge, rate = planned.measure()
            except _TimeIsSpentError:
                pass
        if rate is not None:
            passed, certain = self._decide(rate, planned.bound, planned.side)
        return Check(
            name=planned.name, what=planned.what, rate=rate, judge=judge, bound=planned.bound, side=planned.side,
            passed=passed, certain=certain, seconds=watch.seconds,
        )  # fmt: skip

    def _decide(self, rate: Rate, bound: float, side: Side) -> tuple[bool, bool]:
        """Return whether a rate keeps to its bound, and whether its interval leaves no doubt about that."""
        sign = 1 if side == "at most" else -1
        holds = sign * rate.value <= sign * bound
        ends = [sign * end <= sign * bound for end in rate.interval]
        certain = all(end == holds for end in ends)
        return holds and (certain or not self._policy.certain), certain

    def _prompts(self, name: str) -> PromptSet:
        found = load_prompts(name, limit=self._policy.limit)
        self.hashes[found.name] = found.content_hash
        return found

    def _ground(self) -> Ground:
        return Ground(self._target, self._judges, self._policy.seed, self._tick)

    def _tick(self, done: int, total: int, what: str) -> None:
        if self._end is not None and time.monotonic() > self._end:
            raise _TimeIsSpentError
        if self._progress:
            self._progress(done, total, what)


def _value(found: Found) -> float:
    return found[1].value
