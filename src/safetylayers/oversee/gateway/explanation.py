"""What a prompt would meet under a policy, and why. Nothing is generated, and nothing is logged."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from safetylayers.oversee.gateway.admission import decide, request_action
from safetylayers.oversee.policy.actions import Action, strictest
from safetylayers.oversee.policy.decision import Ruling, rule_on_reading
from safetylayers.oversee.policy.enforced import Enforced
from safetylayers.oversee.words import Ask, Message, Reading, Sampling
from safetylayers.records import Record

if TYPE_CHECKING:
    from safetylayers.oversee.engine.base import Engine


class Explanation(Record):
    """What would be done about a prompt."""

    action: str
    because: str
    """One sentence."""
    steps: tuple[str, ...]
    """What each guard and monitor says."""
    risk: float | None = None
    """Log-odds above the monitors' threshold; None where nothing watches."""


async def explain(enforced: Enforced, prompt: str, *, engine: Engine | None = None) -> Explanation:
    """Let guards, and the monitors of an engine, read a prompt.

    Raises:
        EngineError: the engine cannot read it.
    """
    messages = (Message("user", prompt),)
    decision = await decide(enforced, messages)
    steps = [_step(guard, decision.rulings) for guard in enforced.reading("input")]
    rulings, reading = list(decision.rulings), None
    if engine is not None:
        await engine.open()
        try:
            reading = await read_prompt(engine, messages, shift=enforced.policy.monitors.shift, name="explanation")
            ruling = rule_on_reading(enforced.policy, "prompt", reading, steers=engine.steers)
            rulings += [ruling] if ruling else []
            steps.append(_monitor_step(engine, reading, ruling))
        finally:
            await engine.close()
    if engine is not None and engine.watched_by is None and enforced.policy.monitors.unwatched != "allow":
        rulings.append(Ruling("monitors", "unwatched", Action(enforced.policy.monitors.unwatched)))
    steps += [f"{guard}: would read the reply" for guard in enforced.reading("output")]
    action = strictest([request_action(decision.rulings, steers=bool(engine and engine.steers)), *_actions(rulings)])
    causes = sorted({ruling.by for ruling in rulings if ruling.effective is not Action.ALLOW})
    because = f"on account of {', '.join(causes)}" if causes else "nothing objects to the prompt"
    return Explanation(action=action, because=because, steps=tuple(steps), risk=reading.risk if reading else None)


async def read_prompt(engine: Engine, messages: tuple[Message, ...], *, shift: float, name: str) -> Reading | None:
    """Let the monitors inside the model read a prompt; None where nothing watches."""
    if engine.watched_by is None:
        return None
    ask = Ask(
        id=name,
        model=engine.models[0],
        messages=messages,
        sampling=Sampling(max_tokens=1, temperature=0),
        steered=False,
        shift=shift,
    )
    async with aclosing(engine.reply(ask)) as pieces:
        return (await anext(pieces)).prompt_reading


def _actions(rulings: list[Ruling]) -> list[Action]:
    return [ruling.effective for ruling in rulings]


def _step(guard: str, rulings: list[Ruling]) -> str:
    found = [ruling for ruling in rulings if ruling.by == guard]
    if not found:
        return f"{guard}: finds nothing"
    return "; ".join(_said(ruling) for ruling in found)


def _said(ruling: Ruling) -> str:
    what = "gives no verdict" if ruling.failed else f"finds {ruling.kind}"
    reason = f" ({ruling.finding.reason})" if ruling.finding and ruling.finding.reason else ""
    return f"{ruling.by}: {what}{reason}, so {ruling.action}{', in shadow: only logged' if ruling.shadow else ''}"


def _monitor_step(engine: Engine, reading: Reading | None, ruling: Ruling | None) -> str:
    if reading is None:
        return "monitors: nothing watches inside this model"
    risk = "no number" if reading.risk is None else f"{reading.risk:+.2f}"
    verdict = f"so {ruling.action}" if ruling else "below the threshold"
    return f"monitors ({engine.watched_by}): {risk} log-odds over the threshold, {verdict}"
