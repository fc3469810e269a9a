"""The mode: what it is on every replica, the stop, and the way back, which takes two people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response

from safetylayers.errors import UsageError
from safetylayers.oversee.audit.entry import JSON
from safetylayers.oversee.console.status import read_status
from safetylayers.oversee.console.visit import Visit
from safetylayers.oversee.modes.change import approve_mode, propose_mode, set_mode
from safetylayers.oversee.modes.mode import Mode
from safetylayers.oversee.modes.stop import stop_everything

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House

HOME = "/console/"


async def show(visit: Visit) -> Response:
    """Show mode, replicas, and what this replica serves."""
    house = visit.house
    values = {
        "title": "Overview",
        "last_stop": await visit.run(_last_stop, house),
        "engine": house.engine,
        "policy": house.shelf.current.policy,
        "number": house.shelf.number,
        "active": house.active,
    }
    return await visit.page("overview.html.j2", values)


async def status(visit: Visit) -> Response:
    """Show the mode as every page does."""
    shared = await visit.run(read_status, visit.house, visit.principal)
    back = visit.query("back")
    return await visit.part("status.html.j2", {"shared": shared, "path": back})


async def stop(visit: Visit) -> Response:
    """Stop everything, and return once every replica is known to be stopped."""
    site = visit.house.site
    await visit.run(stop_everything, site.database, site.log, by=visit.principal, reason=visit.field("reason"))
    return visit.go_to(HOME, "stopped")


async def restrict(visit: Visit) -> Response:
    """Go to restricted mode."""
    site = visit.house.site
    await visit.run(
        set_mode, site.database, site.log, Mode.RESTRICTED, by=visit.principal, reason=visit.field("reason")
    )
    visit.house.keeper.wake()
    return visit.go_to(HOME, "restricted")


async def propose(visit: Visit) -> Response:
    """Propose a less safe mode."""
    site = visit.house.site
    try:
        mode = Mode(visit.field("mode"))
    except ValueError as error:
        raise UsageError("There is no such mode.", mend=f"Modes are {', '.join(Mode)}.") from error
    await visit.run(propose_mode, site.proposals, site.database, mode, by=visit.principal, reason=visit.field("reason"))
    return visit.go_back("proposed")


async def withdraw(visit: Visit) -> Response:
    """Take back one's own proposal."""
    await visit.run(visit.house.site.proposals.withdraw, visit.field("proposal"), by=visit.principal)
    return visit.go_back("withdrawn")


async def approve(visit: Visit) -> Response:
    """Approve another person's proposal; its mode is in force from then on."""
    site = visit.house.site
    await visit.run(approve_mode, site.proposals, site.log, visit.field("proposal"), by=visit.principal)
    visit.house.keeper.wake()
    return visit.go_back("approved")


async def reject(visit: Visit) -> Response:
    """Turn a proposal down."""
    reject = visit.house.site.proposals.reject
    await visit.run(reject, visit.field("proposal"), by=visit.principal, remark=visit.field("remark"))
    return visit.go_back("rejected")


def _last_stop(house: House) -> Mapping[str, JSON] | None:
    """Return how the last stop was measured. Raises StoreError."""
    found = next(house.log.read(kinds=["stop-measured"], newest_first=True, limit=1), None)
    return None if found is None else found.facts
