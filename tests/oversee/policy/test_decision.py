"""From findings, failures and readings to what is done."""

from __future__ import annotations

import pytest

from safetylayers.oversee.guards.base import Finding
from safetylayers.oversee.guards.runner import Failure
from safetylayers.oversee.policy.actions import Action
from safetylayers.oversee.policy.decision import Decision, rule_on, rule_on_failure, rule_on_reading
from safetylayers.oversee.policy.policy import Policy, parse_policy
from safetylayers.oversee.words import Reading


def policy(rule: str, rest: str = "") -> Policy:
    return parse_policy(f"version: 1\nname: test\nguards: {{g: {{kind: personal, {rule}}}}}\n{rest}")


EMAIL = Finding(kind="email", start=3, end=8, replacement="[email removed]")
TOO_LONG = Finding(kind="too-long")


def test_a_kind_of_its_own_action_gets_that_one_and_others_the_guards() -> None:
    rules = policy("action: redact, actions: {ssn: block}")
    rulings = rule_on(rules, "g", [EMAIL, Finding(kind="ssn", start=0, end=2, replacement="x")])
    assert [ruling.action for ruling in rulings] == [Action.REDACT, Action.BLOCK]


def test_what_cannot_be_written_over_is_blocked() -> None:
    assert rule_on(policy("action: redact"), "g", [TOO_LONG])[0].action is Action.BLOCK


@pytest.mark.parametrize("rest", ["shadow: true", ""])
def test_in_shadow_nothing_is_done(rest: str) -> None:
    rules = policy("action: block" if rest else "action: block, shadow: true", rest)
    decision = Decision(rule_on(rules, "g", [EMAIL]))
    assert decision.action is Action.ALLOW
    assert decision.facts()[0]["action"] == "block"
    assert decision.facts()[0]["shadow"] is True


def test_a_guard_without_a_verdict_blocks_by_itself_and_is_named() -> None:
    decision = Decision([rule_on_failure(policy(""), Failure("g", "timeout", "took too long"))])
    assert decision.action is Action.BLOCK
    assert decision.failed == "g"
    decision.rulings += rule_on(policy("action: block"), "g", [EMAIL])
    assert decision.failed is None


def test_facts_hold_no_text() -> None:
    facts = Decision(rule_on(policy("action: redact"), "g", [EMAIL])).facts()
    assert set(facts[0]) == {"by", "kind", "action", "shadow", "score"}


@pytest.mark.parametrize(
    ("risk", "steers", "action"),
    [(-0.1, True, None), (0.0, True, "steer"), (2.0, False, "block"), (None, True, "steer"), (None, False, "block")],
)
def test_a_reading_counts_from_the_threshold_on_and_one_without_a_number_always(
    risk: float | None, steers: bool, action: str | None
) -> None:
    ruling = rule_on_reading(policy(""), "prompt", Reading(scores={}, risk=risk), steers=steers)
    assert (ruling.action if ruling else None) == action


def test_no_reading_is_no_ruling() -> None:
    assert rule_on_reading(policy(""), "reply", None, steers=True) is None
