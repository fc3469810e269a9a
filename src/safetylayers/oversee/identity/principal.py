"""Whoever acts: a person through a session, or a key that belongs to a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from safetylayers.errors import AccessError
from safetylayers.oversee.identity.roles import Right, Role, rights_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who acts, proven for one request. Four eyes and one's own requests are told apart by `person`, never by `id`."""

    id: str
    """Of the session or key."""
    person: str
    """Id of the person who acts, or who owns the key."""
    name: str
    """For people to read: the person's name, with a key's name behind it."""
    roles: frozenset[Role]
    models: frozenset[str] | None = None
    """Models that may be asked; None for all."""
    requests_per_minute: int | None = None
    """None for no limit of its own."""
    expires: datetime | None = None

    @property
    def actor(self) -> str:
        """As the log names whoever acts: ids, which stay when a name is erased."""
        return f"{self.person}/{self.id}"

    def may(self, right: Right) -> bool:
        """Return whether a role allows it."""
        return right in rights_of(self.roles)

    def require(self, right: Right) -> None:
        """Raise AccessError unless a role allows it."""
        if not self.may(right):
            roles = ", ".join(sorted(self.roles))
            raise AccessError(
                f"{self.name} ({roles}) may not do this: it takes the right {right}.",
                mend="Ask an administrator for a role that has it, or someone who holds one.",
            )

    def may_ask(self, model: str) -> bool:
        """Return whether a model may be asked."""
        return self.may(Right.ASK) and (self.models is None or model in self.models)


MACHINE = Principal(
    id="machine", person="machine", name="the machine's own command line", roles=frozenset({Role.ADMIN, Role.OPERATOR})
)
"""Whoever runs commands beside the database. It makes the first person, and it can stop. It is nobody's second pair of
eyes, because only stored people can propose and approve."""

GATEWAY = Principal(id="gateway", person="gateway", name="the gateway", roles=frozenset({Role.OPERATOR}))
"""The gateway itself, which may go to a safer mode by itself, as when its monitors are dead."""
