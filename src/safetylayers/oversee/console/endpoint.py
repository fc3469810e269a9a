"""What the console's table is made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from starlette.responses import Response

from safetylayers.errors import AccessError
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.roles import Right, Role, rights_of

if TYPE_CHECKING:
    from safetylayers.oversee.console.visit import Visit

Handler = Callable[["Visit"], Awaitable[Response]]
Needs = tuple[Right, ...] | Literal["nothing", "a session"]
"""Rights of which one is enough; or whether it takes a session at all."""


def allows(needs: Needs, roles: Iterable[Role]) -> bool:
    """Return whether people with these roles hold what is needed."""
    return isinstance(needs, str) or not rights_of(roles).isdisjoint(needs)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One page, one part of a page, or one thing that can be done."""

    method: Literal["GET", "POST"]
    path: str
    needs: Needs
    says: str
    """What it is for, in a few words."""
    handler: Handler
    title: str = ""
    """Its name in the navigation, where it has a place there."""
    part: bool = False
    """Whether it is a part of a page that a script asks for; such a one is never redirected."""
    urgent: bool = False
    """Whether it must not wait until others are done with the store; see `Visit.run`."""

    @property
    def public(self) -> bool:
        """Whether anybody may call it."""
        return self.needs == "nothing"

    def allows(self, roles: Iterable[Role]) -> bool:
        """Return whether people with these roles may call it."""
        return allows(self.needs, roles)

    def require(self, principal: Principal) -> None:
        """Raise AccessError unless this person may call it."""
        if not self.allows(principal.roles):
            roles = ", ".join(sorted(principal.roles))
            raise AccessError(
                f"{principal.name} ({roles}) may not do this: it takes the right {' or '.join(self.needs)}.",
                mend="Ask an administrator for a role that has it, or someone who holds one.",
            )
