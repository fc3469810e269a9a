"""What a policy can do about a finding, from the mildest to the strictest."""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """What follows from a finding. Where several findings meet, the strictest of their actions is taken."""

    ALLOW = "allow"
    """Let it pass; the finding is logged all the same."""
    REDACT = "redact"
    """Write the finding's replacement in its place. What has none is blocked."""
    STEER = "steer"
    """Turn the reply into a refusal by the gate inside the model. Where nothing steers, the reply is blocked."""
    REGENERATE = "regenerate"
    """Throw the reply away and ask once more; blocked after the policy's number of attempts, or once text has left."""
    HOLD = "hold"
    """Keep the reply until a person has released, edited or rejected it."""
    BLOCK = "block"
    """Nothing more of the reply leaves."""

    @property
    def severity(self) -> int:
        """0 for the mildest."""
        return list(Action).index(self)


def strictest(actions: list[Action]) -> Action:
    """Return the strictest action, `allow` of none."""
    return max(actions, key=lambda action: action.severity, default=Action.ALLOW)
