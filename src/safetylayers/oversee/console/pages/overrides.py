"""An operator's word against the gateway's, for one request or one conversation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from starlette.responses import Response

from safetylayers.errors import UsageError
from safetylayers.oversee.console.visit import Visit
from safetylayers.oversee.review.overrides import Verdict

HOME = "/console/overrides"
LIVES: Mapping[str, timedelta] = {
    "15 minutes": timedelta(minutes=15),
    "1 hour": timedelta(hours=1),
    "8 hours": timedelta(hours=8),
    "1 day": timedelta(days=1),
    "7 days": timedelta(days=7),
}


async def show(visit: Visit) -> Response:
    """Show what is in force, and the form for another one, filled in as the address says."""
    house = visit.house
    values = {
        "title": "Overrides",
        "active": await visit.run(house.overrides.active),
        "people": await visit.run(house.site.people.everybody),
        "lives": list(LIVES),
        "chosen": {name: visit.query(name) for name in ("place", "id", "asked_by")},
    }
    return await visit.page("overrides.html.j2", values)


async def add(visit: Visit) -> Response:
    """Override a decision."""
    place, life = visit.field("place"), LIVES.get(visit.field("life"))
    if place not in ("request", "conversation") or life is None or visit.field("verdict") not in set(Verdict):
        raise UsageError("The override is incomplete.", mend="Choose what it is for, what holds, and for how long.")
    id_ = visit.field("id").strip()
    await visit.run(
        visit.house.overrides.add,
        Verdict(visit.field("verdict")),
        request=id_ if id_ and place == "request" else None,
        conversation=id_ if id_ and place == "conversation" else None,
        asked_by=visit.field("asked_by"),
        by=visit.principal,
        reason=visit.field("reason"),
        life=life,
    )
    return visit.go_to(HOME, "override-set")


async def lift(visit: Visit) -> Response:
    """End an override before its time."""
    await visit.run(visit.house.overrides.lift, visit.field("override"), by=visit.principal)
    return visit.go_to(HOME, "override-lifted")
