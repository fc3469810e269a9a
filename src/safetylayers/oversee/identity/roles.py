"""Who may do what: one table.

Duties are separated so that no single role can both act and hide it. Auditors read and change nothing, so they hold no
other role. Administrators decide who is here and what the policy says, and read nobody's texts. Whoever asks the model
decides nothing about the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

from safetylayers.errors import AccessError


class Role(StrEnum):
    """What a person is here for."""

    CALLER = "caller"
    """Asks the model, mostly through a key."""
    REVIEWER = "reviewer"
    """Decides about replies that are held."""
    OPERATOR = "operator"
    """Watches, overrides and stops."""
    AUDITOR = "auditor"
    """Reads everything and changes nothing."""
    ADMIN = "admin"
    """Manages people, keys and the policy."""


class Right(StrEnum):
    """One thing that may be allowed."""

    ASK = "ask"
    """Send requests to the model."""
    SEE_LIVE = "see-live"
    """Read requests and replies as they come."""
    REVIEW = "review"
    """Read held replies and release, edit or reject them."""
    OVERRIDE = "override"
    """Reverse a decision about a request or a conversation."""
    STOP = "stop"
    """Go to a safer mode, alone."""
    PROPOSE_MODE = "propose-mode"
    APPROVE_MODE = "approve-mode"
    """Let a proposal to a less safe mode pass; never one's own."""
    PROPOSE_POLICY = "propose-policy"
    APPROVE_POLICY = "approve-policy"
    """Let a proposed policy pass; never one's own."""
    READ_AUDIT = "read-audit"
    """Read the log, texts included."""
    MANAGE_KEYS = "manage-keys"
    MANAGE_PEOPLE = "manage-people"


RIGHTS: Mapping[Role, frozenset[Right]] = MappingProxyType(
    {
        Role.CALLER: frozenset({Right.ASK}),
        Role.REVIEWER: frozenset({Right.SEE_LIVE, Right.REVIEW}),
        Role.OPERATOR: frozenset({Right.SEE_LIVE, Right.OVERRIDE, Right.STOP, Right.PROPOSE_MODE, Right.APPROVE_MODE}),
        Role.AUDITOR: frozenset({Right.SEE_LIVE, Right.READ_AUDIT}),
        Role.ADMIN: frozenset({Right.MANAGE_PEOPLE, Right.MANAGE_KEYS, Right.PROPOSE_POLICY, Right.APPROVE_POLICY}),
    }
)
"""What each role allows. Documentation and tests are made from this table."""


def rights_of(roles: Iterable[Role]) -> frozenset[Right]:
    """Return all that some roles allow together."""
    return frozenset().union(*(RIGHTS[role] for role in roles))


def checked_roles(names: Iterable[str]) -> frozenset[Role]:
    """Return roles by name.

    Raises:
        AccessError: there is none, one is unknown, or they may not be one person's.
    """
    try:
        roles = frozenset(Role(name) for name in names)
    except ValueError as error:
        raise AccessError(f"{error}.", mend=f"Roles are {', '.join(Role)}.") from error
    if not roles:
        raise AccessError("No role is given.", mend=f"Give at least one of {', '.join(Role)}.")
    if Role.AUDITOR in roles and len(roles) > 1:
        raise AccessError("An auditor changes nothing and so has no other role.", mend="Make a person for each duty.")
    return roles
