"""POST /v1/moderations: what the input guards and the monitors inside the model say of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetylayers.oversee.audit.entry import JSON, Entry
from safetylayers.oversee.gateway.admission import decide
from safetylayers.oversee.gateway.answers import Moderation, ModerationAnswer
from safetylayers.oversee.gateway.explanation import read_prompt
from safetylayers.oversee.gateway.reply import no_verdict
from safetylayers.oversee.gateway.requests import new_id
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.policy.decision import Ruling, passed
from safetylayers.oversee.words import Message, Reading

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House

HARM = "harm"


async def moderate(house: House, principal: Principal, texts: list[str]) -> ModerationAnswer:
    """Read texts, one after the other, and log that they were read.

    Raises:
        GuardError: a guard gave no verdict: then nothing is known of the text.
        AuditError, StoreError: the answer cannot be logged.
    """
    name = new_id("modr")
    results = [await _moderate(house, text, f"{name}/{place}") for place, text in enumerate(texts)]
    facts: dict[str, JSON] = {"request": name, "flagged": [result.flagged for result in results]}
    house.must_run()
    await house.keep(Entry(kind="moderation", actor=house.actor, facts=facts, subject=principal.id))
    model = house.engine.watched_by or "guards"
    return ModerationAnswer(id=name, model=model, results=results)


async def _moderate(house: House, text: str, name: str) -> Moderation:
    house.must_run()
    if house.monitors_dead:
        raise no_verdict("monitors")
    enforced = house.shelf.current
    messages = (Message("user", text),)
    decision = await decide(enforced, messages)
    for ruling in decision.rulings:
        if ruling.failed:
            raise no_verdict(ruling.by)
    kinds = {kind for guard in enforced.reading("input") for kind in enforced.guards[guard].kinds}
    categories = dict.fromkeys(sorted(kinds), False)
    scores = dict.fromkeys(sorted(kinds), 0.0)
    for ruling in decision.rulings:
        categories[ruling.kind] = True
        scores[ruling.kind] = max(scores[ruling.kind], _score(ruling))
    reading = await read_prompt(house.engine, messages, shift=enforced.policy.monitors.shift, name=name)
    if reading is not None:
        categories[HARM] = categories.get(HARM, False) or passed(reading)
        scores[HARM] = max(scores.get(HARM, 0.0), _probability(reading))
    return Moderation(flagged=any(categories.values()), categories=categories, category_scores=scores)


def _score(ruling: Ruling) -> float:
    score = ruling.finding.score if ruling.finding else None
    return 1.0 if score is None else score


def _probability(reading: Reading) -> float:
    """Return a number between 0 and 1 that is a half at the threshold."""
    from math import exp

    return 1.0 if reading.risk is None else 1 / (1 + exp(-max(min(reading.risk, 50.0), -50.0)))
