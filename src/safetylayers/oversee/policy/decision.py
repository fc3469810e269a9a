"""From what guards and monitors say to what is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from safetylayers.oversee.guards.base import Finding
from safetylayers.oversee.guards.runner import Failure
from safetylayers.oversee.policy.actions import Action, strictest
from safetylayers.oversee.policy.policy import MonitorRule, Policy
from safetylayers.oversee.words import Reading


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one finding, one failure or one reading leads to."""

    by: str
    """Guard, or `monitor:prompt` and `monitor:reply`."""
    kind: str
    action: Action
    shadow: bool = False
    """Whether the action is only logged."""
    finding: Finding | None = None
    failed: bool = False
    """Whether the guard gave no verdict."""
    score: float | None = None

    @property
    def effective(self) -> Action:
        """What is done."""
        return Action.ALLOW if self.shadow else self.action

    def as_fact(self) -> dict[str, str | float | bool | None]:
        """Return what the log keeps in clear: no text that people wrote."""
        score = self.score if self.score is not None else self.finding.score if self.finding else None
        return {"by": self.by, "kind": self.kind, "action": self.action, "shadow": self.shadow, "score": score}


@dataclass(slots=True)
class Decision:
    """All rulings on a request or a reply so far."""

    rulings: list[Ruling] = field(default_factory=list)

    @property
    def action(self) -> Action:
        """The strictest of what is to be done."""
        return strictest([ruling.effective for ruling in self.rulings])

    @property
    def failed(self) -> str | None:
        """Name of a guard without a verdict, where that alone blocks."""
        blocking = [ruling for ruling in self.rulings if ruling.effective is Action.BLOCK]
        return blocking[0].by if blocking and all(ruling.failed for ruling in blocking) else None

    def redactions(self) -> list[Finding]:
        """Return the findings that are to be written over, in the order of the text."""
        found = [ruling.finding for ruling in self.rulings if ruling.effective is Action.REDACT and ruling.finding]
        return sorted(found, key=lambda finding: (finding.start, finding.end))

    def facts(self) -> list[dict[str, str | float | bool | None]]:
        """Return what the log keeps."""
        return [ruling.as_fact() for ruling in self.rulings]


def rule_on(policy: Policy, guard: str, findings: Sequence[Finding]) -> list[Ruling]:
    """Return what a guard's findings lead to."""
    rule = policy.guards[guard]
    shadow = rule.shadow or policy.shadow
    rulings = []
    for finding in findings:
        action = rule.action_for(finding.kind)
        if action is Action.REDACT and (finding.replacement is None or finding.start >= finding.end):
            action = Action.BLOCK  # there is nothing to write in its place
        rulings.append(Ruling(guard, finding.kind, action, shadow=shadow, finding=finding))
    return rulings


def rule_on_failure(policy: Policy, failure: Failure) -> Ruling:
    """Return what a guard without a verdict leads to. In shadow the failure is logged like a finding."""
    rule = policy.guards[failure.guard]
    return Ruling(failure.guard, failure.kind, Action(rule.on_error), shadow=rule.shadow or policy.shadow, failed=True)


def rule_on_reading(policy: Policy, place: str, reading: Reading | None, *, steers: bool) -> Ruling | None:
    """Return what a monitor's reading leads to; None below the threshold.

    Args:
        policy: in force.
        place: "prompt" or "reply".
        reading: what the monitors saw.
        steers: whether the gate inside the model can do what `steer` asks for.
    """
    rule: MonitorRule = getattr(policy.monitors, place)
    if reading is None or not passed(reading):
        return None
    action = Action.BLOCK if rule.action is Action.STEER and not steers else rule.action
    kind = "no-number" if reading.risk is None else "risk"
    return Ruling(f"monitor:{place}", kind, action, shadow=rule.shadow or policy.shadow, score=reading.risk)


def passed(reading: Reading) -> bool:
    """Return whether a reading passes the threshold, moved by the policy's shift; no number passes every threshold."""
    return reading.risk is None or reading.risk >= 0
