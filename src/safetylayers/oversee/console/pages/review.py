"""Replies that wait for a person, and samples of those that have left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from safetylayers.errors import AccessError
from safetylayers.oversee.console.status import names_of
from safetylayers.oversee.console.visit import Visit
from safetylayers.oversee.gateway.errors import RequestError
from safetylayers.oversee.identity.times import utc_now
from safetylayers.oversee.review.held import DECISIONS, Held, Kind, State
from safetylayers.report.text import visible

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House

HOME = "/console/review"
MOST = 200
"""Rows of a list; it is loaded anew every second."""


async def show(visit: Visit) -> Response:
    """Show what waits, without texts: who reads one is logged."""
    return await visit.page("review.html.j2", {"title": "Review", **await visit.run(_waiting, visit.house)})


async def waiting(visit: Visit) -> Response:
    """Show the list alone."""
    return await visit.part("review_list.html.j2", await visit.run(_waiting, visit.house))


async def read(visit: Visit) -> Response:
    """Show one reply with its texts."""
    replies, name = visit.house.desk.replies, visit.request.path_params["held"]
    held = await visit.run(_find, visit.house, name)
    texts = await visit.run(replies.read, name, by=visit.principal)
    values = {
        "title": "Review a reply",
        "held": held,
        "texts": texts,
        "hidden": visible(texts.reply) != texts.reply,
        "now": utc_now(),
        "own": held.asked_by == visit.principal.person,
    }
    return await visit.page("held.html.j2", values)


async def decide(visit: Visit) -> Response:
    """Release, edit or reject a held reply, or say whether a sample is as it should be."""
    try:
        decision = State(visit.request.path_params["decision"])
    except ValueError as error:
        raise RequestError("There is no such decision.", status=404, code="not_found") from error
    if not any(decision in decisions for decisions in DECISIONS.values()):
        raise AccessError(f"A person cannot say {decision} of a reply.")
    await visit.house.desk.decide(
        visit.request.path_params["held"],
        decision,
        by=visit.principal,
        reason=visit.form.get("reason", "").strip(),
        text=visit.field("text") if decision is State.EDITED else None,
    )
    return visit.go_to(HOME, "decided")


def _waiting(house: House) -> dict[str, object]:
    replies = house.desk.replies
    return {
        "held": replies.waiting(Kind.HELD, most=MOST),
        "held_more": max(0, replies.count_waiting(Kind.HELD) - MOST),
        "samples": replies.waiting(Kind.SAMPLE, most=MOST),
        "samples_more": max(0, replies.count_waiting(Kind.SAMPLE) - MOST),
        "names": names_of(house),
        "now": utc_now(),
    }


def _find(house: House, name: str) -> Held:
    """Return a reply that waits. Raises RequestError where it does not any more."""
    found = house.desk.replies.find(name)
    if found is None:
        raise RequestError("This reply does not wait any more.", status=404, code="not_found")
    return found
