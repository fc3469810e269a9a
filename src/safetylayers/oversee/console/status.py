"""What every page shows: the mode, the replicas, and what waits for a second person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.proposals import Kind, Proposal
from safetylayers.oversee.identity.roles import Right
from safetylayers.oversee.modes.heartbeat import Replica, list_replicas
from safetylayers.oversee.modes.mode import ModeState, read_mode

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of everything, at a glance."""

    mode: ModeState
    """As the store says."""
    replicas: list[Replica]
    proposals: list[Proposal]
    """Changes of mode that wait for a second person; empty for people who have no say in them."""
    names: Mapping[str, str]
    """Person's id to name."""
    waiting: int
    """Held replies; 0 for people who do not review."""
    warnings: list[str]
    """What else is not as it should be."""


def read_status(house: House, principal: Principal) -> Status:
    """Return the state of everything. Raises StoreError."""
    site = house.site
    with site.database.read() as connection:
        mode, replicas = read_mode(connection), list_replicas(connection)
    concerned = principal.may(Right.PROPOSE_MODE) or principal.may(Right.APPROVE_MODE)
    return Status(
        mode=mode,
        replicas=replicas,
        proposals=open_proposals(house, Kind.MODE) if concerned else [],
        names=names_of(house),
        waiting=len(house.desk.replies.waiting()) if principal.may(Right.REVIEW) else 0,
        warnings=list(_warnings(house)),
    )


def open_proposals(house: House, kind: Kind) -> list[Proposal]:
    """Return what waits for a second person. Raises StoreError."""
    return [proposal for proposal in house.site.proposals.open_ones() if proposal.kind is kind]


def names_of(house: House) -> dict[str, str]:
    """Return everybody's name by id. Raises StoreError."""
    return {person.id: person.name for person in house.site.people.everybody()}


def _warnings(house: House) -> list[str]:
    found = []
    if house.monitors_dead:
        found.append(f"The monitors inside the model do not answer as they should ({house.monitors_dead}).")
    if house.engine.watched_by is None:
        found.append("Nothing watches inside the model: guards and people are all there is.")
    if house.shelf.behind:
        found.append(f"The newest policy is not in force on this replica: {house.shelf.behind}")
    if house.log.witness_error:
        found.append(f"Checkpoints cannot be written to the witness file ({house.log.witness_error}).")
    return found
