"""A policy at work: its guards made, and asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from safetylayers.errors import PolicyError
from safetylayers.oversee.guards.base import Guard, Passage, Stage, Verdict
from safetylayers.oversee.guards.registry import close_guard, make_guard, open_guard
from safetylayers.oversee.guards.runner import Failure, run_guard
from safetylayers.oversee.policy.policy import Policy

Timed = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Checked:
    """What one guard said of one passage."""

    guard: str
    answer: Verdict | Failure


class Enforced:
    """A policy with its guards."""

    def __init__(self, policy: Policy, guards: Mapping[str, Guard]) -> None:
        """Put a policy to work with guards that were made for it.

        Raises:
            PolicyError: a guard is missing, or the policy names a kind of finding that its guard cannot report.
        """
        self.policy = policy
        self.guards = dict(guards)
        self.timed: Timed = lambda _guard, _seconds: None
        """Told how many seconds a guard took for a passage."""
        self._reading: dict[Stage, list[str]] = {
            stage: [name for name, rule in policy.guards.items() if stage in rule.reads] for stage in get_args(Stage)
        }
        for name, rule in policy.guards.items():
            if name not in guards:
                raise PolicyError(f"guards.{name}: no such guard was made.")
            if unknown := sorted(set(rule.actions) - set(guards[name].kinds)):
                raise PolicyError(
                    f"guards.{name}.actions: the guard never finds {', '.join(unknown)}.",
                    mend=f"It finds {', '.join(guards[name].kinds)}.",
                )

    def reading(self, stage: Stage) -> list[str]:
        """Return the names of the guards that read at this stage."""
        return self._reading[stage]

    async def check(self, passages: Mapping[str, Passage]) -> list[Checked]:
        """Let guards read their passages, all at once."""
        return list(await asyncio.gather(*[self._check(name, passage) for name, passage in passages.items()]))

    async def _check(self, name: str, passage: Passage) -> Checked:
        begun = time.perf_counter()
        timeout = self.policy.guards[name].timeout_seconds
        answer = await run_guard(self.guards[name], passage, timeout=timeout)
        self.timed(name, time.perf_counter() - begun)
        return Checked(name, answer)

    async def open(self) -> None:
        """Make the guards ready, models loaded. Raises what the first check would."""
        for guard in self.guards.values():
            await open_guard(guard)

    async def close(self) -> None:
        """Let go of what the guards hold."""
        for guard in self.guards.values():
            await close_guard(guard)


def enforce(policy: Policy) -> Enforced:
    """Make a policy's guards.

    Raises:
        PolicyError: a guard's kind or one of its settings makes no sense.
        GuardError: a guard cannot be made.
    """
    return Enforced(policy, {name: make_guard(name, rule.kind, rule.settings) for name, rule in policy.guards.items()})
