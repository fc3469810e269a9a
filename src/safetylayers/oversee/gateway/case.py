"""One request on its way through the gateway."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.policy.decision import Decision
from safetylayers.oversee.policy.enforced import Enforced
from safetylayers.oversee.words import Ask, Message


@dataclass(slots=True, kw_only=True)
class Case:
    """A request, who asked, and the policy that was in force when it came; a later one is for later requests."""

    id: str
    principal: Principal
    enforced: Enforced
    kind: str
    """chat, completion."""
    model: str
    messages: tuple[Message, ...]
    """What guards read; a completion's prompt is one message of the user."""
    conversation: str | None = None
    retry_of: str | None = None
    """The request that this one repeats, after an operator has reversed what was decided on that one."""
    stream: bool = False
    asks: list[Ask] = field(default_factory=list)
    """One a reply."""
    decision: Decision = field(default_factory=Decision)
    """On the request."""
    admitted: bool = False
    """Whether it went to the model."""
    allowed_by: str | None = None
    """Name of the override that lets it pass whatever is found."""
    begun: float = field(default_factory=time.perf_counter)

    @property
    def prompts(self) -> tuple[str, ...]:
        """What is gone on from or replied to, each once."""
        if self.kind == "completion":
            return tuple(message.content for message in self.messages)
        return (self.text,)

    @property
    def text(self) -> str:
        """The whole request as one text."""
        return "\n".join(message.content for message in self.messages)
