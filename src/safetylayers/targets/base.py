"""What attacks, input perturbations and measurements ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from safetylayers.records import ProgressCallback


@dataclass(frozen=True)
class Reply:
    """A reply, and what it took to get it."""

    text: str
    """Without the opening that it was begun with."""
    queries: int = 1
    """Replies that were made for it: more than one behind a defence that asks several times."""
    tokens: int = 0
    """Read and written, in all of them; 0 where a server does not say."""
    withheld: bool = False
    """Whether a defence gave this text in place of a reply. It is a refusal then, whatever it says."""


class Target(Protocol):
    """Replies to requests, as their users typed them."""

    @property
    def name(self) -> str:
        """How results call it."""
        ...

    @property
    def weights_hash(self) -> str:
        """`ChatModel.weights_hash` of what replies; empty where it cannot be known."""
        ...

    def reply(
        self,
        prompts: Sequence[str],
        *,
        openings: Sequence[str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Reply]:
        """Return a reply for each prompt.

        Args:
            prompts: requests.
            openings: how each reply is begun for the model; it goes on from there.
            progress: told after each batch.

        Raises:
            UsageError: prompts and openings are not equally many, or this target cannot begin replies.
            EndpointError: a server cannot be reached, errs, or answers in another form.
        """
        ...
