"""Whether a request may go to the model, and as what.

The decision is in the log before the model, or a server upstream, sees the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from safetylayers.oversee.audit.entry import JSON, Entry
from safetylayers.oversee.gateway.case import Case
from safetylayers.oversee.gateway.redaction import redact_messages
from safetylayers.oversee.gateway.reply import no_verdict
from safetylayers.oversee.guards.base import Passage, Verdict
from safetylayers.oversee.policy.actions import Action, strictest
from safetylayers.oversee.policy.decision import Decision, Ruling, rule_on, rule_on_failure
from safetylayers.oversee.policy.enforced import Enforced
from safetylayers.oversee.words import Message

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House


async def decide(enforced: Enforced, messages: tuple[Message, ...]) -> Decision:
    """Let the guards read a request."""
    text = "\n".join(message.content for message in messages)
    passage = Passage("input", text, messages=messages)
    decision = Decision()
    for check in await enforced.check(dict.fromkeys(enforced.reading("input"), passage)):
        if isinstance(check.answer, Verdict):
            decision.rulings += rule_on(enforced.policy, check.guard, check.answer.findings)
        else:
            decision.rulings.append(rule_on_failure(enforced.policy, check.answer))
    return decision


async def admit(house: House, case: Case) -> bool:
    """Decide on a request and log the decision; return whether it goes to the model. What is redacted is so in `case`.

    Raises:
        GuardError: a guard gave no verdict, and the policy blocks then.
        AuditError, StoreError: the decision cannot be logged.
        ModeError: the gateway was stopped meanwhile.
    """
    case.decision = await decide(case.enforced, case.messages)
    override = await house.override_for(case)
    if override and override.verdict == "allow":
        case.allowed_by = override.id
    elif override:
        case.decision.rulings.append(Ruling(f"override:{override.id}", "override", Action.BLOCK))
    found = [] if case.allowed_by else case.decision.rulings
    action = request_action([*found, *house.standing_rulings(case.enforced.policy)], steers=house.engine.steers)
    await _log(house, case, action)
    house.must_run()
    if action is Action.BLOCK:
        if case.decision.failed:
            raise no_verdict(case.decision.failed)
        return False
    _apply(case)
    case.admitted = True
    return True


def request_action(rulings: Sequence[Ruling], *, steers: bool) -> Action:
    """Return what is done about a request; what cannot be done to it is a block."""
    possible = {Action.ALLOW, Action.REDACT, Action.HOLD, Action.BLOCK} | ({Action.STEER} if steers else set())
    actions = [ruling.effective for ruling in rulings]
    return strictest([action if action in possible else Action.BLOCK for action in actions])


def _apply(case: Case) -> None:
    """Write over what is to be redacted, and order what is to be ordered."""
    monitors = case.enforced.policy.monitors
    steer = any(ruling.effective is Action.STEER for ruling in case.decision.rulings) and not case.allowed_by
    steered = (monitors.steer and not case.enforced.policy.shadow and not case.allowed_by) or steer
    found = case.decision.redactions()
    messages = redact_messages(case.messages, found) if found and not case.allowed_by else case.messages
    case.messages = messages
    for place, ask in enumerate(case.asks):
        changed = replace(ask, steered=steered, refuse=steer, shift=monitors.shift)
        if ask.prompt is None:
            case.asks[place] = replace(changed, messages=messages)
        else:  # several prompts come with equally many replies each, one prompt's after the other's
            prompt = messages[place * len(messages) // len(case.asks)].content
            case.asks[place] = replace(changed, prompt=prompt)


def _facts(rulings: Sequence[Ruling]) -> list[dict[str, str | float | bool | None]]:
    return Decision(list(rulings)).facts()


async def _log(house: House, case: Case, action: Action) -> None:
    policy = case.enforced.policy
    facts: dict[str, JSON] = {
        "request": case.id,
        "kind": case.kind,
        "model": case.model,
        "retry_of": case.retry_of,
        "key": case.principal.id,
        "policy": policy.hash[:16],
        "action": action,
        "rulings": [*case.decision.facts(), *_facts(house.standing_rulings(policy))],
        "guards": case.enforced.reading("input"),
        "replies": len(case.asks),
        "stream": case.stream,
        "override": case.allowed_by,
    }
    texts = [{"role": message.role, "content": message.content} for message in case.messages]
    named = {"conversation": case.conversation} if case.conversation else {}
    payload: dict[str, JSON] | None = {"messages": texts, **named} if policy.log_texts else None
    await house.keep(Entry(kind="request", actor=house.actor, facts=facts, payload=payload, subject=case.principal.id))
