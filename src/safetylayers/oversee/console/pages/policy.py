"""The policy in force, and proposals of another one."""

from __future__ import annotations

from sqlalchemy import Connection
from starlette.responses import Response

from safetylayers.errors import PolicyError, SafetyLayersError
from safetylayers.oversee.console.status import open_proposals
from safetylayers.oversee.console.troubles import console_status
from safetylayers.oversee.console.visit import Visit
from safetylayers.oversee.identity.proposals import Kind, Proposal
from safetylayers.oversee.policy.policy import parse_policy

HOME = "/console/policy"


async def show(visit: Visit) -> Response:
    """Show the policy, what is proposed, and the form for a proposal."""
    return await _page(visit, None)


async def propose(visit: Visit) -> Response:
    """Propose a policy. What makes no sense is shown above what was typed."""
    site = visit.house.site
    try:
        policy = await visit.run(parse_policy, visit.field("policy"))
        await visit.run(site.shelf.propose, site.proposals, policy, reason=visit.field("reason"), by=visit.principal)
    except SafetyLayersError as error:
        return await _page(visit, error)
    return visit.go_to(HOME, "proposed")


async def withdraw(visit: Visit) -> Response:
    """Take back one's own proposal."""
    await visit.run(visit.house.site.proposals.withdraw, visit.field("proposal"), by=visit.principal)
    return visit.go_to(HOME, "withdrawn")


async def approve(visit: Visit) -> Response:
    """Approve another person's proposal; its policy is in force from then on."""
    site = visit.house.site

    def apply(connection: Connection, proposal: Proposal) -> None:
        if proposal.kind is not Kind.POLICY:
            raise PolicyError("The proposal is not about the policy.", mend="Approve it where it belongs.")
        site.shelf.apply(connection, proposal)

    await visit.run(site.proposals.approve, visit.field("proposal"), apply, by=visit.principal)
    await site.shelf.look()
    return visit.go_to(HOME, "approved")


async def reject(visit: Visit) -> Response:
    """Turn a proposal down."""
    reject = visit.house.site.proposals.reject
    await visit.run(reject, visit.field("proposal"), by=visit.principal, remark=visit.field("remark"))
    return visit.go_to(HOME, "rejected")


async def _page(visit: Visit, error: SafetyLayersError | None) -> Response:
    house = visit.house
    newest = await visit.run(house.shelf.newest)
    text = newest.policy.as_yaml()
    values = {
        "title": "Policy",
        "error": error,
        "newest": newest,
        "text": text,
        "typed": visit.form.get("policy", text),
        "reason": visit.form.get("reason", ""),
        "proposals": await visit.run(open_proposals, house, Kind.POLICY),
    }
    return await visit.page("policy.html.j2", values, status=console_status(error) if error else 200)
