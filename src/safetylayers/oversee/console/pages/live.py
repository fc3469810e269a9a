"""Requests that are being served on this replica, as they come."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response

from safetylayers.oversee.console.intervention import refuse_reply, stop_request
from safetylayers.oversee.console.marks import PASSED, STEPS, Stretch, drawn
from safetylayers.oversee.console.visit import Visit
from safetylayers.oversee.gateway.case import Case
from safetylayers.oversee.policy.actions import Action, strictest
from safetylayers.oversee.policy.decision import Ruling

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House
    from safetylayers.oversee.gateway.reply import Overseer

MOST = 12
"""Replies shown with their text; further ones are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A running reply as it was at one moment: it is drawn in a thread, while the model goes on."""

    name: str
    case: Case
    seconds: float
    stretches: list[Stretch]
    characters: int
    released: int
    tokens: int
    steered_tokens: int
    rulings: list[Ruling]
    held: bool
    """Whether it waits for a reviewer."""


async def show(visit: Visit) -> Response:
    """Show the page."""
    return await visit.page("live.html.j2", {"title": "Live", "steps": STEPS, "passed": PASSED, **_values(visit.house)})


async def replies(visit: Visit) -> Response:
    """Show the replies alone."""
    return await visit.part("live_replies.html.j2", {"passed": PASSED, **_values(visit.house)})


async def stop(visit: Visit) -> Response:
    """Stop one request."""
    await stop_request(visit.house, visit.field("reply"), by=visit.principal, reason=visit.field("reason"))
    return visit.go_to("/console/live", "reply-stopped")


async def refuse(visit: Visit) -> Response:
    """Turn one reply into a refusal."""
    await refuse_reply(visit.house, visit.field("reply"), by=visit.principal, reason=visit.field("reason"))
    return visit.go_to("/console/live", "reply-refused")


def _values(house: House) -> dict[str, object]:
    running = house.live.running
    return {
        "replies": [_shown(overseer) for overseer in running[:MOST]],
        "further": max(0, len(running) - MOST),
        "steers": house.engine.steers,
        "watched_by": house.engine.watched_by,
    }


def _shown(overseer: Overseer) -> Shown:
    draft, case = overseer.draft, overseer.case
    rulings = [*case.decision.rulings, *draft.decision.rulings]
    action = Action.ALLOW if case.allowed_by else strictest([ruling.effective for ruling in rulings])
    return Shown(
        name=overseer.ask.id,
        case=case,
        seconds=time.perf_counter() - case.begun,
        stretches=drawn(draft.text, draft.tokens, draft.released),
        characters=len(draft.text),
        released=draft.released,
        tokens=draft.completion_tokens,
        steered_tokens=draft.steered_tokens,
        rulings=rulings,
        held=action is Action.HOLD and draft.finish is not None,
    )
